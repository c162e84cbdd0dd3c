"""Writes about tasks: what the access log and reporters tell, and all that follows from it in the same transaction."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, delete, insert, select, update
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
from turnout.db.task_reads import TaskReads, known_of
from turnout.domain.models import Task
from turnout.domain.outcomes import MOST_REPORTS, TALLY_SECONDS, Known, Outcome, Source, Taken
from turnout.domain.phases import TERMINAL
from turnout.ports import ACCESS_LOG, StoredJudgement

_SUMS = ("requests", "known", "errors", "interventions", "cost")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a task was seen last."""

    agent: str
    ring: str
    release: str


_Sums = dict[tuple[_Place, int], dict[str, float]]  # by place and step of time


class TaskWrites(TaskReads):
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
        places = {task.task: _Place(task.agent, task.ring, task.release or "") for task in changed}
        sums: _Sums = defaultdict(_no_sums)
        for task in ended:
            sums[places[task.task], int(task.at // TALLY_SECONDS)]["requests"] += 1
        self._settle_waiting(places, sums)
        self._take([said[task.request] for task in ended if task.request in said], places, sums)
        self._add_sums(sums)
        self.save_cursor(ACCESS_LOG, cursor)
        return len(changed)

    def add_outcomes(self, new_outcomes: Iterable[Outcome]) -> tuple[Taken, ...]:
        """Record reports about tasks, known or not; what is new of them goes to the judges of their rollouts."""
        reports = list(new_outcomes)
        sums: _Sums = defaultdict(_no_sums)
        taken = self._take(reports, self._locate({outcome.task for outcome in reports}), sums)
        self._add_sums(sums)
        return taken

    def save_judgement(self, rollout: str, judgement: StoredJudgement) -> None:
        """Write what a judge says, and how it can go on."""
        values = rows.judgement_to_row(judgement)
        changed = update(judgements).where(judgements.c.rollout == rollout).values(values)
        if self._connection.execute(changed).rowcount == 0:
            self._connection.execute(insert(judgements).values(rollout=rollout, **values))

    def save_cursor(self, name: str, value: str) -> None:
        """Note how far something has come."""
        changed = self._connection.execute(update(cursors).where(cursors.c.name == name).values(value=value))
        if changed.rowcount == 0:
            self._connection.execute(insert(cursors).values(name=name, value=value))

    def prune(self, before: float, limit: int = 5_000) -> int:
        """Forget what is older than a time; at most `limit` requests at once."""
        old = select(tasks.c.request).where(tasks.c.at < before).order_by(tasks.c.at).limit(limit)
        requests = list(self._connection.scalars(old))
        for part in in_parts(requests):
            self._connection.execute(delete(payloads).where(payloads.c.request.in_(part)))
            self._connection.execute(delete(tasks).where(tasks.c.request.in_(part)))
        for table, condition in (
            (outcomes, outcomes.c.at < before),
            (observations, observations.c.rollout.in_(_over_before(before))),
        ):
            oldest = select(table.c.seq).where(condition).limit(limit)
            for part in in_parts(list(self._connection.scalars(oldest))):
                self._connection.execute(delete(table).where(table.c.seq.in_(part)))
        self._connection.execute(delete(tallies).where(tallies.c.step < int(before // TALLY_SECONDS)))
        return len(requests)

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

    def _locate(self, wanted: set[str]) -> dict[str, _Place]:
        places = {}
        for part in in_parts(sorted(wanted)):
            query = (
                select(tasks.c.task, tasks.c.agent, tasks.c.ring, tasks.c.release)
                .where(tasks.c.task.in_(part))
                .order_by(tasks.c.at)
            )
            for row in self._all(query):
                places[row["task"]] = _Place(row["agent"], row["ring"], row["release"] or "")
        return places

    def _take(
        self,
        reports: list[Outcome],
        places: Mapping[str, _Place],
        sums: _Sums,
    ) -> tuple[Taken, ...]:
        """Take in reports in order: each value counts when it is the first of its task."""
        if not reports:
            return ()
        stored = self._outcomes({outcome.task for outcome in reports})
        numbers = {task: len(items) for task, items in stored.items()}
        known = {task: known_of(items) for task, items in stored.items()}
        taken, added, news = [], [], []
        for outcome in reports:
            place = places.get(outcome.task)
            state, new = "waiting", None
            if numbers.get(outcome.task, 0) >= MOST_REPORTS:
                state = "refused"
            elif place is not None and _is_foreign(outcome, place):
                state = "foreign"
            elif place is not None:
                known[outcome.task], new, state = known.get(outcome.task, Known()).take(outcome)
            taken.append(Taken(outcome.task, state, place.agent if place else None, place.ring if place else None))
            if state in {"refused", "repeated"}:
                continue
            numbers[outcome.task] = numbers.get(outcome.task, 0) + 1
            if outcome.source is not Source.RULE or state == "counted":
                added.append(rows.outcome_to_row(outcome, state))
            if new is not None and state == "counted" and place is not None:
                news.append((outcome, new))
                _add_to(sums[place, int(outcome.at // TALLY_SECONDS)], new)
        if added:
            self._connection.execute(insert(outcomes), added)
        self._observe(news)
        return tuple(taken)

    def _settle_waiting(self, places: Mapping[str, _Place], sums: _Sums) -> None:
        """Reports that came before their task was seen count now, before what the answer itself says."""
        if self._connection.scalar(select(outcomes.c.seq).where(outcomes.c.state == "waiting").limit(1)) is None:
            return
        waiting: list[Outcome] = []
        for part in in_parts(places):
            mine = (outcomes.c.state == "waiting", outcomes.c.task.in_(part))
            found = self._all(select(outcomes).where(*mine).order_by(outcomes.c.seq))
            waiting += [rows.outcome_from_row(row).outcome for row in found]
            if found:
                self._connection.execute(delete(outcomes).where(*mine))
        self._take(waiting, places, sums)

    def _observe(self, news: list[tuple[Outcome, Known]]) -> None:
        """Tell the judge of the rollout that each task began in last."""
        rollouts: dict[str, str] = {}
        for part in in_parts(sorted({outcome.task for outcome, _ in news})):
            query = (
                select(observations.c.task, observations.c.rollout)
                .where(observations.c.task.in_(part), observations.c.arm.is_not(None))
                .order_by(observations.c.seq)
            )
            rollouts.update({row["task"]: row["rollout"] for row in self._all(query)})
        values = [
            {
                "rollout": rollouts[outcome.task],
                "task": outcome.task,
                "at": outcome.at,
                "failed": new.failed,
                "intervened": new.intervened,
                "cost": new.cost,
            }
            for outcome, new in news
            if outcome.task in rollouts
        ]
        if values:
            self._connection.execute(insert(observations), values)

    def _add_sums(self, sums: _Sums) -> None:
        values = [
            {"agent": place.agent, "ring": place.ring, "release": place.release, "step": step}
            | {name: counts[name] for name in _SUMS}
            for (place, step), counts in sums.items()
            if place.release and any(counts.values())
        ]
        if not values:
            return
        statement = self._dialect().insert(tallies)
        more = {name: tallies.c[name] + statement.excluded[name] for name in _SUMS}
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


def _is_foreign(outcome: Outcome, place: _Place) -> bool:
    """Whether the reporter speaks of a task of another agent or ring."""
    return outcome.agent not in (None, place.agent) or outcome.ring not in (None, place.ring)


def _add_to(counts: dict[str, float], new: Known) -> None:
    if new.failed is not None:
        counts["known"] += 1
        counts["errors"] += new.failed
    counts["interventions"] += bool(new.intervened)
    counts["cost"] += new.cost or 0.0


def _no_sums() -> dict[str, float]:
    return dict.fromkeys(_SUMS, 0.0)


def _over_before(before: float) -> Any:
    over = [phase.value for phase in TERMINAL]
    return select(deployments.c.id).where(deployments.c.phase.in_(over), deployments.c.phase_at < before)
