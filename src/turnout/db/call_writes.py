"""Writes about calls of models and tools: rows, sums, and what follows of them, in the transaction of the cursor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import Table, delete, insert, select

from turnout.db import call_rows
from turnout.db.reads import in_parts
from turnout.db.tables import model_calls, observations, tool_calls
from turnout.db.task_reads import by_place, known_of
from turnout.db.task_writes import Place, Sums, TaskWrites, no_sums
from turnout.domain.budget import NANOS
from turnout.domain.calls import FAULTS, Call, Ended, ModelCall, ToolCall
from turnout.domain.outcomes import TALLY_SECONDS, Observation


class CallWrites(TaskWrites):
    """The part of `ports.Transaction` that is about calls; see there for the meaning of each."""

    def add_calls(self, calls: Iterable[Call], name: str, cursor: str) -> tuple[Call, ...]:
        """Record calls with what follows for tallies, and the cursor after them together. Returns those that were new."""
        given = {(type(call), call.id): call for call in calls}
        new = [
            *self._insert_calls(model_calls, [call for call in given.values() if isinstance(call, ModelCall)]),
            *self._insert_calls(tool_calls, [call for call in given.values() if isinstance(call, ToolCall)]),
        ]
        self._sum([call for call in new if isinstance(call, ModelCall)])
        self.save_cursor(name, cursor)
        return tuple(new)

    def add_observations(self, rollout: str, due: Iterable[Observation]) -> None:
        """Tell the judge of a rollout what became of tasks; see `due_costs` and `due_failures`."""
        values = [
            {"rollout": rollout, "task": item.task, "at": item.at, "failed": item.failed, "cost": item.cost}
            for item in due
        ]
        if values:
            self._connection.execute(insert(observations), values)

    def changed_before(self, call: ToolCall, new: Iterable[str]) -> bool:
        """Whether a call of the same release and tool, none of the `new` ones, was refused for the same description."""
        same = (
            tool_calls.c.agent == call.agent,
            tool_calls.c.ring == call.ring,
            tool_calls.c.release == call.release,
            tool_calls.c.server == call.server,
            tool_calls.c.tool == call.tool,
            tool_calls.c.found == call.found,
        )
        known = set(new)
        found = select(tool_calls.c.id).where(*same).limit(len(known) + 1)
        return any(name not in known for name in self._connection.scalars(found))

    def prune(self, before: float, limit: int = 5_000) -> int:
        """Forget what is older than a time; at most `limit` of each kind at once."""
        most = super().prune(before, limit)
        if before <= 0:
            return most
        for table in (model_calls, tool_calls):
            query = select(table.c.id).where(table.c.at < before).order_by(table.c.at).limit(limit)
            old = list(self._connection.scalars(query))
            most = max(most, len(old))
            for part in in_parts(old):
                self._connection.execute(delete(table).where(table.c.id.in_(part)))
        return most

    def _insert_calls(self, table: Table, calls: Sequence[Call]) -> list[Call]:
        """Those that were not known."""
        if not calls:
            return []
        by_id = {call.id: call for call in calls}
        statement = self._insert_ignoring(table).returning(table.c.id)
        return [by_id[name] for name in self._connection.scalars(statement, [call_rows.call_to_row(c) for c in calls])]

    def _sum(self, calls: Sequence[ModelCall]) -> None:
        """Each call counts when it ends: one that takes longer than a breaker looks back would never be seen otherwise.

        Of a task counts what its calls cost, or what was reported where that is more: see `TaskWrites._leave_metered`.
        """
        tasks = {call.task for call in calls if call.task is not None and call.nanos}
        stored = by_place(self._outcomes(tasks))
        reported = {key: cost for key, items in stored.items() if (cost := known_of(items).cost) is not None}
        metered = self._metered({task for task, _, _ in reported})
        for call in calls:  # what was known before them
            metered[call.task or "", call.agent, call.ring] -= call.nanos
        sums: Sums = defaultdict(no_sums)
        for call in calls:
            if call.ended is Ended.REFUSED:
                continue
            key, step = (call.task or "", call.agent, call.ring), int((call.at + call.duration) // TALLY_SECONDS)
            counts = sums[Place(call.agent, call.ring, call.release), step]
            counts["calls"] += 1
            counts["failed_calls"] += call.ended in FAULTS
            told = reported.get(key, 0.0) * NANOS
            before, metered[key] = metered[key], metered[key] + call.nanos
            counts["cost"] += (max(metered[key], told) - max(before, told)) / NANOS if told else call.nanos / NANOS
        self._add_sums(sums)
