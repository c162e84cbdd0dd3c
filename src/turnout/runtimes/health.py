"""Asks every replica for its health again and again, and decides what the answers mean.

What the answers mean is pure (`next_health`); the asking is a scheduler thread with a pool, one probe in flight a replica.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from turnout.domain.models import HealthCheck, ReplicaState
from turnout.ports import Prober

PROBES_AT_ONCE = 32
EAGER = 0.1  # seconds: the shortest pause between two probes of a replica that starts

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Health:
    """The readiness of a replica, and how many probes in a row have failed."""

    state: ReplicaState = ReplicaState.STARTING
    failures: int = 0
    message: str = ""


def next_health(health: Health, error: str | None, unhealthy_after: int) -> Health:
    """The health after one more probe; `error` is None when it was answered well."""
    if error is None:
        return Health(ReplicaState.READY)
    failures = health.failures + 1
    if health.state is ReplicaState.READY and failures < unhealthy_after:
        return replace(health, failures=failures)
    state = ReplicaState.STARTING if health.state is ReplicaState.STARTING else ReplicaState.UNREADY
    return Health(state, failures, error)


def next_pause(state: ReplicaState, age: float, interval: float) -> float:
    """Seconds until the next probe: a replica that starts is asked more often, the more so the younger it is."""
    if state is not ReplicaState.STARTING:
        return interval
    return min(interval, max(EAGER, age / 10))


@dataclass(slots=True)
class _Watched:
    address: str
    check: HealthCheck
    since: float  # monotonic
    on_answer: Callable[[str | None], ReplicaState]


class HealthWatch:
    """Probes replicas in the background. `on_answer` of each is called from a thread of the pool, one call at a time."""

    def __init__(self, prober: Prober) -> None:
        self._prober = prober
        self._watched: dict[object, _Watched] = {}
        self._due: list[tuple[float, int, object]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._pool = ThreadPoolExecutor(PROBES_AT_ONCE, thread_name_prefix="turnout-probe")
        self._thread = threading.Thread(target=self._run, name="turnout-health", daemon=True)
        self._thread.start()

    def watch(
        self, key: object, address: str, check: HealthCheck, on_answer: Callable[[str | None], ReplicaState]
    ) -> None:
        """Begin to probe. `on_answer` gets None or why not, and returns the state, which decides when to ask again."""
        with self._changed:
            self._watched[key] = _Watched(address, check, time.monotonic(), on_answer)
            self._schedule(key, 0.0)

    def forget(self, key: object) -> None:
        """Probe it no more; an answer that is under way is dropped."""
        with self._changed:
            self._watched.pop(key, None)

    def close(self) -> None:
        """End the threads. Probes under way end by their own timeout; their answers are dropped."""
        with self._changed:
            self._closed = True
            self._watched.clear()
            self._changed.notify()
        self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (not self._due or self._due[0][0] > time.monotonic()):
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._closed:
                    return
                key = heapq.heappop(self._due)[2]
                watched = self._watched.get(key)
                if watched is not None:
                    self._pool.submit(self._probe, key, watched)

    def _probe(self, key: object, watched: _Watched) -> None:
        pause = watched.check.interval
        try:
            error = self._prober.healthy(watched.address, watched.check)
            if self._watched.get(key) is watched:
                state = watched.on_answer(error)
                pause = next_pause(state, time.monotonic() - watched.since, watched.check.interval)
        except Exception:
            logger.exception("the health of %s could not be asked", watched.address)
        with self._changed:
            if self._watched.get(key) is watched:
                self._schedule(key, pause)

    def _schedule(self, key: object, pause: float) -> None:
        heapq.heappush(self._due, (time.monotonic() + pause, next(self._order), key))
        self._changed.notify()
