"""Breakers: sums over a window against what a ring declares; what tripped, and what is let through again. Pure.

A breaker is closed, and looks at its window. It trips: open, the gateway lets no call of the release through, and the ring
goes back. A person closes it, and its window begins anew; or half opens it: for the length of its window the release is on
trial, in which one fault opens it again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum

from turnout.domain.models import Breaker, BreakerScope, Deployment, Digest, Pointer, Release
from turnout.domain.outcomes import TALLY_SECONDS, Tally, TallyKey

METRICS = ("error_rate", "intervention_rate", "model_error_rate", "cost")
_WORDS = {
    "error_rate": "failed tasks",
    "intervention_rate": "interventions",
    "model_error_rate": "failed model calls",
    "cost": "cost",
}


class BreakerState(StrEnum):
    """Whether calls are let through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerRecord:
    """What became of a breaker that tripped for a release in a ring; one that never did has none.

    `ignored`: what the step of time in which it was reset held before: nobody counts it again.
    """

    agent: str
    ring: str
    release: Digest
    scope: BreakerScope
    metric: str
    state: BreakerState
    since: float
    value: float  # that it tripped with
    above: float
    window: float
    reason: str
    actor: str
    task: str | None = None
    ignored: Tally = field(default_factory=Tally)

    def on_trial(self, now: float) -> bool:
        """Whether it is half open, and its window is not over yet."""
        return self.state is BreakerState.HALF_OPEN and now < self.since + self.window


@dataclass(frozen=True, slots=True)
class Window:
    """What was seen in the window of a breaker: sums by release, and the heaviest single tasks of this ring."""

    tallies: Mapping[TallyKey, Tally]
    heaviest: Mapping[Digest, Mapping[str, tuple[str, float]]]  # by release: metric → (task, how much)
    ignored: Tally = field(default_factory=Tally)  # of those sums
    trial: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """What to read for a breaker: sums since a time, tasks that made calls since then, and their calls since `began`."""

    since: float
    began: float


@dataclass(frozen=True, slots=True)
class Trip:
    """A breaker that tripped, and the release that has to go."""

    breaker: Breaker
    digest: Digest
    value: float
    task: str | None = None  # for a single task
    trial: bool = False  # it was half open

    def describe(self) -> str:
        """Such as `breaker: 34 % failed tasks in 300 s, above 20 %`."""
        breaker, words = self.breaker, _WORDS[self.breaker.metric]
        name = "breaker on trial" if self.trial else "breaker"
        above = "" if self.trial and breaker.metric != "cost" else f", above {breaker.above:g}"
        if breaker.scope is BreakerScope.RUN:
            return f"{name}: {self.value:g} {words} of task {str(self.task)[:60]}{above}"
        where = " in all rings" if breaker.scope is BreakerScope.WORKSPACE else ""
        if breaker.metric == "cost":
            return f"{name}: {words} {self.value:.2f} in {breaker.window:g} s{where}{above}"
        above = f", above {breaker.above:.1%}" if above else ""
        return f"{name}: {self.value:.1%} {words} in {breaker.window:g} s{where}{above}"


@dataclass(frozen=True, slots=True)
class Look:
    """What to read of a breaker: for every release that is watched, or for the one that it was reset for."""

    breaker: Breaker
    digest: Digest | None
    span: Span
    ignored: Tally = field(default_factory=Tally)
    trial: bool = False


def find_looks(
    breakers: Iterable[Breaker],
    watched: Sequence[Digest],
    records: Sequence[BreakerRecord],
    began: float,
    now: float,
) -> list[Look]:
    """What to read for the declared breakers of a ring. `began`: when its newest release did."""
    looks = []
    for breaker in sorted(set(breakers), key=lambda item: (item.scope, item.metric, item.above)):
        since = now - breaker.window if breaker.scope is BreakerScope.WORKSPACE else max(now - breaker.window, began)
        looks.append(Look(breaker, None, Span(since, began)))
        for digest in watched:
            record = find_record(records, digest, breaker)
            if record is None or record.state is BreakerState.OPEN:
                continue
            start = max(since, record.since)
            if breaker.scope is not BreakerScope.RUN and start // TALLY_SECONDS > record.since // TALLY_SECONDS:
                continue  # sums hold nothing from before the reset any more
            looks.append(Look(breaker, digest, Span(start, record.since), record.ignored, record.on_trial(now)))
    return looks


