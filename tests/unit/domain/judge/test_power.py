"""What a rollout will be able to tell apart, beside simulated rollouts of the same."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.unit.domain.judge.streams import CONFIG, HISTORY, feed, stream
from turnout.domain.errors import InvalidRequest
from turnout.domain.judge import Judge, JudgeConfig, Kind, Margins
from turnout.domain.judge.power import nats_needed, plan_power

# Medians of benchmarks/judge.py at 1,000 units an hour.
MEASURED_TASKS = {("failure", 0.10): 84, ("cost", 0.5): 93}
MEASURED_STEPS = (1.4, 2.1, 3.9)


def test_faults_take_about_as_many_tasks_as_simulated() -> None:
    found = plan_power(CONFIG, 1000.0, steps=(0.02,), effects=MEASURED_TASKS).detections
    for detection in found:
        assert detection.tasks == pytest.approx(MEASURED_TASKS[detection.metric, detection.effect], rel=0.2)


def test_a_pass_takes_about_as_long_as_simulated() -> None:
    plan = plan_power(CONFIG, 1000.0)
    assert plan.decides
    for step, measured in zip(plan.steps, MEASURED_STEPS, strict=True):
        assert step.leaves_at == pytest.approx(measured, rel=0.35)


def test_what_cannot_be_told_in_time_is_said_before() -> None:
    plan = plan_power(CONFIG, 10.0)
    assert not plan.decides
    assert plan.hours_to_pass is None
    small = next(found for found in plan.detections if (found.metric, found.effect) == ("failure", 0.03))
    assert (small.tasks, small.hours) == (None, None)


def test_more_traffic_takes_less_time_and_as_many_tasks() -> None:
    slow, fast = (plan_power(CONFIG, pace, limit=1e6).detections[0] for pace in (100.0, 10_000.0))
    assert slow.hours is not None
    assert slow.hours == pytest.approx(100 * (fast.hours or 0))
    assert slow.tasks == fast.tasks


def test_worse_faults_are_found_sooner() -> None:
    found = plan_power(CONFIG, 1000.0, effects=[("failure", effect) for effect in (0.03, 0.05, 0.1, 0.5)], limit=1e6)
    hours = [detection.hours or math.inf for detection in found.detections]
    assert hours == sorted(hours, reverse=True)


def test_what_is_tolerated_is_not_found() -> None:
    config = JudgeConfig(history=HISTORY, tolerance=Margins(0.02, 0.0, 0.0))
    assert plan_power(config, 1e9, effects=[("failure", 0.02)]).detections[0].tasks is None


def test_metrics_that_are_not_judged_are_not_planned() -> None:
    plan = plan_power(replace(CONFIG, metrics=("failure",)), 1000.0)
    assert {found.metric for found in plan.detections} == {"failure"}


def test_a_walk_needs_more_for_more_confidence() -> None:
    assert nats_needed(3.0, 0.5) < 3.0 < nats_needed(3.0, 0.8)


@pytest.mark.parametrize(("pace", "steps"), [(0.0, (0.05,)), (math.nan, (0.05,)), (1.0, ()), (1.0, (1.0,))])
def test_a_plan_needs_traffic_and_shares(pace: float, steps: tuple[float, ...]) -> None:
    with pytest.raises(InvalidRequest):
        plan_power(CONFIG, pace, steps=steps)


def test_a_verdict_that_is_open_says_what_it_needs() -> None:
    judge = Judge(CONFIG)
    feed(judge, stream(1, units=400, share=0.3, pace=10.0))
    evidence = judge.verdict(4000.0).evidence
    needs = {need.metric: need for need in evidence.needed}
    assert "failure" in needs
    for need in needs.values():
        assert need.nats == pytest.approx(math.log(20 / evidence.metrics[need.metric].levels[-1].evidence))
        assert need.hours is not None
        assert need.tasks == pytest.approx(need.hours * 400 / (4000 / 3600) * 0.3, rel=0.1)


def test_nothing_is_needed_once_all_is_proven_and_everything_before_the_first_unit() -> None:
    judge = Judge(CONFIG)
    assert [need.hours for need in judge.verdict(0.0).evidence.needed] == [None] * 3
    feed(judge, stream(0, units=9000, share=0.5, pace=2.0))
    verdict = judge.verdict(1e6)
    assert verdict.kind is Kind.PASS
    assert verdict.evidence.needed == ()
