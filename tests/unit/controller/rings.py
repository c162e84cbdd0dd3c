"""An agent with three rings: what its releases meet on their way to production."""

from __future__ import annotations

from tests.unit.controller.stage import Stage
from tests.unit.domain.values import make_release
from turnout.domain.models import CanaryStep, HealthCheck, Release, RingSettings, SmokeTask

CANARY = (CanaryStep(1_000, duration=60.0, tasks=3), CanaryStep(5_000, duration=120.0))
RINGS = (
    RingSettings("dev"),
    RingSettings("staging", warm=50.0),
    RingSettings("production", replicas=2, approvals=1, canary=CANARY),
)
ONE, TWO, THREE = (make_release(f"v{number}", rings=RINGS) for number in (1, 2, 3))
SMOKED = make_release("smoked", rings=RINGS, smoke=(SmokeTask("greet", "/greet"),))
SLOW = make_release("slow", rings=RINGS, health=HealthCheck(start_timeout=20.0))


def to_production(stage: Stage, *releases: Release) -> list[str]:
    """Promote releases to production one after the other; from the second on they stop in their canary."""
    names = []
    for release in releases:
        stage.deploy(release)
        stage.promote("dev", "staging")
        name = stage.promote("staging", "production")
        stage.approve("production")
        stage.look("production")
        names.append(name)
    return names


def finish_canary(stage: Stage, *names: str) -> None:
    """Let the canary in production pass."""
    stage.serve(TWO, list("abc"), "production")
    stage.pass_time(60.0, "production")
    stage.pass_time(120.0, "production")
    assert stage.state(names[-1]) == "active"
