"""Whether a breaker trips: sums over a window against what the ring declares. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from turnout.domain.models import Breaker, BreakerScope, Digest
from turnout.domain.outcomes import Tally, TallyKey

METRICS = ("error_rate", "intervention_rate", "cost")
_WORDS = {"error_rate": "failed tasks", "intervention_rate": "interventions", "cost": "cost"}


@dataclass(frozen=True, slots=True)
class Window:
    """What was seen in the window of a breaker: sums by release, and the heaviest single tasks of this ring."""

    tallies: Mapping[TallyKey, Tally]
    heaviest: Mapping[Digest, Mapping[str, tuple[str, float]]]  # by release: metric → (task, how much)


@dataclass(frozen=True, slots=True)
class Trip:
    """A breaker that tripped, and the release that has to go."""

    breaker: Breaker
    digest: Digest
    value: float
    task: str | None = None  # for a single task

    def describe(self) -> str:
        """Such as `breaker: 34 % failed tasks in 300 s, above 20 %`."""
        breaker, words = self.breaker, _WORDS[self.breaker.metric]
        if breaker.scope is BreakerScope.RUN:
            return f"breaker: {self.value:g} {words} of task {str(self.task)[:60]}, above {breaker.above:g}"
        where = " in all rings" if breaker.scope is BreakerScope.WORKSPACE else ""
        if breaker.metric == "cost":
            return f"breaker: {words} {self.value:.2f} in {breaker.window:g} s{where}, above {breaker.above:g}"
        return f"breaker: {self.value:.1%} {words} in {breaker.window:g} s{where}, above {breaker.above:.1%}"


def find_trip(agent: str, ring: str, watched: Iterable[Digest], seen: Mapping[Breaker, Window]) -> Trip | None:
    """The first breaker that trips for one of the watched releases of a ring; the releases are looked at in order."""
    for digest in watched:
        for breaker, window in seen.items():
            trip = _look(agent, ring, digest, breaker, window)
            if trip is not None:
                return trip
    return None


def _look(agent: str, ring: str, digest: Digest, breaker: Breaker, window: Window) -> Trip | None:
    if breaker.scope is BreakerScope.RUN:
        task, much = window.heaviest.get(digest, {}).get(breaker.metric, ("", 0.0))
        return Trip(breaker, digest, much, task) if much > breaker.above else None
    mine = TallyKey(agent, ring, digest)
    if breaker.scope is BreakerScope.DEPLOYMENT:
        value = _value(breaker, window.tallies.get(mine, Tally()))
        return Trip(breaker, digest, value) if value is not None and value > breaker.above else None
    # Over everything: the release that gave most of it has to go, each ring looks for its own.
    value = _value(breaker, _sum(window.tallies.values()))
    if value is None or value <= breaker.above or not window.tallies:
        return None
    worst = max(window.tallies, key=lambda key: (_amount(breaker, window.tallies[key]), key.agent, key.ring))
    return Trip(breaker, digest, value) if worst == mine else None


def _value(breaker: Breaker, tally: Tally) -> float | None:
    """None where there are too few tasks to say anything."""
    if breaker.metric == "cost":
        return tally.cost
    return _amount(breaker, tally) / tally.requests if tally.requests >= max(breaker.tasks, 1) else None


def _amount(breaker: Breaker, tally: Tally) -> float:
    return {"error_rate": tally.errors, "intervention_rate": tally.interventions, "cost": tally.cost}[breaker.metric]


def _sum(tallies: Iterable[Tally]) -> Tally:
    found = list(tallies)
    return Tally(
        sum(tally.requests for tally in found),
        sum(tally.known for tally in found),
        sum(tally.errors for tally in found),
        sum(tally.interventions for tally in found),
        sum(tally.cost for tally in found),
    )
