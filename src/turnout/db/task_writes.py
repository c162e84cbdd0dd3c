"""Writes about tasks: what the access log and reporters tell, and all that follows from it in the same transaction."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Table, and_, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from turnout.db import rows
from turnout.db.reads import in_parts
from turnout.db.tables import (
    cursors,
    deployments,
    judgements,
    observations,
    outcomes,
    payloads,
    tallies,
    task_counts,
    tasks,
)
from turnout.db.task_pruning import TaskPruning
from turnout.db.task_reads import SUMS, by_place, known_of
from turnout.domain.budget import NANOS
from turnout.domain.models import Task
from turnout.domain.outcomes import HEADER, MOST_REPORTS, TALLY_SECONDS, Known, Outcome, Source, Taken, TaskKey
from turnout.ports import ACCESS_LOG, StoredJudgement

CLOCKS_DIFFER = 5.0  # seconds, of a server and the proxy that it hears of tasks from
_ABOUT_IT = ("counted", "contradicts", "repeated")  # states of reports that are about the task


@dataclass(frozen=True, slots=True)
class Place:
    """A release in a ring: where a task was seen last, or where a call was made."""

    agent: str
    ring: str
    release: str


@dataclass
class _Unit:
    """A task in a rollout, and what its judge was told of it."""

    rollout: str
    began: float
    told: Known = field(default_factory=Known)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A request of a task that is reported on: where it was, and when it was answered."""

    place: Place
    answered: float | None  # None: not yet


Sums = dict[tuple[Place, int], dict[str, float]]  # by place and step of time


