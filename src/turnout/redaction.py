"""What is kept of captured requests and answers, without what a ring calls secret: in bounded time, or nothing at all.

A pattern comes with a release, the text from any caller. Some pairs of the two take longer than the world lasts, and the
one thread that reads the access log must not wait for them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import lru_cache

import regex

from turnout.domain.models import Capture

log = logging.getLogger(__name__)

REDACTED = b"[redacted]"
LIMIT_SECONDS = 0.1  # for one payload, and as much again for each …
LIMIT_BYTES = 100_000  # … of it; plain patterns take a tenth of that
PAUSE_SECONDS = 60.0  # for which nothing is kept by patterns that took longer


class Redactor:
    """Applies the patterns of rings. For one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, limit: float = LIMIT_SECONDS) -> None:
        """`limit`: seconds for one payload, and as much again for each `LIMIT_BYTES` of it."""
        self._limit = limit
        self._clock = clock
        self._paused: dict[tuple[str, ...], float] = {}  # until when, by the patterns of a ring

    def redact(self, payload: bytes | None, capture: Capture) -> bytes | None:
        """What may be kept of a payload: None where it cannot be redacted in time, and for a while after that.

        Text that only begins to match where it was cut off is kept: declare with care.
        """
        if payload is None or capture.size == 0 or self._clock() < self._paused.get(capture.redact, 0.0):
            return None
        try:
            return _replace(payload, capture.redact, self._limit)[: capture.size]
        except (TimeoutError, regex.error) as error:
            self._paused[capture.redact] = self._clock() + PAUSE_SECONDS
            why = "they take too long" if isinstance(error, TimeoutError) else str(error)
            patterns = ", ".join(map(repr, capture.redact))
            log.warning("for %g s nothing is captured with the patterns %s: %s", PAUSE_SECONDS, patterns, why)
            return None


def _replace(payload: bytes, patterns: tuple[str, ...], limit: float) -> bytes:
    ends = time.monotonic() + limit * (1 + len(payload) / LIMIT_BYTES)
    for pattern in patterns:
        left = ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        payload = _compiled(pattern).sub(REDACTED, payload, timeout=left)
    return payload


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> regex.Pattern[bytes]:
    return regex.compile(pattern.encode())