def find_record(records: Iterable[BreakerRecord], digest: Digest, breaker: Breaker) -> BreakerRecord | None:
    """What became of a breaker for a release."""
    mine = (record for record in records if record.release == digest)
    return next((record for record in mine if (record.scope, record.metric) == (breaker.scope, breaker.metric)), None)


def find_watched(pointer: Pointer, records: Iterable[BreakerRecord], now: float) -> list[Digest]:
    """The releases that breakers watch: candidate, stable, and those that are on trial beside them."""
    routed = [digest for digest in (pointer.candidate, pointer.stable) if digest is not None]
    return list(dict.fromkeys([*routed, *(record.release for record in records if record.on_trial(now))]))


def find_declared(release: Release | None, ring: str) -> tuple[Breaker, ...]:
    """What a release declares for a ring; nothing where it is not known."""
    settings = release.spec.ring(ring) if release is not None else None
    return settings.breakers if settings is not None else ()


def bind(declared: Mapping[Digest, Iterable[Breaker]], stable: Digest | None) -> dict[Digest, set[Breaker]]:
    """Which breakers each release is held to. A candidate is held to what stable declares too, but brings no rules for the
    release that serves.
    """
    every = {breaker for breakers in declared.values() for breaker in breakers}
    return {digest: set(breakers) if digest == stable else every for digest, breakers in declared.items()}


def began_at(deployments: Iterable[Deployment | None]) -> float:
    """When the newest of the releases began that are watched: breakers look at nothing from before."""
    return max((item.rollout.began_at or item.active_at or 0.0 for item in deployments if item), default=0.0)


def leave_out(look: Look, window: Window, records: Iterable[BreakerRecord]) -> Window:
    """What a breaker over everything sees, without releases that are stopped already, and without those that it was reset
    for since the window began: what they did is dealt with, and must stop nobody else. `records`: of the whole workspace.
    """
    if look.breaker.scope is not BreakerScope.WORKSPACE:
        return window

    def is_reset(record: BreakerRecord) -> bool:
        same = record.scope is BreakerScope.WORKSPACE and record.metric == look.breaker.metric
        return same and record.since > look.span.since

    gone = {
        TallyKey(record.agent, record.ring, record.release)
        for record in records
        if record.state is BreakerState.OPEN or (is_reset(record) and record.release != look.digest)
    }
    return replace(window, tallies={key: tally for key, tally in window.tallies.items() if key not in gone})


def find_trip(
    agent: str,
    ring: str,
    watched: Iterable[Digest],
    seen: Mapping[Breaker, Window],
    resets: Mapping[tuple[Digest, Breaker], Window] | None = None,
    in_reach: Callable[[Breaker, TallyKey], bool] = lambda _breaker, _key: True,
    binds: Callable[[Breaker, Digest], bool] = lambda _breaker, _digest: True,
) -> Trip | None:
    """The first breaker that trips for one of the watched releases of a ring; the releases are looked at in order.

    `resets`: what breakers look at that were reset for a release. `in_reach`: whether a breaker over everything can stop
    another release, because it runs in a ring that declares the breaker too. `binds`: whether a breaker holds for a release.
    """
    for digest in watched:
        for breaker, window in seen.items():
            if not binds(breaker, digest):
                continue
            trip = _look(agent, ring, digest, breaker, (resets or {}).get((digest, breaker), window), in_reach)
            if trip is not None:
                return trip
    return None


