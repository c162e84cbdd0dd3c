"""How often one caller may report: a token bucket a caller, in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from turnout.domain.errors import TooManyRequests

# One core takes some thousands of reports a second into SQLite, and the proxy's log needs its share of that.
REPORTS_PER_SECOND = 2_000.0
# What a caller has kept while the server was away for a while: a full queue of the SDK comes back at once.
BURST = 20_000.0


class ReportRate:
    """Who reports more than `rate` a second, beyond a `burst`, is refused until the bucket has filled again."""

    def __init__(
        self,
        rate: float = REPORTS_PER_SECOND,
        burst: float = BURST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}  # caller → what was left, and when

    def spend(self, caller: str, reports: int) -> None:
        """Take so many reports out of the bucket of a caller. Raises `TooManyRequests`; then nothing is taken."""
        asked = min(max(reports, 1), self._burst)
        now = self._clock()
        with self._lock:
            left = self._left(caller, now)
            if left >= asked:
                left -= asked
                missing = 0.0
            else:
                missing = asked - left
            self._buckets[caller] = (left, now)
        if missing:
            raise TooManyRequests(
                f"{caller} reports more than {self._rate:,.0f} outcomes a second",
                retry_after=missing / self._rate,
                hint="send them again after the time that Retry-After names",
            )

    def owe(self, caller: str, reports: int) -> None:
        """Take so many more out of the bucket, down to below nothing: what was read already is taken, and paid for later."""
        now = self._clock()
        with self._lock:
            self._buckets[caller] = (self._left(caller, now) - reports, now)

    def _left(self, caller: str, now: float) -> float:
        left, at = self._buckets.get(caller, (self._burst, now))
        return min(self._burst, left + (now - at) * self._rate)
