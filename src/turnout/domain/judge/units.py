"""A unit that was assigned to an arm and is not yet fully judged, and what was reported of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

STABLE, CANDIDATE = "stable", "candidate"
Value = bool | float


class Unit:
    """One randomised unit. `values` and `times` hold a place for each metric: failure, intervention, cost."""

    __slots__ = ("at", "candidate", "period", "share", "task", "times", "values")

    def __init__(self, task: str, *, candidate: bool, share: float, at: float, period: float) -> None:
        self.task = task
        self.candidate = candidate
        self.share = share  # probability of the candidate when the unit was assigned
        self.at = at
        self.period = int(at // period)  # number of the period in which it began
        self.values: list[Value | None] = [None, None, None]
        self.times: list[float] = [0.0, 0.0, 0.0]  # when the value was reported

    def to_state(self) -> list[Any]:
        """As values that JSON knows."""
        return [self.task, self.candidate, self.share, self.at, list(self.values), list(self.times)]

    @classmethod
    def from_state(cls, state: Sequence[Any], period: float) -> Unit:
        """From `to_state`, with the length of a period."""
        task, candidate, share, at, values, times = state
        unit = cls(task, candidate=candidate, share=share, at=at, period=period)
        unit.values, unit.times = list(values), list(times)
        return unit