class TaskWrites(TaskPruning):
    """The part of `ports.Transaction` that is about tasks; see there for the meaning of each."""

    def add_tasks(self, new_tasks: Iterable[Task], said: Mapping[str, Outcome], cursor: str) -> int:
        """Record requests as they begin and end, with what follows, and the cursor after them together."""
        given: dict[str, Task] = {}
        for task in new_tasks:
            if task.request not in given or task.duration is not None:
                given[task.request] = task
        changed = self._upsert(given)
        ended = [task for task in changed if task.duration is not None]
        self._count(ended)
        self._keep_payloads(ended)
        self._begin_units(changed)
        sums: Sums = defaultdict(no_sums)
        for task in ended:
            sums[_place_of(task), _step_of(task.at + (task.duration or 0.0))]["requests"] += 1
        self._settle_waiting(changed, sums)
        self._take([(said[task.request], _seen(task)) for task in ended if task.request in said], sums)
        self._add_sums(sums)
        self.save_cursor(ACCESS_LOG, cursor)
        return len(changed)

    def add_outcomes(self, new_outcomes: Iterable[Outcome]) -> tuple[Taken, ...]:
        """Record reports about tasks, known or not; what is new of them goes to the judges of their rollouts."""
        reports = list(new_outcomes)
        sums: Sums = defaultdict(no_sums)
        places = self._locate({outcome.task for outcome in reports})
        taken = self._take([(outcome, _choose(outcome, places.get(outcome.task, []))) for outcome in reports], sums)
        self._add_sums(sums)
        return taken

    def save_judgement(self, rollout: str, judgement: StoredJudgement) -> None:
        """Write what a judge says, and how it can go on."""
        values = rows.judgement_to_row(judgement)
        if judgement.decided is None:  # what was decided stays decided
            del values["decided"]
        changed = update(judgements).where(judgements.c.rollout == rollout).values(values)
        if self._connection.execute(changed).rowcount == 0:
            self._connection.execute(insert(judgements).values(rollout=rollout, **values))

    def save_cursor(self, name: str, value: str) -> None:
        """Note how far something has come."""
        changed = self._connection.execute(update(cursors).where(cursors.c.name == name).values(value=value))
        if changed.rowcount == 0:
            self._connection.execute(insert(cursors).values(name=name, value=value))

    # --- requests -------------------------------------------------------------------------------------------------

    def _upsert(self, given: Mapping[str, Task]) -> list[Task]:
        """Those that are new, or that ended and were under way."""
        if not given:
            return []
        statement = self._dialect().insert(tasks)
        fields = ("duration", "status", "bytes_in", "bytes_out", "flags", "release")
        upsert = statement.on_conflict_do_update(
            index_elements=[tasks.c.request],
            set_={name: statement.excluded[name] for name in fields},
            where=tasks.c.duration.is_(None) & statement.excluded.duration.is_not(None),
        ).returning(tasks.c.request)
        values = [rows.task_to_row(task) for task in given.values()]
        return [given[request] for request in self._connection.scalars(upsert, values)]

    def _count(self, ended: list[Task]) -> None:
        """Counters beside the tasks, so that a status costs the same however many there are."""
        totals = Counter((task.agent, task.ring, task.release or "") for task in ended)
        failures = Counter((task.agent, task.ring, task.release or "") for task in ended if task.status >= 500)
        for key, total in totals.items():
            agent, ring, release = key
            where = (task_counts.c.agent == agent, task_counts.c.ring == ring, task_counts.c.release == release)
            more = {"total": task_counts.c.total + total, "failed": task_counts.c.failed + failures[key]}
            if self._connection.execute(update(task_counts).where(*where).values(more)).rowcount == 0:
                values = {"agent": agent, "ring": ring, "release": release, "total": total, "failed": failures[key]}
                self._connection.execute(insert(task_counts).values(values))

    def _keep_payloads(self, ended: list[Task]) -> None:
        kept = [
            {"request": task.request, "question": task.question, "answer": task.answer}
            for task in ended
            if task.question is not None or task.answer is not None
        ]
        if kept:
            self._connection.execute(self._insert_ignoring(payloads), kept)

    def _begin_units(self, changed: list[Task]) -> None:
        """A task that a rollout assigned: only its first request does."""
        begun = [
            {
                "rollout": task.rollout,
                "task": task.task,
                "at": task.at,
                "arm": task.arm.value,
                "probability": task.probability,
            }
            for task in changed
            if task.rollout and task.arm and task.probability is not None and not task.pinned
        ]
        if begun:
            self._connection.execute(self._insert_ignoring(observations), begun)

    # --- reports --------------------------------------------------------------------------------------------------

    def _locate(self, wanted: set[str]) -> dict[str, list[_Seen]]:
        """Where each task was seen, the newest last: one name may be in use at several agents.

        Of each place the newest request alone, as a name may have a million of them.
        """
        seen: dict[str, list[_Seen]] = defaultdict(list)
        key = (tasks.c.task, tasks.c.agent, tasks.c.ring)
        for part in in_parts(sorted(wanted)):
            last = (
                select(*key, func.max(tasks.c.at).label("at")).where(tasks.c.task.in_(part)).group_by(*key).subquery()
            )
            query = (
                select(*key, tasks.c.release, tasks.c.at, tasks.c.duration)
                .join(last, and_(*(tasks.c[name] == last.c[name] for name in ("task", "agent", "ring", "at"))))
                .order_by(tasks.c.at)
            )
            for row in self._all(query):
                place = Place(row["agent"], row["ring"], row["release"] or "")
                answered = None if row["duration"] is None else row["at"] + row["duration"]
                seen[row["task"]].append(_Seen(place, answered))
        return seen

    def _take(self, reports: list[tuple[Outcome, _Seen | None]], sums: Sums) -> tuple[Taken, ...]:
        """Take in reports, each with where its task is: of each value the first counts. None: it waits for its task."""
        if not reports:
            return ()
        stored = self._outcomes({outcome.task for outcome, _ in reports})
        known = {key: known_of(items) for key, items in by_place(stored).items()}
        numbers = {
            task: sum(item.outcome.source is not Source.RULE for item in items) for task, items in stored.items()
        }
        said = {_said(item.outcome) for items in stored.values() for item in items}
        taken, added, news = [], [], []
        priced: dict[TaskKey, tuple[Place, int, float]] = {}
        for outcome, seen in reports:
            place = seen.place if seen is not None else None
            is_rule, state, new = outcome.source is Source.RULE, "waiting", Known()
            if place is not None and _is_foreign(outcome, place):
                state = "foreign"
            elif place is not None:
                key = (outcome.task, place.agent, place.ring)
                known[key], new, state = known.get(key, Known()).take(outcome)
                if new.cost is not None:
                    priced[key] = (place, _step_of(outcome.at), new.cost)
            here = (
                outcome if place is None or state == "foreign" else replace(outcome, agent=place.agent, ring=place.ring)
            )
            again = not is_rule and _said(here) in said
            if again and state in ("contradicts", "foreign"):
                state = "repeated"
            elif not (is_rule or again) and state not in ("counted", "repeated"):
                state = "refused" if numbers.get(outcome.task, 0) >= MOST_REPORTS else state
            taken.append(Taken(outcome.task, state, place.agent if place else None, place.ring if place else None))
            if seen is not None and place is not None and state in _ABOUT_IT:
                news.append((outcome, place))
                # A breaker looks at what happens now: each answer counts, however the conversation began.
                is_answer = is_rule or outcome.reporter == HEADER
                counts = replace(new, failed=outcome.failed) if is_answer else new
                # A share is one of the same answers: a failure counts when the answer did that it is about, also when
                # it is reported later; a cost is a sum, and counts when it is known.
                answered = outcome.at if seen.answered is None else seen.answered
                _add_faults(sums[place, _step_of(answered)], counts)
                sums[place, _step_of(outcome.at)]["cost"] += counts.cost or 0.0
            if state in ("refused", "repeated") or (again and state == "waiting") or (is_rule and state != "counted"):
                continue
            said.add(_said(here))
            numbers[outcome.task] = numbers.get(outcome.task, 0) + (not is_rule)
            added.append(rows.outcome_to_row(here, state))
        if added:
            self._connection.execute(insert(outcomes), added)
        self._leave_metered(priced, sums)
        self._observe(news)
        return tuple(taken)

    def _leave_metered(self, priced: Mapping[TaskKey, tuple[Place, int, float]], sums: Sums) -> None:
        """Of a reported cost counts what is beyond the cost of the task's calls, which were summed before.

        The larger of both counts for breakers: agents report their own costs, and must not be able to switch one off.
        """
        metered = self._metered({task for task, _, _ in priced})
        for key, (place, step, cost) in priced.items():
            sums[place, step]["cost"] -= min(cost, metered[key] / NANOS)

    def _settle_waiting(self, changed: list[Task], sums: Sums) -> None:
        """Reports that came before their task was seen count now, before what the answer itself says."""
        if self._connection.scalar(select(outcomes.c.seq).where(outcomes.c.state == "waiting").limit(1)) is None:
            return
        places: dict[str, list[_Seen]] = defaultdict(list)
        for task in changed:
            places[task.task].append(_seen(task))
        waiting: list[tuple[Outcome, _Seen | None]] = []
        for part in in_parts(places):
            mine = (outcomes.c.state == "waiting", outcomes.c.task.in_(part))
            found = self._all(select(outcomes).where(*mine).order_by(outcomes.c.seq))
            reports = [rows.outcome_from_row(row).outcome for row in found]
            waiting += [(outcome, _choose(outcome, places[outcome.task])) for outcome in reports]
            if found:
                self._connection.execute(delete(outcomes).where(*mine))
        self._take(waiting, sums)

    def _observe(self, news: list[tuple[Outcome, Place]]) -> None:
        """Tell the judge of the rollout that each task began in last: of each value the first since the task began there."""
        units = self._units({outcome.task for outcome, _ in news})
        values = []
        for outcome, place in news:
            unit = units.get((outcome.task, place.agent, place.ring))
            if unit is None or outcome.at < unit.began - CLOCKS_DIFFER:
                continue
            unit.told, new, _ = unit.told.take(outcome)
            if new != Known():
                values.append(
                    {
                        "rollout": unit.rollout,
                        "task": outcome.task,
                        "at": max(outcome.at, unit.began),
                        "failed": new.failed,
                        "intervened": new.intervened,
                        "cost": new.cost,
                    }
                )
        if values:
            self._connection.execute(insert(observations), values)

    def _units(self, wanted: set[str]) -> dict[TaskKey, _Unit]:
        """By task, agent and ring: what the judge of the last rollout there knows of it."""
        units: dict[TaskKey, _Unit] = {}
        for part in in_parts(sorted(wanted)):
            query = (
                select(observations, deployments.c.agent, deployments.c.ring)
                .join_from(observations, deployments, observations.c.rollout == deployments.c.id)
                .where(observations.c.task.in_(part))
                .order_by(observations.c.seq)
            )
            for row in self._all(query):
                key = (row["task"], row["agent"], row["ring"])
                if row["arm"] is not None and row["probability"] == 1:
                    units.pop(key, None)  # it came to the candidate as everybody did
                elif row["arm"] is not None:
                    units[key] = _Unit(row["rollout"], row["at"])
                elif key in units and row["rollout"] == units[key].rollout:
                    more = Known(row["failed"], row["intervened"], row["cost"])
                    units[key].told = units[key].told.learn(more)
        return units

    def _add_sums(self, sums: Sums) -> None:
        values = [
            {"agent": place.agent, "ring": place.ring, "release": place.release, "step": step}
            | {name: counts[name] for name in SUMS}
            for (place, step), counts in sums.items()
            if place.release and any(counts.values())
        ]
        if not values:
            return
        statement = self._dialect().insert(tallies)
        more = {name: tallies.c[name] + statement.excluded[name] for name in SUMS}
        key = [tallies.c.agent, tallies.c.ring, tallies.c.release, tallies.c.step]
        self._connection.execute(statement.on_conflict_do_update(index_elements=key, set_=more), values)

    # --- dialects -------------------------------------------------------------------------------------------------

    def _insert_new(self, table: Table, values: list[dict[str, Any]]) -> int:
        """Insert what is not there yet; returns how many rows were new."""
        if not values:
            return 0
        return self._connection.execute(self._insert_ignoring(table), values if len(values) > 1 else values[0]).rowcount

    def _insert_ignoring(self, table: Table) -> Any:
        return self._dialect().insert(table).on_conflict_do_nothing()

    def _dialect(self) -> Any:
        return sqlite if self._connection.dialect.name == "sqlite" else postgresql


