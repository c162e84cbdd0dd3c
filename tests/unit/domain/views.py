"""Views of a ring that serves v1, to plan from."""

from __future__ import annotations

from typing import Any

from tests.unit.domain.values import AGENT, CANARY, RING, make_deployment, make_release, make_replica
from turnout.domain.models import Deployment, HealthCheck, Pointer, Release, ReplicaState, RingSettings, SmokeTask
from turnout.domain.phases import Phase
from turnout.domain.view import RingView

NOW = 1_000.0
OLD = make_release("v1")
NEW = make_release("v2", health=HealthCheck(start_timeout=60.0))
CAREFUL = make_release("v3", rings=(RingSettings(RING, canary=CANARY),))
SMOKED = make_release("v4", smoke=(SmokeTask("greet", "/greet"),))
ASKED = make_release("v5", rings=(RingSettings(RING, approvals=1),))
SIGNED = make_release("v6", rings=(RingSettings(RING, require=("provenance",)),))
ALL = {release.digest: release for release in (OLD, NEW, CAREFUL, SMOKED, ASKED, SIGNED)}
ON_OLD = Pointer(AGENT, RING, stable=OLD.digest, active_deployment="dep_0")
EXITED, READY, UNREADY, STARTING, STOPPING = (
    ReplicaState.EXITED,
    ReplicaState.READY,
    ReplicaState.UNREADY,
    ReplicaState.STARTING,
    ReplicaState.STOPPING,
)


def look(deployment: Deployment | None = None, **fields: Any) -> RingView:
    """The ring serves v1, whose replica is ready; other replicas are given beside it."""
    others = fields.pop("others", ())
    given: dict[str, Any] = {"pointer": ON_OLD, "replicas": (make_replica(OLD), *others), "releases": ALL}
    return RingView(deployment=deployment, **{**given, **fields})


def validating(release: Release, **fields: Any) -> Deployment:
    """A deployment whose replicas were ready and whose smoke tasks passed."""
    given: dict[str, Any] = {"prepared": True, "smoke_passed": True, "phase_at": NOW}
    return make_deployment(release, phase=Phase.VALIDATING, **{**given, **fields})


def deploying(release: Release, **fields: Any) -> Deployment:
    """A deployment whose replicas are started."""
    return make_deployment(release, phase=Phase.DEPLOYING, prepared=True, **{"phase_at": NOW, **fields})
