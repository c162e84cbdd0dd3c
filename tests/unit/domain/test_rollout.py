"""The steps of a canary, and what must hold at each."""

from __future__ import annotations

from tests.unit.domain.values import AGENT, CANARY, RING, make_deployment, make_release
from turnout.domain.models import CanaryStep, Kind, Pointer, RingSettings, Rollout
from turnout.domain.rollout import canary_steps, describe_step, format_weight, step_is_over

OLD, NEW = make_release("v1"), make_release("v2")
STABLE = Pointer(AGENT, RING, stable=OLD.digest)
SETTINGS = RingSettings(RING, canary=CANARY)
STEP = CanaryStep(1_000, duration=60.0, tasks=5)


def test_a_new_release_beside_a_stable_one_takes_every_step() -> None:
    assert canary_steps(make_deployment(NEW), STABLE, SETTINGS) == CANARY


def test_there_is_no_canary_without_something_to_compare_with() -> None:
    assert canary_steps(make_deployment(NEW), Pointer(AGENT, RING), SETTINGS) == ()
    assert canary_steps(make_deployment(OLD), STABLE, SETTINGS) == ()


def test_a_release_cannot_leave_out_the_canary_of_the_one_that_serves() -> None:
    bold = RingSettings(RING)
    assert canary_steps(make_deployment(NEW), STABLE, bold, SETTINGS) == CANARY
    assert canary_steps(make_deployment(NEW), STABLE, SETTINGS, bold) == CANARY
    assert canary_steps(make_deployment(NEW), STABLE, bold, None) == ()


def test_a_rollback_is_not_tried_first() -> None:
    assert canary_steps(make_deployment(NEW, kind=Kind.ROLLBACK), STABLE, SETTINGS) == ()


def test_a_step_is_over_when_both_time_and_tasks_are_reached() -> None:
    rollout = Rollout(0, entered_at=100.0)
    assert not step_is_over(rollout, STEP, tasks=5, now=159.9)
    assert not step_is_over(rollout, STEP, tasks=4, now=160.0)
    assert step_is_over(rollout, STEP, tasks=5, now=160.0)


def test_a_step_is_described_for_people() -> None:
    assert describe_step(1, (STEP, CanaryStep(50, 90.0, 3))) == "step 2 of 2: 0.5 % until 90 s and 3 tasks"
    assert [format_weight(weight) for weight in (1, 100, 3_333, 10_000)] == ["0.01 %", "1 %", "33.33 %", "100 %"]
