"""Steering and planning rollouts: what the answers say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.controller.stage import ADMIN, Stage, staged
from tests.unit.domain.values import AGENT, make_release
from turnout.domain.models import CanaryStep, JudgeSettings, Ramp, RingSettings
from turnout.schemas import RolloutPlanView
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


STEPS = (CanaryStep(1_000, duration=60.0), CanaryStep(5_000, duration=60.0, tasks=500))


def plan(folder: Path, ramp: Ramp, steps: tuple[CanaryStep, ...] = STEPS, **judge: float) -> RolloutPlanView:
    """By 500 tasks in ten minutes, none of which failed."""
    settings = RingSettings("dev", canary=steps, judge=JudgeSettings(ramp, **judge))  # type: ignore[arg-type]
    release = make_release("v1", rings=(settings,))
    with staged(folder, (release,)) as stage:
        stage.deploy(release)
        stage.serve(release, [f"t{number}" for number in range(500)])
        stage.clock.at += 600.0
        return rollouts.plan_rollout(stage.office, ADMIN, AGENT, "dev", None)


def test_a_watched_rollout_is_planned_by_time_and_tasks_alone(tmp_path: Path) -> None:
    first, second = plan(tmp_path, Ramp.WATCH)["steps"]
    assert (first["share"], first["seconds"], first["tasks"], first["proof"], first["slowest"]) == (
        0.1,
        60.0,
        0,
        False,
        None,
    )
    assert first["leaves_at_hours"] == pytest.approx(1 / 60)
    assert (second["share"], second["proof"]) == (0.5, False)
    # 3,000 tasks an hour, half of them the candidate's: 500 take 20 minutes.
    assert second["leaves_at_hours"] == pytest.approx(21 / 60, rel=0.02)


def test_a_timed_rollout_waits_for_proof_at_its_last_step(tmp_path: Path) -> None:
    planned = plan(tmp_path, Ramp.TIMED)
    assert [step["proof"] for step in planned["steps"]] == [False, True]
    assert planned["steps"][0]["leaves_at_hours"] == pytest.approx(1 / 60)
    passed, last = planned["hours_to_pass"], planned["steps"][1]["leaves_at_hours"]
    assert passed is not None
    assert last == pytest.approx(max(passed, 21 / 60), rel=0.02)


def test_a_rollout_by_evidence_waits_for_proof_at_each_step(tmp_path: Path) -> None:
    """There are three levels of margins: of more steps the first ones wait for the coarsest."""
    more = tuple(CanaryStep(weight) for weight in (100, 1_000, 2_500, 5_000))
    planned = plan(tmp_path, Ramp.EVIDENCE, more)
    assert [step["proof"] for step in planned["steps"]] == [True, True, True, True]
    hours = [step["leaves_at_hours"] or 0.0 for step in planned["steps"]]
    assert 0.0 < hours[0] <= hours[1] <= hours[2] <= hours[3] == planned["hours_to_pass"]


def test_what_is_not_left_within_the_limit_has_no_hours(tmp_path: Path) -> None:
    planned = plan(tmp_path, Ramp.EVIDENCE, limit=60.0)
    assert (planned["decides"], planned["steps"][-1]["leaves_at_hours"]) == (False, None)
    assert plan(tmp_path, Ramp.WATCH, limit=90.0)["steps"][-1]["leaves_at_hours"] is None


def test_the_pace_is_that_of_the_ring_and_a_rollback_does_not_change_it(stage: Stage) -> None:
    """500 tasks in ten minutes, then another release, then back to the first: a minute later it is the same pace."""
    stage.deploy(ONE)
    stage.serve(ONE, [f"t{number}" for number in range(500)])
    stage.pass_time(600.0)
    stage.deploy(TWO)
    stage.pass_time(61.0)
    assert stage.pointer().stable == TWO.digest
    stage.roll_back()
    assert stage.pointer().stable == ONE.digest
    stage.pass_time(60.0)
    planned = rollouts.plan_rollout(stage.office, ADMIN, AGENT, "dev", None)
    assert planned["tasks_per_hour"] == pytest.approx(500 * 3600 / 721, rel=0.05)


@pytest.mark.parametrize(("tasks", "assumed", "failure"), [(2, True, 0.05), (19, True, 0.05), (20, False, 1.0)])
def test_rates_of_a_few_tasks_are_not_told_as_facts(stage: Stage, tasks: int, assumed: bool, failure: float) -> None:
    stage.deploy(ONE)
    stage.serve(ONE, [f"t{number}" for number in range(tasks)], status=500)
    planned = rollouts.plan_rollout(stage.office, ADMIN, AGENT, "dev", None)
    assert (planned["seen"], planned["assumed"], planned["rates"]["failure"]) == (tasks, assumed, failure)


def in_time(planned: RolloutPlanView) -> dict[float, bool]:
    """Which additional failures are found before the rollout is over."""
    return {item["effect"]: item["in_time"] for item in planned["detections"] if item["metric"] == "failure"}


SHORT = (CanaryStep(1_000, duration=60.0), CanaryStep(5_000, duration=60.0))


def test_a_canary_that_is_over_before_finds_nothing_and_a_bake_gives_the_judge_its_time(tmp_path: Path) -> None:
    short = plan(tmp_path, Ramp.WATCH, SHORT)
    assert short["over_after_hours"] == pytest.approx(2 / 60)
    assert not any(in_time(short).values())
    assert short["detections"][2]["hours"] is not None, "what it would need is told all the same"
    baked = plan(tmp_path, Ramp.WATCH, SHORT, bake=36_000.0, holdback=200)
    assert (baked["bake_hours"], in_time(baked)[0.10]) == (10.0, True)
    found = baked["detections"][2]["hours"]
    assert found is not None
    assert 2 / 60 < found < 10.0
    without = plan(tmp_path, Ramp.WATCH, SHORT, bake=36_000.0)
    assert (without["bake_hours"], in_time(without)[0.10]) == (0.0, False)


def test_a_rollout_that_waits_for_proof_has_until_its_limit(tmp_path: Path) -> None:
    for ramp in (Ramp.TIMED, Ramp.EVIDENCE):
        planned = plan(tmp_path, ramp, SHORT)
        assert planned["over_after_hours"] is None
        assert all(item["in_time"] == (item["hours"] is not None) for item in planned["detections"])
        assert in_time(planned)[0.10]


def condition(stage: Stage, name: str) -> str:
    """What a deployment waits for once the controller has come by."""
    stage.look()
    found = stage.deployment(name).condition
    assert found is not None
    return f"{found.type}: {found.message}"
