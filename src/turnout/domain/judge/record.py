"""What a judge remembers for people: the units that weighed most, and the course of the evidence. Both are bounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from turnout.domain.judge.evidence import Point, Weighed
from turnout.domain.judge.units import Unit

_POINTS = 240


class Heaviest:
    """The units that multiplied the evidence against the candidate with most, each with its heaviest metric and age."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._listed: dict[tuple[str, str], Weighed] = {}
        self._least = 1.0

    def note(self, unit: Unit, metric: str, factor: float) -> None:
        """Consider a unit that multiplied the evidence of a metric with `factor`."""
        if factor <= self._least or not self._most:
            return
        key = (unit.task, metric)
        known = self._listed.get(key)
        if known is not None and known.factor >= factor:
            return
        self._listed[key] = Weighed(unit.task, metric, unit.at, factor)
        if len(self._listed) > self._most:
            lightest = min(self._listed, key=lambda other: (self._listed[other].factor, other))
            del self._listed[lightest]
        if len(self._listed) == self._most:
            self._least = min(weighed.factor for weighed in self._listed.values())

    def listed(self) -> tuple[Weighed, ...]:
        """Heaviest first."""
        return tuple(sorted(self._listed.values(), key=lambda weighed: (-weighed.factor, weighed.task, weighed.metric)))

    def to_state(self) -> list[list[Any]]:
        """As values that JSON knows."""
        return [[weighed.task, weighed.metric, weighed.at, weighed.factor] for weighed in self._listed.values()]

    def load(self, state: Sequence[Sequence[Any]]) -> None:
        """Go on from `to_state`."""
        self._listed = {(task, metric): Weighed(task, metric, at, factor) for task, metric, at, factor in state}
        full = len(self._listed) == self._most
        self._least = min((weighed.factor for weighed in self._listed.values()), default=1.0) if full else 1.0


class Course:
    """The evidence of the metrics over time. `spacing`: seconds between two points; it doubles when they become too many."""

    def __init__(self, spacing: float) -> None:
        self._points: list[Point] = []
        self._spacing = spacing

    def due(self, at: float) -> bool:
        """Whether it is time for another point."""
        return not self._points or at >= self._points[-1].at + self._spacing

    def note(self, at: float, against: dict[str, float]) -> None:
        """Add a point."""
        self._points.append(Point(at, against))
        if len(self._points) > _POINTS:
            self._points = self._points[::2]
            self._spacing *= 2

    def listed(self) -> tuple[Point, ...]:
        """Oldest first."""
        return tuple(self._points)

    def to_state(self) -> dict[str, Any]:
        """As values that JSON knows."""
        return {"spacing": self._spacing, "points": [[point.at, dict(point.against)] for point in self._points]}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `to_state`."""
        self._spacing = state["spacing"]
        self._points = [Point(at, against) for at, against in state["points"]]
