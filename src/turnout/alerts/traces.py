"""A deployment as a trace: the whole is the root span with its events, each state that it was in a child. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from turnout.domain.events import Event, EventType
from turnout.domain.models import Deployment
from turnout.domain.phases import Phase

_ENDS = frozenset({Phase.ACTIVE.value, Phase.FAILED.value, Phase.ROLLED_BACK.value})
_BAD = frozenset({Phase.FAILED.value, Phase.ROLLED_BACK.value})

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Moment:
    """An event on a span."""

    name: str
    at: float
    attributes: tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True)
class Span:
    """One span. Ids as integers, times in seconds since the epoch; `link`: the trace that went before, with its root."""

    trace: int
    id: int
    parent: int | None
    name: str
    start: float
    end: float
    attributes: tuple[tuple[str, Value], ...]
    moments: tuple[Moment, ...] = ()
    failed: str | None = None  # why
    link: tuple[int, int] | None = None


def ends_trace(event: Event) -> bool:
    """Whether a deployment became active, failed, or has been taken back."""
    return event.type is EventType.DEPLOYMENT_TRANSITIONED and event.data.get("to") in _ENDS


def plan_trace(deployment: Deployment, version: str, events: Sequence[Event], instance: str) -> tuple[Span, ...]:
    """The spans of what ended with the last of the events of a deployment; none where nothing ended.

    The way to active is one trace. What an active release is taken back by is another, that links to the first. Ids follow
    from the deployment, so that a trace that is sent again is the same.
    """
    stays = _stays(events)
    last = events[-1] if events else None
    if last is None or not ends_trace(last) or not stays:
        return ()
    active_at = next((event.at for event in events if event.data.get("to") == Phase.ACTIVE.value), None)
    back = last.data.get("to") == Phase.ROLLED_BACK.value and active_at is not None
    if back:
        stays = [stay for stay in stays if stay[0] == Phase.ROLLING_BACK.value]
        events = [event for event in events if stays and event.at >= stays[0][1]]
    if not stays:
        return ()
    kind = "taking back" if back else deployment.kind.value
    seed = f"{instance}/{deployment.id}"
    trace = _id(f"{seed}/{kind}", 16)
    name = f"{kind} {deployment.agent} {deployment.ring}"
    root = Span(
        trace=trace,
        id=_id(f"{seed}/{kind}/root", 8),
        parent=None,
        name=name,
        start=stays[0][1],
        end=max(last.at, stays[0][1]),
        attributes=_attributes(deployment, version, str(last.data.get("to"))),
        moments=tuple(_moment(event) for event in events if event.type is not EventType.DEPLOYMENT_TRANSITIONED),
        failed=str(last.data.get("reason", "")) if last.data.get("to") in _BAD else None,
    )
    if back:
        first = f"{seed}/{deployment.kind.value}"
        root = replace(root, link=(_id(first, 16), _id(f"{first}/root", 8)))
    children = [
        Span(
            trace=trace,
            id=_id(f"{seed}/{kind}/{index}", 8),
            parent=root.id,
            name=state,
            start=start,
            end=max(end, start),
            attributes=(("turnout.state", state), ("turnout.reason", reason)),
        )
        for index, (state, start, end, reason) in enumerate(stays)
    ]
    return (root, *children)


def _stays(events: Sequence[Event]) -> list[tuple[str, float, float, str]]:
    """(state, from, until, why it was left), without the state that it is in now."""
    stays = []
    state, since = Phase.QUEUED.value, events[0].at if events else 0.0
    for event in events:
        if event.type is EventType.DEPLOYMENT_TRANSITIONED:
            stays.append((state, since, event.at, str(event.data.get("reason", ""))))
            state, since = str(event.data.get("to")), event.at
    return stays


def _attributes(deployment: Deployment, version: str, end: str) -> tuple[tuple[str, Value], ...]:
    return (
        ("turnout.agent", deployment.agent),
        ("turnout.ring", deployment.ring),
        ("turnout.deployment", deployment.id),
        ("turnout.release.version", version),
        ("turnout.release.digest", deployment.digest),
        ("turnout.kind", deployment.kind.value),
        ("turnout.actor", deployment.actor),
        ("turnout.ended", end),
    )


def _moment(event: Event) -> Moment:
    plain = [(name, value) for name, value in event.data.items() if isinstance(value, str | int | float)]
    named = tuple((f"turnout.{name}", value) for name, value in plain)
    return Moment(event.type.value, event.at, (("turnout.actor", event.actor), *named))


def _id(seed: str, size: int) -> int:
    """Never 0, which means none."""
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:size], "big") or 1
