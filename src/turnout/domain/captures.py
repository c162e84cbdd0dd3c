"""What is kept of requests and answers: a bounded beginning, without what the ring calls secret. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

from turnout.domain.models import Capture, ReleaseSpec

JSON_RULE_SIZE = 65_536  # bytes of an answer that are looked at where its JSON says whether the task succeeded
REDACTED = b"[redacted]"


def capture_size(spec: ReleaseSpec, ring: str) -> int:
    """How many bytes of request and answer the proxy has to log for a release."""
    settings = spec.ring(ring)
    kept = settings.capture.size if settings is not None else 0
    return max(kept, JSON_RULE_SIZE) if spec.success.startswith("$") else kept


def redact(payload: bytes | None, capture: Capture) -> bytes | None:
    """What may be kept of a payload. Text that only begins to match where it was cut off is kept: declare with care."""
    if payload is None or capture.size == 0:
        return None
    for pattern in capture.redact:
        payload = _compiled(pattern).sub(REDACTED, payload)
    return payload[: capture.size]


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.encode())