def _place_of(task: Task) -> Place:
    return Place(task.agent, task.ring, task.release or "")


def _seen(task: Task) -> _Seen:
    return _Seen(_place_of(task), None if task.duration is None else task.at + task.duration)


def _step_of(at: float) -> int:
    return int(at // TALLY_SECONDS)


def _choose(outcome: Outcome, requests: list[_Seen]) -> _Seen | None:
    """The newest request that a report speaks of; of one that fits none the newest, where it is foreign."""
    fitting = [seen for seen in requests if not _is_foreign(outcome, seen.place)]
    return fitting[-1] if fitting else requests[-1] if requests else None


def _is_foreign(outcome: Outcome, place: Place) -> bool:
    """Whether the reporter speaks of a task of another agent or ring."""
    return outcome.agent not in (None, place.agent) or outcome.ring not in (None, place.ring)


def _said(outcome: Outcome) -> tuple[object, ...]:
    """What makes a report the same as another."""
    place = (outcome.task, outcome.agent, outcome.ring)
    return (*place, outcome.source, outcome.reporter, outcome.failed, outcome.intervened, outcome.cost)


def _add_faults(counts: dict[str, float], new: Known) -> None:
    counts["errors"] += bool(new.failed)
    counts["interventions"] += bool(new.intervened)


def no_sums() -> dict[str, float]:
    """Of nothing."""
    return dict.fromkeys(SUMS, 0.0)
