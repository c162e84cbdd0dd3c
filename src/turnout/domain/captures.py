"""How much is captured of requests and answers. Pure."""

from __future__ import annotations

from turnout.domain.models import ReleaseSpec

JSON_RULE_SIZE = 65_536  # bytes of an answer that are looked at where its JSON says whether the task succeeded


def capture_size(spec: ReleaseSpec, ring: str) -> int:
    """How many bytes of request and answer the proxy has to log for a release."""
    settings = spec.ring(ring)
    kept = settings.capture.size if settings is not None else 0
    return max(kept, JSON_RULE_SIZE) if spec.success.startswith("$") else kept