def measure(agent: str, ring: str, digest: Digest, breaker: Breaker, window: Window) -> tuple[float | None, str | None]:
    """What a breaker sees of a release now, to be compared with its limit, and the task for a single one.

    None where too few tasks say anything.
    """
    if breaker.scope is BreakerScope.RUN:
        task, much = window.heaviest.get(digest, {}).get(breaker.metric, ("", 0.0))
        return much, task or None
    mine = window.tallies.get(TallyKey(agent, ring, digest), Tally())
    if breaker.scope is BreakerScope.WORKSPACE and not window.trial:
        return _value(breaker, _without(_sum(window.tallies.values()), window.ignored), trial=False), None
    return _value(breaker, _without(mine, window.ignored), trial=window.trial), None


def ignore_until_now(record: BreakerRecord, tallies: Mapping[TallyKey, Tally], *, trial: bool) -> Tally:
    """What a reset leaves out, of sums over the step of time in which it is made."""
    if record.scope is BreakerScope.WORKSPACE and not trial:
        return _sum(tallies.values())
    return tallies.get(TallyKey(record.agent, record.ring, record.release), Tally())


def stopped_reasons(records: Iterable[BreakerRecord]) -> dict[tuple[str, str, Digest], str]:
    """(agent, ring, release) → why no call of it is let through, for a person; of open breakers the first that tripped."""
    found: dict[tuple[str, str, Digest], str] = {}
    for record in sorted(records, key=lambda item: item.since):
        if record.state is BreakerState.OPEN:
            reason = f"{record.reason}; to let calls through again: turnout breakers reset {record.agent} {record.ring}"
            found.setdefault((record.agent, record.ring, record.release), reason)
    return found


def _look(
    agent: str,
    ring: str,
    digest: Digest,
    breaker: Breaker,
    window: Window,
    in_reach: Callable[[Breaker, TallyKey], bool],
) -> Trip | None:
    value, task = measure(agent, ring, digest, breaker, window)
    above = 0.0 if window.trial and breaker.metric != "cost" else breaker.above
    if value is None or value <= above:
        return None
    if breaker.scope is BreakerScope.WORKSPACE and not window.trial:
        # Over everything: of the releases that can be stopped the one that gave most has to go, if they are above the
        # limit by themselves: none is stopped for what others did. Each ring looks for its own.
        mine = TallyKey(agent, ring, digest)
        reached = {key: tally for key, tally in window.tallies.items() if key == mine or in_reach(breaker, key)}
        value, _ = measure(agent, ring, digest, breaker, replace(window, tallies=reached))
        if value is None or value <= above or mine not in reached:
            return None
        if mine != max(reached, key=lambda key: (_amount(breaker, reached[key]), key.agent, key.ring)):
            return None
    return Trip(breaker, digest, value, task, trial=window.trial)


def _value(breaker: Breaker, tally: Tally, *, trial: bool) -> float | None:
    """None where there are too few tasks, or calls, to say anything. On trial the first fault says enough."""
    amount = _amount(breaker, tally)
    if breaker.metric == "cost":
        return amount
    of = tally.calls if breaker.metric == "model_error_rate" else tally.requests
    if trial and amount > 0:
        return amount / max(of, amount)
    return amount / of if of >= max(breaker.tasks, 1) else None


def _amount(breaker: Breaker, tally: Tally) -> float:
    amounts = {
        "error_rate": tally.errors,
        "intervention_rate": tally.interventions,
        "model_error_rate": tally.failed_calls,
        "cost": tally.cost,
    }
    return max(amounts[breaker.metric], 0.0)  # what was taken back of a sum leaves the rest of a division


def _sum(tallies: Iterable[Tally]) -> Tally:
    found = list(tallies)
    return Tally(*(math.fsum(getattr(tally, name) for tally in found) for name in _SUMS))  # type: ignore[arg-type]


def _without(tally: Tally, ignored: Tally) -> Tally:
    return Tally(*(max(getattr(tally, name) - getattr(ignored, name), 0) for name in _SUMS))


_SUMS = tuple(item.name for item in fields(Tally))
