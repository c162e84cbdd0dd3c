"""Reads about tasks: requests, reports, what judges are fed with, sums."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from itertools import chain
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from turnout.db import rows
from turnout.db.call_reads import CallReads, heaviest
from turnout.db.reads import in_parts
from turnout.db.tables import judgements, observations, outcomes, payloads, tallies, task_counts, tasks
from turnout.domain.breakers import Span, Window
from turnout.domain.budget import NANOS
from turnout.domain.models import Breaker, BreakerScope, Digest, Task
from turnout.domain.outcomes import TALLY_SECONDS, Known, Observation, Tally, TallyKey, TaskKey
from turnout.ports import StoredJudgement, StoredOutcome, TaskQuery

SUMS = tuple(item.name for item in fields(Tally))  # the columns of a tally


class TaskReads(CallReads):
    """The part of `ports.Snapshot` that is about tasks; see there for the meaning of each."""

    def count_tasks(self, rollout: str, since: float) -> int:
        """Tasks that a rollout gave to its candidate since a time."""
        query = select(func.count()).where(
            observations.c.rollout == rollout, observations.c.arm == "candidate", observations.c.at >= since
        )
        return int(self._connection.scalar(query) or 0)

    def task_counts(self, agent: str) -> dict[tuple[str, str], tuple[int, int]]:
        """(ring, digest) → requests, and how many of them failed (status 5xx); digest "" where no replica was reached."""
        found = self._all(select(task_counts).where(task_counts.c.agent == agent))
        return {(row["ring"], row["release"]): (row["total"], row["failed"]) for row in found}

    def tasks(self, query: TaskQuery) -> tuple[Task, ...]:
        """The requests that a query asks for, newest first."""
        if query.agent is not None and query.ring is None and query.task is None:
            # The index is by agent, ring and time: in one query all requests of the agent would be read and sorted.
            parts = [self.tasks(replace(query, ring=ring)) for ring in self._rings_called(query.agent)]
            return tuple(sorted(chain(*parts), key=lambda task: (-task.at, task.request))[: query.limit])
        columns: list[Any] = [tasks]
        if query.payloads:
            columns += [payloads.c.question, payloads.c.answer]
        chosen: Select[Any] = select(*columns).order_by(tasks.c.at.desc(), tasks.c.request).limit(query.limit)
        if query.payloads:
            chosen = chosen.join_from(tasks, payloads, tasks.c.request == payloads.c.request, isouter=True)
        for name in ("agent", "ring", "release", "arm", "rollout"):
            if (value := getattr(query, name)) is not None:
                chosen = chosen.where(tasks.c[name] == value)
        if query.task is not None:
            chosen = chosen.where(or_(tasks.c.task == query.task, tasks.c.request == query.task))
        if query.failed is not None:
            chosen = chosen.where(_failed() if query.failed else and_(~_failed(), tasks.c.duration.is_not(None)))
        if query.since is not None:
            chosen = chosen.where(tasks.c.at >= query.since)
        if query.until is not None:
            chosen = chosen.where(tasks.c.at < query.until)
        return tuple(rows.task_from_row(row) for row in self._all(chosen))

    def outcomes(self, task: str) -> tuple[StoredOutcome, ...]:
        """Every report about a task, in the order in which they came."""
        return tuple(self._outcomes([task]).get(task, ()))

    def known(self, tasks: Iterable[str]) -> dict[TaskKey, Known]:
        """What counts of the reports of some tasks, and what their calls cost where nobody reported a cost."""
        wanted = list(tasks)
        known = {key: known_of(items) for key, items in by_place(self._outcomes(wanted)).items()}
        for key, nanos in self._metered(wanted).items():
            known[key] = known.get(key, Known()).learn(Known(cost=nanos / NANOS))
        return {key: found for key, found in known.items() if found != Known()}

    def unknown_reports(self) -> int:
        """Reports that wait for a task that has not been seen."""
        return int(self._connection.scalar(select(func.count()).where(outcomes.c.state == "waiting")) or 0)

    def observations(self, rollout: str, after: int = 0, limit: int = 5_000) -> tuple[Observation, ...]:
        """What the judge of a rollout is fed with, in order."""
        query = (
            select(observations)
            .where(observations.c.rollout == rollout, observations.c.seq > after)
            .order_by(observations.c.seq)
            .limit(limit)
        )
        return tuple(rows.observation_from_row(row) for row in self._all(query))

    def judgement(self, rollout: str) -> StoredJudgement | None:
        """What the judge of a rollout said last."""
        row = self._one(select(judgements).where(judgements.c.rollout == rollout))
        return rows.judgement_from_row(row) if row else None

    def tallies(self, since: float, agent: str | None = None, ring: str | None = None) -> dict[TallyKey, Tally]:
        """Sums since a time (in whole steps of `TALLY_SECONDS`), by release and ring."""
        key = (tallies.c.agent, tallies.c.ring, tallies.c.release)
        query = (
            select(*key, *(func.sum(tallies.c[name]).label(name) for name in SUMS))
            .where(tallies.c.step >= int(since // TALLY_SECONDS))
            .group_by(*key)
        )
        for column, value in ((tallies.c.agent, agent), (tallies.c.ring, ring)):
            if value is not None:
                query = query.where(column == value)
        return {
            TallyKey(row["agent"], row["ring"], row["release"]): Tally(*(row[name] for name in SUMS))
            for row in self._all(query)
        }

    def heaviest_run(
        self, agent: str, ring: str, digest: Digest, since: float, began: float = 0.0
    ) -> dict[str, tuple[str, float]]:
        """Metric → the task with most failed requests, interventions, failed calls, cost; how much."""
        here = (tasks.c.agent == agent, tasks.c.ring == ring, tasks.c.release == digest, tasks.c.at >= since)
        counted = outcomes.c.state == "counted"
        errors = select(tasks.c.task, func.count().label("much")).where(*here, tasks.c.status >= 500)
        reported = select(outcomes.c.task, func.sum(outcomes.c.cost).label("much")).where(counted)
        stepped_in = select(outcomes.c.task, func.count().label("much")).where(counted, outcomes.c.intervened.is_(True))
        mine = and_(
            outcomes.c.agent == agent, outcomes.c.ring == ring, outcomes.c.task.in_(select(tasks.c.task).where(*here))
        )
        found: dict[str, tuple[str, float]] = {}
        for name, query in (
            ("error_rate", errors.group_by(tasks.c.task)),
            ("intervention_rate", stepped_in.where(mine, outcomes.c.at >= since).group_by(outcomes.c.task)),
            (
                "cost",
                reported.where(mine, outcomes.c.at >= since, outcomes.c.cost.is_not(None)).group_by(outcomes.c.task),
            ),
            ("cost", self._heaviest_cost(agent, ring, digest, since, began)),
            ("model_error_rate", self._most_faults(agent, ring, digest, since)),
        ):
            row = self._connection.execute(heaviest(query)).first()
            if row is not None and (name not in found or row[1] > found[name][1]):
                found[name] = (str(row[0]), float(row[1]))
        return found

    def window(self, agent: str, ring: str, watched: Iterable[Digest], breaker: Breaker, span: Span) -> Window:
        """What a breaker of a ring sees of some releases in a span of time."""
        if breaker.scope is BreakerScope.RUN:
            heavy = {digest: self.heaviest_run(agent, ring, digest, span.since, span.began) for digest in watched}
            return Window({}, heavy)
        where = (None, None) if breaker.scope is BreakerScope.WORKSPACE else (agent, ring)
        return Window(self.tallies(span.since, *where), {})

    def _rings_called(self, agent: str) -> Iterator[str]:
        """The rings of an agent that have requests. Each is one look into the index."""
        ring: str | None = ""
        while ring is not None:
            following = select(func.min(tasks.c.ring)).where(tasks.c.agent == agent, tasks.c.ring > ring)
            ring = self._connection.scalar(following)
            if ring is not None:
                yield ring

    def _outcomes(self, wanted: Iterable[str]) -> dict[str, list[StoredOutcome]]:
        found: dict[str, list[StoredOutcome]] = {}
        for part in in_parts(wanted):
            query = select(outcomes).where(outcomes.c.task.in_(part)).order_by(outcomes.c.seq)
            for row in self._all(query):
                found.setdefault(row["task"], []).append(rows.outcome_from_row(row))
        return found


def _failed() -> ColumnElement[bool]:
    """By the status of the answer, or by the first report of the task that says so or not: that one counts."""
    counted = outcomes.c.state == "counted"
    # Few tasks are ever said to have failed. Those are found in one go; asking for each task took ten times as long.
    blamed = select(outcomes.c.task).where(counted, outcomes.c.failed.is_(True))
    first = (
        select(outcomes.c.failed)
        .where(outcomes.c.task == tasks.c.task, outcomes.c.agent == tasks.c.agent, outcomes.c.ring == tasks.c.ring)
        .where(counted, outcomes.c.failed.is_not(None))
        .order_by(outcomes.c.seq)
        .limit(1)
        .correlate(tasks)
        .scalar_subquery()
    )
    return or_(tasks.c.status >= 500, and_(tasks.c.task.in_(blamed), first.is_(True)))


def by_place(stored: Mapping[str, list[StoredOutcome]]) -> dict[TaskKey, list[StoredOutcome]]:
    """By task, agent and ring."""
    found: dict[TaskKey, list[StoredOutcome]] = defaultdict(list)
    for items in stored.values():
        for item in items:
            found[item.outcome.task, item.outcome.agent or "", item.outcome.ring or ""].append(item)
    return found


def known_of(stored: Iterable[StoredOutcome]) -> Known:
    """What counts of some reports."""
    known = Known()
    for item in stored:
        if item.state == "counted":
            known, _, _ = known.take(item.outcome)
    return known
