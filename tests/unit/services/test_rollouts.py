"""Steering and planning rollouts: what the answers say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.controller.stage import ADMIN, Stage, staged
from tests.unit.domain.values import AGENT, make_release
from turnout.domain.models import CanaryStep, RingSettings
from turnout.services import rollouts

RINGS = (RingSettings("dev", canary=(CanaryStep(1_000, duration=60.0),)),)
ONE, TWO = (make_release(f"v{number}", rings=RINGS) for number in (1, 2))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path, (ONE, TWO)) as stage:
        yield stage


def test_what_is_paused_or_goes_on_is_said_by_the_answer_itself(stage: Stage) -> None:
    stage.deploy(ONE)
    name = stage.deploy(TWO)
    paused = rollouts.pause(stage.office, ADMIN, AGENT, "dev", paused=True)
    assert paused["condition"] is not None
    assert (paused["condition"]["type"], paused["condition"]["message"]) == ("paused", "until `turnout rollout resume`")
    assert condition(stage, name) == "paused: step 1 of 1: 10 % until 60 s; paused until `turnout rollout resume`"
    assert rollouts.pause(stage.office, ADMIN, AGENT, "dev", paused=False)["condition"] is None
    assert condition(stage, name) == "canary: step 1 of 1: 10 % until 60 s"


def condition(stage: Stage, name: str) -> str:
    """What a deployment waits for once the controller has come by."""
    stage.look()
    found = stage.deployment(name).condition
    assert found is not None
    return f"{found.type}: {found.message}"
