"""Whether a route to a provider is fit to be tried, and which one is next. Pure.

A route is closed (calls go), open (it failed and is left alone for a while) or half-open (one call tries it).
It opens after some failures in a row, and when it fails too often: a flapping route never fails often enough in a row. A
route that asks for a pause (Retry-After) rests until then, whatever its breaker says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum


class RouteState(StrEnum):
    """The breaker of a route."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class HealthRules:
    """When a breaker opens, and for how long. Times in seconds."""

    in_a_row: int = 3  # failures
    share: float = 0.5  # of the calls in the window that failed
    calls: int = 8  # at least, before the share counts
    remembered: int = 20  # calls at most
    window: float = 60.0
    pause: float = 5.0  # for the first time; doubles while the route comes and goes
    longest_pause: float = 120.0


@dataclass(frozen=True, slots=True)
class RouteHealth:
    """What is known of a route. Times in seconds of any clock that does not jump."""

    recent: tuple[tuple[float, bool], ...] = ()  # when a call ended, whether well
    open_until: float | None = None
    trial_until: float = 0.0  # a call tries the half-open route; it is given up then
    openings: int = 0  # without a quiet window between them
    rest_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Next:
    """The route to try next, not before `at`."""

    route: str
    at: float


HEALTHY = RouteHealth()
RULES = HealthRules()


def state_of(health: RouteHealth, now: float) -> RouteState:
    """The breaker now."""
    if health.open_until is None:
        return RouteState.CLOSED
    return RouteState.OPEN if now < health.open_until else RouteState.HALF_OPEN


def after_begin(health: RouteHealth, now: float, patience: float) -> RouteHealth:
    """A call begins: in a half-open route it is the one that tries; others wait at most `patience` seconds for it."""
    if state_of(health, now) is RouteState.HALF_OPEN:
        return replace(health, trial_until=now + patience)
    return health


def after_success(health: RouteHealth, now: float, rules: HealthRules = RULES) -> RouteHealth:
    """A call was answered in full; that closes the breaker."""
    if health.open_until is not None:
        return RouteHealth(((now, True),), openings=health.openings, rest_until=health.rest_until)
    recent = (*health.recent[1 - rules.remembered :], (now, True))
    quiet = health.openings and all(well for _, well in recent) and recent[0][0] < now - rules.window
    return replace(health, recent=recent, openings=0 if quiet else health.openings)


def after_failure(health: RouteHealth, now: float, rules: HealthRules = RULES) -> RouteHealth:
    """A call failed by the fault of the route."""
    recent = (*health.recent[1 - rules.remembered :], (now, False))
    failed_trial = state_of(health, now) is RouteState.HALF_OPEN
    if not failed_trial and not _too_many(recent, now, rules):
        return replace(health, recent=recent)
    if state_of(health, now) is RouteState.OPEN:  # a call that had begun before, or for want of another route
        return replace(health, recent=recent)
    pause = min(rules.pause * 2 ** min(health.openings, 30), rules.longest_pause)
    return replace(health, recent=recent, open_until=now + pause, trial_until=0.0, openings=health.openings + 1)


def after_rest(health: RouteHealth, now: float, seconds: float) -> RouteHealth:
    """The provider asked for a pause (429 with Retry-After); that is no failure."""
    return replace(health, rest_until=max(health.rest_until, now + seconds), trial_until=0.0)


def next_route(
    ranked: Sequence[str], healths: Mapping[str, RouteHealth], tried: Collection[str], now: float
) -> Next | None:
    """Which of the ranked routes to try next. None: all were tried, and none of them asked for a pause.

    First the best one that is fit; then, for want of a better one, an open route, soonest back first; then the route whose
    rest ends first, even if it was tried before.
    """
    left = [route for route in ranked if route not in tried]
    awake = [route for route in left if healths.get(route, HEALTHY).rest_until <= now]
    for route in awake:
        if _is_fit(healths.get(route, HEALTHY), now):
            return Next(route, now)
    if awake:
        return Next(min(awake, key=lambda route: healths[route].open_until or 0.0), now)
    resting = [(healths[route].rest_until, rank) for rank, route in enumerate(ranked) if route in healths]
    ends, rank = min(((ends, rank) for ends, rank in resting if ends > now), default=(0.0, -1))
    return Next(ranked[rank], ends) if rank >= 0 else None


def _is_fit(health: RouteHealth, now: float) -> bool:
    match state_of(health, now):
        case RouteState.CLOSED:
            return True
        case RouteState.HALF_OPEN:
            return health.trial_until <= now
        case RouteState.OPEN:
            return False


def _too_many(recent: Sequence[tuple[float, bool]], now: float, rules: HealthRules) -> bool:
    last = recent[-rules.in_a_row :]
    if len(last) == rules.in_a_row and not any(well for _, well in last):
        return True
    seen = [well for at, well in recent if at >= now - rules.window]
    return len(seen) >= rules.calls and seen.count(False) >= rules.share * len(seen)
