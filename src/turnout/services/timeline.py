"""What was done for and to a deployment, in order: its states, the flips of the pointer, the quarantine. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from turnout.domain.events import Event, EventType
from turnout.domain.models import FULL_WEIGHT, Deployment
from turnout.schemas import WhyStep
from turnout.services.views import view_time

_MOST_STEPS = 40
_NAMED = {
    EventType.ROLLOUT_PAUSED: "rollout paused",
    EventType.ROLLOUT_RESUMED: "rollout resumed",
    EventType.ROLLOUT_ADVANCE_REQUESTED: "asked to leave the canary step",
}


@dataclass(frozen=True, slots=True)
class _Routed:
    """What a ring routes to, as an event of its pointer tells it."""

    stable: object = None
    candidate: object = None
    weight: object = None


def list_done(deployment: Deployment, events: Sequence[Event], name: Callable[[object], str]) -> list[WhyStep]:
    """Of the events of a ring those that concern the deployment. `name` gives the version of a digest.

    Of a long story the beginning and the end.
    """
    steps: list[WhyStep] = []
    routed = _Routed()
    for event in events:
        text = ""
        if event.type is EventType.POINTER_CHANGED:
            now = _Routed(event.data.get("stable"), event.data.get("candidate"), event.data.get("weight"))
            text = _describe_flip(deployment, routed, now, name)
            routed = now
        elif event.deployment == deployment.id:
            text = _describe_event(event)
            if steps and text == f"{event.data.get('to')}: {steps[-1]['what']}":
                text = str(event.data.get("to"))  # the step before said why
        elif event.type is EventType.RELEASE_QUARANTINED and event.data.get("digest") == deployment.digest:
            text = f"{name(deployment.digest)} is put into quarantine"
        if text:
            after = event.at - deployment.created_at
            steps.append({"at": view_time(event.at), "after": after, "by": event.actor, "what": text})
    kept = _MOST_STEPS // 2
    return steps if len(steps) <= _MOST_STEPS else [*steps[:kept], *steps[-kept:]]


def _describe_flip(deployment: Deployment, before: _Routed, after: _Routed, name: Callable[[object], str]) -> str:
    """Only where it touches the release of the deployment."""
    digest = deployment.digest
    if before == after or digest not in (before.stable, before.candidate, after.stable, after.candidate):
        return ""
    if after.candidate == digest:
        share = float(after.weight) * 100 / FULL_WEIGHT if isinstance(after.weight, int | float) else 0.0
        return f"traffic: {share:g} % to {name(digest)}"
    if after.stable != digest:
        return f"traffic: everything to {name(after.stable)}, nothing to {name(digest)}"
    return f"traffic: everything to {name(digest)}" if before.stable != digest else ""


def _describe_event(event: Event) -> str:
    data = event.data
    text = _NAMED.get(event.type, "")
    match event.type:
        case EventType.DEPLOYMENT_CREATED:
            text = f"{data.get('kind')} asked for" + (f": {data['reason']}" if data.get("reason") else "")
        case EventType.DEPLOYMENT_TRANSITIONED:
            text = f"{data.get('to')}: {data.get('reason')}"
        case EventType.DEPLOYMENT_ABORT_REQUESTED:
            text = f"asked to end it: {data.get('reason')}"
        case EventType.ROLLOUT_JUDGED | EventType.BREAKER_TRIPPED:
            text = str(data.get("message") or f"{event.type.value}: {data.get('metric')}")
        case EventType.POLICY_OVERRIDDEN:
            text = f"passed over a policy: {data.get('reason')}"
    return text
