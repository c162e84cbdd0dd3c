"""Which events a target wants: patterns such as `deployment.*` or `deployment.transitioned:rolling_back`. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from turnout.domain.events import Event, EventType
from turnout.domain.phases import Phase

EVERYTHING = ("*",)
INCIDENTS = ("deployment.transitioned:rolling_back", "breaker.tripped")
FOR_PEOPLE = (*INCIDENTS, "tool.refused", "route.down", "route.up")


def is_wanted(event: Event, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns names the event, or the state that it tells of."""
    topics = topics_of(event)
    return any(fnmatchcase(topic, pattern) for pattern in patterns for topic in topics)


def topics_of(event: Event) -> tuple[str, ...]:
    """What an event can be named by: its type, and for a transition also `type:state`."""
    if event.type is EventType.DEPLOYMENT_TRANSITIONED:
        return event.type.value, f"{event.type.value}:{event.data.get('to')}"
    return (event.type.value,)


def is_known(pattern: str) -> bool:
    """Whether a pattern can match anything: one that cannot is a slip of the pen."""
    return any(fnmatchcase(topic, pattern) for topic in known_topics())


def known_topics() -> tuple[str, ...]:
    """All there are."""
    transitions = [f"{EventType.DEPLOYMENT_TRANSITIONED.value}:{phase.value}" for phase in Phase]
    return (*(event.value for event in EventType), *transitions)


def tells_of_incident(event: Event) -> bool:
    """Whether a release was taken back or a breaker tripped: the page about it goes along."""
    if event.type is EventType.BREAKER_TRIPPED:
        return True
    return event.type is EventType.DEPLOYMENT_TRANSITIONED and event.data.get("to") in (
        Phase.ROLLING_BACK.value,
        Phase.ROLLED_BACK.value,
    )
