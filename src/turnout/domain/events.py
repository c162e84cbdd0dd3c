"""Everything that can happen, as values. An event is written in the same transaction as the change it tells of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class EventType(StrEnum):
    """The names of events; documented in docs/reference/events.md."""

    RELEASE_PUSHED = "release.pushed"
    RELEASE_UNTAGGED = "release.untagged"
    STORE_COLLECTED = "store.collected"
    RELEASE_QUARANTINED = "release.quarantined"
    RELEASE_CLEARED = "release.cleared"
    DEPLOYMENT_CREATED = "deployment.created"
    DEPLOYMENT_TRANSITIONED = "deployment.transitioned"
    DEPLOYMENT_WAITING = "deployment.waiting"
    DEPLOYMENT_PREPARED = "deployment.prepared"
    DEPLOYMENT_SMOKE_PASSED = "deployment.smoke_passed"
    DEPLOYMENT_ABORT_REQUESTED = "deployment.abort_requested"
    ROLLOUT_STEPPED = "rollout.stepped"
    ROLLOUT_ADVANCE_REQUESTED = "rollout.advance_requested"
    ROLLOUT_JUDGED = "rollout.judged"
    ROLLOUT_PAUSED = "rollout.paused"
    ROLLOUT_RESUMED = "rollout.resumed"
    ROLLOUT_BAKED = "rollout.baked"
    REPLICA_RESTARTED = "replica.restarted"
    BREAKER_TRIPPED = "breaker.tripped"
    BREAKER_RESET = "breaker.reset"
    BUDGET_SET = "budget.set"
    BUDGET_UNSET = "budget.unset"
    TOOL_REFUSED = "tool.refused"
    CALLS_LOST = "calls.lost"
    RECORDING_KEPT = "recording.kept"
    RECORDING_DELETED = "recording.deleted"
    ROUTE_DOWN = "route.down"
    ROUTE_UP = "route.up"
    POINTER_CHANGED = "pointer.changed"
    EVAL_RECORDED = "eval.recorded"
    REPLAY_RECORDED = "replay.recorded"
    APPROVAL_GIVEN = "approval.given"
    APPROVAL_REJECTED = "approval.rejected"
    KEY_TRUSTED = "key.trusted"
    KEY_REVOKED = "key.revoked"
    POLICY_OVERRIDDEN = "policy.overridden"
    TOKEN_CREATED = "token.created"  # noqa: S105
    TOKEN_REVOKED = "token.revoked"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `deployment` is None for what belongs to none."""

    type: EventType
    at: float
    actor: str
    agent: str | None = None
    ring: str | None = None
    deployment: str | None = None
    data: Mapping[str, object] = field(default_factory=dict)
