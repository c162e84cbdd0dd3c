"""Events as CloudEvents 1.0 in structured mode. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime

from turnout.domain.events import Event
from turnout.ports import StoredEvent

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"


def build_cloudevent(stored: StoredEvent, instance: str, more: Mapping[str, object] | None = None) -> dict[str, object]:
    """The event for receivers. `more` is added to its data.

    `id` is the same whenever the event is sent, so that a receiver can drop what it has; `sequence` grows with time, and
    orders as text.
    """
    event = stored.event
    built: dict[str, object] = {
        "specversion": "1.0",
        "id": f"{instance}-{stored.seq}",
        "source": _source(event),
        "type": f"turnout.{event.type.value}.v1",
        "time": format_time(event.at),
        "sequence": f"{stored.seq:020d}",
        "datacontenttype": "application/json",
        "data": {
            "actor": event.actor,
            "agent": event.agent,
            "ring": event.ring,
            "deployment": event.deployment,
            "details": dict(event.data),
            **(more or {}),
        },
    }
    if subject := event.deployment or event.data.get("digest"):
        built["subject"] = str(subject)
    return built


def build_test_event(instance: str, name: str, test: str, at: float) -> dict[str, object]:
    """What somebody sends to see whether a target is reached. It has no place in the order of events."""
    return {
        "specversion": "1.0",
        "id": f"{instance}-test-{test}",
        "source": "/instance",
        "type": "turnout.alert.test.v1",
        "time": format_time(at),
        "subject": name,
        "datacontenttype": "application/json",
        "data": {"target": name, "message": "this is a test: nothing happened"},
    }


def encode_cloudevent(built: Mapping[str, object]) -> bytes:
    """As JSON in UTF-8: the same bytes for the same event."""
    text = json.dumps(_plain(built), ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace")


def format_time(at: float) -> str:
    """RFC 3339 in UTC with microseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _source(event: Event) -> str:
    if event.agent is None:
        return "/instance"
    return f"/agents/{event.agent}" + (f"/rings/{event.ring}" if event.ring else "")


def _plain(value: object) -> object:
    """JSON knows neither infinity nor keys that are not text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
