"""From route to route until one answers: the journey of one call, and what is known of all routes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from turnout.domain.calls import Attempt
from turnout.domain.errors import RouteFailed
from turnout.domain.grants import ModelPin
from turnout.domain.route_health import (
    HEALTHY,
    RouteHealth,
    after_begin,
    after_failure,
    after_rest,
    after_success,
    next_route,
)
from turnout.gateway.prices import Rates
from turnout.gateway.protocols.errors import Problem
from turnout.gateway.values import Route

SHORT_PAUSE = 5.0  # seconds that a call waits for a route which asked for a pause, where there is no other
MOST_PAUSES = 2  # of one call
LONGEST_REST = 60.0  # seconds; then a call tries: the one that brought a long pause about may have been another's alone
_OF_THE_CALL = frozenset((408, 409, 425))  # statuses that say nothing of the route

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model by a route. `model` is what the route calls it."""

    pin: ModelPin
    route: Route
    model: str
    rates: Rates | None

    @property
    def name(self) -> str:
        """Of the route, as it is told."""
        return f"{self.route.provider}/{self.route.name}"

    @property
    def key(self) -> str:
        """What its health is kept under: providers limit and lose models one by one. Such as `openai/us/gpt-4o`."""
        return f"{self.name}/{self.pin.name}" + (f" as {self.model}" if self.model != self.pin.name else "")


class RouteBoard:
    """The health of all routes, as one process sees it. Times are of the event loop.

    `on_change` is told when the breaker of a route opens (and why), and when it closes (None).
    """

    def __init__(self, on_change: Callable[[str, str | None], None] = lambda _key, _why: None) -> None:
        self._on_change = on_change
        self.healths: dict[str, RouteHealth] = {}
        self.reasoning: dict[str, bool] = {}  # whether a model ever reasoned, of those that told their usage

    def begin(self, key: str, now: float, patience: float) -> None:
        """A call begins."""
        if key in self.healths:
            self.healths[key] = after_begin(self.healths[key], now, patience)

    def succeed(self, key: str, now: float) -> None:
        """It was answered."""
        health = self.healths.get(key, HEALTHY)
        self.healths[key] = after_success(health, now)
        if health.open_until is not None:
            self._on_change(key, None)

    def fail(self, key: str, now: float, fault: RouteFailed) -> None:
        """It was not."""
        health = self.healths.get(key, HEALTHY)
        if fault.answered == 429 and fault.retry_after is not None:
            self.healths[key] = after_rest(health, now, min(fault.retry_after, LONGEST_REST))
        elif fault.answered not in _OF_THE_CALL:
            self.healths[key] = after_failure(health, now)
            if health.open_until is None and self.healths[key].open_until is not None:
                self._on_change(key, fault.message)


