"""What a plan looks at, as one value: what is wanted of a ring, and what is observed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from turnout.domain.breakers import Trip
from turnout.domain.models import (
    Approval,
    Deployment,
    Digest,
    Judgement,
    JudgeSettings,
    Pointer,
    Quarantine,
    Release,
    ReplicaStatus,
    RingSettings,
)
from turnout.domain.replays import KeptReplay
from turnout.domain.verdicts import choose_judge


@dataclass(frozen=True, slots=True)
class Job:
    """Long work that runs beside the controller: under way, or over. `error` is None when it went well."""

    over: bool = False
    error: str | None = None
    message: str = ""  # how far it is, for a person


@dataclass(frozen=True, slots=True)
class RingView:
    """All that a plan looks at: what is wanted (pointer, deployments, approvals) and what is observed."""

    pointer: Pointer
    releases: Mapping[Digest, Release]  # of every digest that the pointer or a deployment names
    deployment: Deployment | None = None  # the deploy or promotion in progress
    rollback: Deployment | None = None  # the rollback in progress
    rolling_back: tuple[Deployment, ...] = ()
    approvals: tuple[Approval, ...] = ()
    replicas: tuple[ReplicaStatus, ...] = ()
    preparations: Mapping[str, Job] = field(default_factory=dict)  # by deployment
    verifications: Mapping[str, Job] = field(default_factory=dict)  # by deployment
    smoke: Mapping[str, Job] = field(default_factory=dict)  # by deployment
    replays: Mapping[str, Job] = field(default_factory=dict)  # by deployment
    replay: KeptReplay | None = None  # what the replay for `deployment` found
    slot_free: bool = True
    unproven: tuple[str, ...] = ()  # suites that the release of `deployment` has not passed, a sentence each
    quarantine: Quarantine | None = None  # of the release of `deployment`
    tasks: int = 0  # tasks that came to the candidate since its step began
    judgement: Judgement | None = None  # of the rollout that the pointer names
    baking: Deployment | None = None  # the active deployment, while it is still judged
    active: Deployment | None = None
    taken_back: bool = False  # a rollback was made by itself for this state of the pointer; it may have failed
    trip: Trip | None = None  # a breaker that tripped for stable or candidate
    routed: bool = True  # the proxy has confirmed the routes that follow from the pointer
    active_requests: Mapping[Digest, int] = field(default_factory=dict)
    draining_since: Mapping[str, float] = field(default_factory=dict)  # by replica id

    def settings(self, digest: Digest) -> RingSettings:
        """What a release asks of this ring."""
        return self.releases[digest].spec.ring(self.pointer.ring) or RingSettings(self.pointer.ring)

    def judge(self, candidate: Digest, other: Digest | None) -> JudgeSettings:
        """How a rollout of `candidate` beside `other` is judged."""
        release = self.releases.get(other) if other is not None else None
        stable = release.spec.ring(self.pointer.ring) if release is not None else None
        return choose_judge(self.settings(candidate), stable)
