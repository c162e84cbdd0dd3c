"""How much is captured of requests and answers. Pure."""

from __future__ import annotations

from turnout.domain.models import Capture, ReleaseSpec, RingSettings

JSON_RULE_SIZE = 65_536  # bytes of an answer that are looked at where its JSON says whether the task succeeded


def capture_size(spec: ReleaseSpec, ring: str) -> int:
    """How many bytes of request and answer the proxy has to log for a release."""
    settings = spec.ring(ring)
    kept = kept_capture(settings).size if settings is not None else 0
    return max(kept, JSON_RULE_SIZE) if spec.success.startswith("$") else kept


def kept_capture(settings: RingSettings) -> Capture:
    """What a ring keeps: as much as it shows with a task, or as much as its recordings need."""
    recorded = settings.record.size if settings.record is not None else 0
    return Capture(max(settings.capture.size, recorded), settings.capture.redact)


def redact_patterns(spec: ReleaseSpec, ring: str) -> tuple[str, ...]:
    """What a release calls secret in a ring; in all of its rings, where it does not know that one."""
    known = spec.ring(ring)
    rings = (known,) if known is not None else spec.rings
    return tuple(dict.fromkeys(pattern for settings in rings for pattern in settings.capture.redact))
