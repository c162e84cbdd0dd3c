"""Times as attestations and key files write them: RFC 3339 in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from turnout.domain.errors import InvalidRequest

_RFC_3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})")


def format_time(at: float) -> str:
    """Seconds since the epoch as `2026-11-21T14:24:00Z`, with microseconds if there are any. Raises `InvalidRequest`."""
    try:
        moment = datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        raise InvalidRequest(f"{at} is no time between the years 1 and 9999") from None
    return moment.isoformat().replace("+00:00", "Z")


def parse_time(text: str) -> float:
    """Seconds since the epoch of a time with its offset. Raises `InvalidRequest`."""
    if not _RFC_3339.fullmatch(text):
        raise InvalidRequest(f'"{text[:40]}" is no time; write it as 2026-11-21T14:24:00Z')
    try:
        return datetime.fromisoformat(text).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        raise InvalidRequest(f'"{text}" is a time that does not exist') from None
