"""A router without a proxy, for tests of everything else. It passes the same contract suite as Envoy."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

from turnout.domain.errors import RouterUnavailable
from turnout.domain.models import FULL_WEIGHT, Digest, RingRoute, Routes
from turnout.traffic.snapshot import build_snapshot


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caller would get: the status, and the release that answered (None: the proxy itself)."""

    status: int
    release: Digest | None = None


class FakeRouter:
    """Keeps what it was told. `unavailable`: every call fails, as when the proxy does not run."""

    def __init__(self) -> None:
        self.applied: list[Routes] = []
        self.unavailable = False
        self._active: Counter[tuple[str, str, Digest]] = Counter()

    def apply(self, routes: Routes) -> None:
        """See `ports.Router`. Routes that differ from the last are appended to `applied`."""
        build_snapshot(routes)  # refuses what Envoy's would
        self._check_available()
        if not self.applied or self.applied[-1] != routes:
            self.applied.append(routes)

    def active_requests(self, agent: str, ring: str, digest: Digest) -> int:
        """See `ports.Router`."""
        self._check_available()
        route = self._ring(agent, ring)
        known = route is not None and any(backend.digest == digest for backend in route.backends)
        return self._active[agent, ring, digest] if known else 0

    def set_active(self, agent: str, ring: str, digest: Digest, count: int) -> None:
        """Let so many requests be under way on a backend."""
        self._active[agent, ring, digest] = count

    def route(self, agent: str, ring: str, task: str, pin: str | None = None) -> Answer:
        """What a request of a task would get; the same task always the same as long as the routes stay."""
        route = self._ring(agent, ring)
        if route is None:
            return Answer(404)
        live = {backend.digest for backend in route.backends if backend.endpoints}
        if pin is not None:
            chosen = next(
                (backend.digest for backend in route.backends if backend.pinnable and backend.digest == pin), None
            )
            if chosen is None:
                return Answer(409)
        else:
            chosen = _choose(route, task)
        return Answer(200, chosen) if chosen in live else Answer(503)

    def _ring(self, agent: str, ring: str) -> RingRoute | None:
        rings = self.applied[-1].rings if self.applied else ()
        return next((route for route in rings if (route.agent, route.ring) == (agent, ring)), None)

    def _check_available(self) -> None:
        if self.unavailable:
            raise RouterUnavailable("the fake proxy was told not to run")


def _choose(route: RingRoute, task: str) -> Digest | None:
    """By a hash of the task along the weights, as Envoy does."""
    point = int.from_bytes(hashlib.sha256(task.encode()).digest()[:8]) % FULL_WEIGHT
    for digest, weight in route.weights:
        if point < weight:
            return digest
        point -= weight
    return None
