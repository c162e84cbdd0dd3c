"""Reads about calls of models and tools: of a task, their sums, their cost where nobody reported one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Float, Select, and_, case, cast, func, select, text

from turnout.db import call_rows
from turnout.db.reads import Reads, in_parts
from turnout.db.tables import deployments, model_calls, observations, tasks, tool_calls
from turnout.domain.budget import NANOS
from turnout.domain.calls import FAULTS, Call
from turnout.domain.models import Digest
from turnout.domain.outcomes import Observation, TaskKey


class CallReads(Reads):
    """The part of `ports.Snapshot` that is about calls; see there for the meaning of each."""

    def calls(self, task: str, limit: int = 1_000) -> tuple[Call, ...]:
        """The first calls that a task made, of models and of tools, oldest first."""
        found: list[Call] = []
        for table, build in ((model_calls, call_rows.model_call_from_row), (tool_calls, call_rows.tool_call_from_row)):
            query = select(table).where(table.c.task == task).order_by(table.c.at, table.c.id).limit(limit)
            found += [build(row) for row in self._all(query)]
        return tuple(sorted(found, key=lambda call: (call.at, call.id))[:limit])

    def due_costs(self, rollout: str, after: float, until: float, age: float) -> tuple[Observation, ...]:
        """What the gateway knows of the cost of tasks that a judge was told no cost of."""
        unit = observations.c
        query = (
            _silent_units(rollout, after, until, "cost")
            .add_columns(func.sum(model_calls.c.nanos).label("nanos"))
            .join(
                model_calls,
                (model_calls.c.task == unit.task)
                & (model_calls.c.agent == deployments.c.agent)
                & (model_calls.c.ring == deployments.c.ring)
                & (model_calls.c.at >= unit.at)
                & (model_calls.c.at <= unit.at + age)
                & (model_calls.c.prices != ""),
            )
            .group_by(unit.task, unit.at)
            .order_by(unit.at)
        )
        return tuple(
            Observation(0, row["task"], row["at"] + age, cost=float(row["nanos"]) / NANOS) for row in self._all(query)
        )

    def due_failures(
        self, rollout: str, after: float, until: float, age: float, *, unread: bool
    ) -> tuple[Observation, ...]:
        """Tasks without a success or failure of which an answer should be known, and is not."""
        unit, request = observations.c, tasks.c
        # Of a conversation the latest request may be under way and well.
        open_ = request.duration.is_(None) & (request.at <= unit.at + age / 2)
        silent = open_ | (request.task == request.request) if unread else open_
        query = (
            _silent_units(rollout, after, until, "failed")
            .join(
                tasks,
                (request.task == unit.task)
                & (request.agent == deployments.c.agent)
                & (request.ring == deployments.c.ring)
                & (request.at >= unit.at)
                & silent,
            )
            .distinct()
            .order_by(unit.at)
        )
        return tuple(Observation(0, row["task"], row["at"] + age, failed=True) for row in self._all(query))

    def _metered(self, wanted: Iterable[str]) -> Counter[TaskKey]:
        """What the calls of some tasks cost, in nano-dollars; only tasks of which a call had a price."""
        found: Counter[TaskKey] = Counter()
        key = (model_calls.c.task, model_calls.c.agent, model_calls.c.ring)
        for part in in_parts(wanted):
            query = select(*key, func.sum(model_calls.c.nanos).label("nanos"))
            for row in self._all(query.where(model_calls.c.task.in_(part), model_calls.c.prices != "").group_by(*key)):
                found[row["task"], row["agent"], row["ring"]] = int(row["nanos"])
        return found

    def _heaviest_cost(self, agent: str, ring: str, digest: Digest, since: float, began: float) -> Select[Any]:
        """Of the tasks with a call that ended since a time: all that they cost since it began.

        Found by task: all calls since it began may be those of a month.
        """
        mine = _of(agent, ring, digest)
        recent = select(model_calls.c.task).where(
            *mine, model_calls.c.ended_at >= since, model_calls.c.task.is_not(None)
        )
        counts = and_(*mine, model_calls.c.at >= began)
        much = cast(func.sum(case((counts, model_calls.c.nanos), else_=0)), Float) / NANOS
        return (
            select(model_calls.c.task, much.label("much"))
            .where(model_calls.c.task.in_(recent))
            .group_by(model_calls.c.task)
        )

    def _most_faults(self, agent: str, ring: str, digest: Digest, since: float) -> Select[Any]:
        """The tasks with calls of models that failed, and how many."""
        failed = model_calls.c.ended.in_([ended.value for ended in FAULTS])
        return (
            select(model_calls.c.task, func.count().label("much"))
            .where(*_of(agent, ring, digest), model_calls.c.ended_at >= since, failed, model_calls.c.task.is_not(None))
            .group_by(model_calls.c.task)
        )


def heaviest(query: Select[Any]) -> Select[Any]:
    """The first row of those with `much`."""
    return query.order_by(text("much DESC")).limit(1)


def _silent_units(rollout: str, after: float, until: float, value: str) -> Select[Any]:
    """Task and beginning of the units of a rollout that began in a time and of which its judge was not told a value."""
    unit, told = observations.c, observations.alias()
    return (
        select(unit.task, unit.at)
        .join_from(observations, deployments, unit.rollout == deployments.c.id)
        .where(unit.rollout == rollout, unit.arm.is_not(None), unit.probability < 1)
        .where(unit.at > after, unit.at <= until)
        .where(
            ~select(told.c.seq)
            .where(told.c.task == unit.task, told.c.rollout == unit.rollout, told.c[value].is_not(None))
            .exists()
        )
    )


def _of(agent: str, ring: str, digest: Digest) -> tuple[ColumnElement[bool], ...]:
    return (model_calls.c.agent == agent, model_calls.c.ring == ring, model_calls.c.release == digest)
