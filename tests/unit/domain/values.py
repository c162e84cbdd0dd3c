"""Values of the domain with every field filled in, for tests of what is decided about them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from turnout.domain.models import (
    Approval,
    CanaryStep,
    ComponentRef,
    Deployment,
    Digest,
    Kind,
    Release,
    ReleaseSpec,
    ReplicaState,
    ReplicaStatus,
    RingSettings,
)
from turnout.domain.phases import Phase

AGENT = "support"
RING = "production"
CANARY = (CanaryStep(1_000, duration=60.0, tasks=2), CanaryStep(5_000, duration=60.0))


def make_digest(name: str) -> Digest:
    """The digest of a release called so."""
    return Digest(f"sha256:{hashlib.sha256(name.encode()).hexdigest()}")


def make_release(
    name: str, *, rings: Iterable[RingSettings] | None = None, author: str = "ann", agent: str = AGENT, **spec: Any
) -> Release:
    """A release of the version `name`; by default for the ring `RING` alone."""
    settings = tuple(rings) if rings is not None else (RingSettings(RING),)
    digest = make_digest(f"{agent}/{name}")
    return Release(
        digest=digest,
        agent=agent,
        version=name,
        components={"code": ComponentRef(make_digest(f"code of {name}"), "application/x-tar", 3)},
        spec=ReleaseSpec(agent=agent, start=("python", "agent.py"), rings=settings, **spec),
        author=author,
        created_at=1.0,
    )


def make_deployment(release: Release, name: str = "dep_1", phase: Phase = Phase.QUEUED, **fields: Any) -> Deployment:
    """A deployment of a release to the ring `RING`."""
    given: dict[str, Any] = {"ring": RING, "kind": Kind.DEPLOY, "actor": "ann", "created_at": 0.0, "phase_at": 0.0}
    return Deployment(id=name, agent=release.agent, digest=release.digest, phase=phase, **{**given, **fields})


def make_replica(
    release: Release, state: ReplicaState = ReplicaState.READY, index: int = 0, **fields: Any
) -> ReplicaStatus:
    """A replica of a release in the ring `RING`, with an address of its own while it runs."""
    given: dict[str, Any] = {"ring": RING, "attempt": 1}
    if state is not ReplicaState.EXITED:
        given["address"] = f"{release.version}-{index}:1"
    return ReplicaStatus(agent=release.agent, digest=release.digest, index=index, state=state, **{**given, **fields})


def make_approval(
    release: Release, approver: str, *, approved: bool = True, at: float = 0.0, **fields: Any
) -> Approval:
    """A decision about a release in the ring `RING` that holds for 100 seconds."""
    given: dict[str, Any] = {"ring": RING, "expires_at": at + 100.0}
    return Approval(
        agent=release.agent, digest=release.digest, approver=approver, approved=approved, at=at, **{**given, **fields}
    )
