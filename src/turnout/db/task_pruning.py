"""What is forgotten of tasks when it has grown old."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select, update

from turnout.db.reads import in_parts
from turnout.db.tables import deployments, judgements, observations, outcomes, payloads, tallies, tasks
from turnout.db.task_reads import TaskReads
from turnout.domain.outcomes import TALLY_SECONDS
from turnout.domain.phases import TERMINAL


class TaskPruning(TaskReads):
    """The part of `ports.Transaction` that forgets; see there."""

    def prune(self, before: float, limit: int = 5_000) -> int:
        """Forget what is older than a time; at most `limit` of each kind at once."""
        if before <= 0:
            return 0
        old = select(tasks.c.request).where(tasks.c.at < before).order_by(tasks.c.at).limit(limit)
        requests = list(self._connection.scalars(old))
        most = len(requests)
        for part in in_parts(requests):
            self._connection.execute(delete(payloads).where(payloads.c.request.in_(part)))
            self._connection.execute(delete(tasks).where(tasks.c.request.in_(part)))
        self._forget_judges(before)
        for table, condition in (
            (outcomes, outcomes.c.at < before),
            (observations, observations.c.rollout.in_(_over_before(before))),
        ):
            oldest = list(self._connection.scalars(select(table.c.seq).where(condition).limit(limit)))
            most = max(most, len(oldest))
            for part in in_parts(oldest):
                self._connection.execute(delete(table).where(table.c.seq.in_(part)))
        self._connection.execute(delete(tallies).where(tallies.c.step < int(before // TALLY_SECONDS)))
        return most

    def _forget_judges(self, before: float) -> None:
        """How judges could go on whose rollouts were over before a time; what they said is kept."""
        old = (judgements.c.rollout.in_(_over_before(before)), judgements.c.cursor > 0)
        self._connection.execute(update(judgements).where(*old).values(state={}, cursor=0))


def _over_before(before: float) -> Any:
    over = [phase.value for phase in TERMINAL]
    return select(deployments.c.id).where(deployments.c.phase.in_(over), deployments.c.phase_at < before)
