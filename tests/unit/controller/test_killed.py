"""A server that is killed around any of its effects leaves a ring that the next one finishes."""

from __future__ import annotations

from pathlib import Path

from tests.unit.controller.stage import Stage, staged
from tests.unit.domain.values import make_release
from turnout.domain.models import CanaryStep, RingSettings, SmokeTask
from turnout.domain.phases import IN_PROGRESS, Phase

RINGS = (RingSettings("dev", warm=100.0, drain=30.0),)
CANARY = (RingSettings("dev", canary=(CanaryStep(1_000, duration=60.0),), warm=100.0),)
ONE, TWO = (make_release(f"v{number}", rings=RINGS) for number in (1, 2))
CAREFUL = make_release("careful", rings=CANARY, smoke=(SmokeTask("greet", "/greet"),))


class Killed(BaseException):
    """The server ends here."""


def scenario(stage: Stage) -> None:
    """Two releases become active, a third runs its canary and is rolled back, and so is the second."""
    stage.deploy(ONE)
    stage.deploy(TWO)
    stage.deploy(CAREFUL)
    stage.roll_back()
    stage.roll_back()


def count_effects(folder: Path) -> int:
    folder.mkdir()
    effects: list[str] = []
    with staged(folder, (ONE, TWO, CAREFUL)) as stage:
        stage.on_effect = effects.append
        scenario(stage)
    return len(effects)


def test_a_server_that_is_killed_around_any_effect_leaves_a_ring_that_the_next_one_finishes(tmp_path: Path) -> None:
    for number in range(0, count_effects(tmp_path / "count"), 9):
        folder = tmp_path / str(number)
        folder.mkdir()
        with staged(folder, (ONE, TWO, CAREFUL)) as stage:
            play_killed_at(stage, number)
            assert stage.answers() == (200, ONE.digest), f"killed at effect {number}"
            assert_consistent(stage)


def play_killed_at(stage: Stage, number: int) -> None:
    """The scenario; the server is killed at its n-th effect, and another with the same name goes on."""
    left = [number]
    server = [stage]

    def kill(_: str) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise Killed

    stage.on_effect = kill

    def look(ring: str = "dev", times: int = 8) -> None:
        try:
            Stage.look(server[0], ring, times)
        except Killed:
            server[0] = stage.another_server(stage.holder)
            Stage.look(server[0], ring, times)

    stage.look = look  # type: ignore[method-assign]
    scenario(stage)
    look()


def assert_consistent(stage: Stage) -> None:
    with stage.store.snapshot() as snapshot:
        deployments = snapshot.deployments(limit=100)
    active = [item for item in deployments if item.phase is Phase.ACTIVE]
    assert [item.id for item in active] == [stage.pointer().active_deployment]
    assert not [item for item in deployments if item.phase in IN_PROGRESS]
    for item in deployments:
        states = stage.states(item.id)
        assert len(states) == len(set(states)), f"{item.id} came to a state twice: {states}"
    assert stage.pointer().stable == ONE.digest