class Journey:
    """The tries of one call. `deadline`: in the time of the event loop."""

    def __init__(self, candidates: Sequence[Candidate], board: RouteBoard, deadline: float) -> None:
        self.attempts: list[Attempt] = []
        self.faults: list[RouteFailed] = []
        self.in_vain = 0  # tries on which the provider may have worked for nothing
        self.last = candidates[0]  # that was tried
        self.under_way = False  # whether a try is
        self._candidates = {candidate.key: candidate for candidate in candidates}
        self._ranked = tuple(self._candidates)
        self._board = board
        self._deadline = deadline
        self._tried: set[str] = set()
        self._pauses = 0
        self._began = 0.0
        self._now = asyncio.get_running_loop().time

    async def run(self, attempt: Callable[[Candidate], Awaitable[Answer]]) -> Answer:
        """Try routes in their order until one answers. Raises the last `RouteFailed` when none is left."""
        while True:
            candidate = await self._next()
            self.last, self._began, self.under_way = candidate, self._now(), True
            self._board.begin(candidate.key, self._began, candidate.route.first_byte_timeout)
            try:
                return await attempt(candidate)
            except RouteFailed as fault:
                self.fail(candidate, fault)

    def patience(self, candidate: Candidate, *, whole: bool) -> float:
        """Seconds that the route has until its first byte.

        A whole answer begins when it is ready, so a route has its share of what is left until the deadline.
        """
        left = max(self._deadline - self._now(), 0.0)
        if not whole:
            return min(candidate.route.first_byte_timeout, left)
        others = sum(1 for key in self._ranked if key not in self._tried)
        return min(max(candidate.route.first_byte_timeout, left / (1 + others)), left)

    def succeed(self, candidate: Candidate, status: int) -> None:
        """The route answered in full."""
        self.under_way = False
        self._board.succeed(candidate.key, self._now())
        self.attempts.append(Attempt(candidate.name, candidate.model, self._now() - self._began, status))

    def fail(self, candidate: Candidate, fault: RouteFailed, *, passed_on: bool = False) -> None:
        """The route did not answer, or its answer broke off; `passed_on` tells that the agent has what there is of it."""
        self.under_way = False
        now = self._now()
        self._board.fail(candidate.key, now, fault)
        seconds = now - self._began
        self.attempts.append(Attempt(candidate.name, candidate.model, seconds, fault.answered, fault.message))
        self.faults.append(_bare(fault))
        self.in_vain += fault.sent and not passed_on

    def leave(self, why: str, *, passed_on: bool) -> None:
        """The call ended in the middle of the last try, by no fault of the route that is known."""
        candidate, self.under_way = self.last, False
        self.in_vain += not passed_on
        self.attempts.append(Attempt(candidate.name, candidate.model, self._now() - self._began, None, why))

    def learn(self, candidate: Candidate, *, reasoned: bool) -> None:
        """Whether the model reasoned before it answered in full."""
        self._board.reasoning[candidate.key] = reasoned or self._board.reasoning.get(candidate.key, False)

    def may_reason(self, candidate: Candidate) -> bool:
        """Whether the model may have written tokens that nobody sees; not of one that never did."""
        return self._board.reasoning.get(candidate.key, True)

    def problem(self) -> Problem:
        """What the agent is told when no route answered."""
        pauses = [health.rest_until - self._now() for health in self._healths() if health.rest_until > self._now()]
        pause = min(pauses, default=None)
        if self.faults and all(fault.timeout for fault in self.faults):
            return Problem(504, "provider_timeout", f"no route answered in time: {self._tell()}", retry=True)
        if all(fault.answered == 429 for fault in self.faults):
            message = f"every route to the provider asks for a pause: {self._tell() or 'none was tried'}"
            return Problem(429, "rate_limit_exceeded", message, retry=True, retry_after=pause)
        return Problem(502, "provider_failed", f"no route answered properly: {self._tell()}", retry=True)

    async def _next(self) -> Candidate:
        while True:
            now = self._now()
            following = next_route(self._ranked, self._board.healths, self._tried, now)
            if following is None or (following.at > now and not self._may_wait(following.at - now)):
                raise _bare(self.faults[-1]) if self.faults else RouteFailed("every route rests", answered=429)
            if following.at <= now:
                self._tried.add(following.route)
                return self._candidates[following.route]
            self._pauses += 1
            await asyncio.sleep(following.at - now)
            self._tried.discard(following.route)

    def _may_wait(self, pause: float) -> bool:
        return pause <= SHORT_PAUSE and self._pauses < MOST_PAUSES and self._now() + pause < self._deadline

    def _healths(self) -> list[RouteHealth]:
        return [self._board.healths[key] for key in self._ranked if key in self._board.healths]

    def _tell(self) -> str:
        """Such as `openai/us: status 500 of the provider; openai/eu: no connection`."""
        return "; ".join(f"{attempt.route}: {attempt.error}" for attempt in self.attempts if attempt.error)


def _bare(fault: RouteFailed) -> RouteFailed:
    """The same without where it was raised: its frames hold the call and its body, which would hold it in turn."""
    return RouteFailed(
        fault.message,
        answered=fault.answered,
        retry_after=fault.retry_after,
        sent=fault.sent,
        timeout=fault.timeout,
    )
