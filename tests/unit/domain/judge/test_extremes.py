"""Floods and routers that are stuck: numbers stay numbers, states stay JSON, and nothing is decided wrongly."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from tests.unit.domain.judge.streams import CONFIG, FAILURES
from turnout.domain.errors import DamagedContent, InvalidRequest
from turnout.domain.judge import Judge, JudgeConfig, Kind, Verdict, view_evidence


@pytest.mark.parametrize(
    ("share", "to_candidate", "bad"), list(product((0.02, 0.5, 0.9), (False, True), (False, True)))
)
def test_thousands_of_units_of_one_arm_in_a_minute_overflow_nothing(
    share: float, to_candidate: bool, bad: bool
) -> None:
    judge = Judge(CONFIG)
    for number in range(3000):
        arm = "candidate" if to_candidate == (number < 2500) else "stable"
        judge.start(f"t{number}", arm, share, number / 100)
        judge.outcome(f"t{number}", number / 100, failed=bad, intervened=bad, cost=2.0 if bad else 0.01)
    verdict = judge.verdict(1e4)
    assert (verdict.kind, verdict.metric) == (Kind.HOLD, "sample_ratio")
    assert math.isfinite(verdict.evidence.against)
    json.dumps(judge.to_state(), allow_nan=False)
    json.dumps(view_evidence(verdict), allow_nan=False)


@pytest.mark.parametrize("value", [10**400, -(10**400), 1e308, 10**300 + 1])
def test_numbers_beyond_all_bounds_are_refused_and_not_computed_with(value: float) -> None:
    judge = Judge(CONFIG)
    judge.start("a", "candidate", 0.5, 0.0)
    judge.outcome("a", 1.0, failed=False, cost=value)
    judge.start("b", "candidate", value, 2.0)
    judge.start("c", "candidate", 0.5, value)
    bad = judge.verdict(3.0).evidence.bad
    assert bad["probability not between 0 and 1"] == bad["impossible time"] == 1
    assert sum(bad.values()) == 3


def test_the_state_of_thousands_of_open_units_is_kept_and_read_in_no_time() -> None:
    judge = Judge(CONFIG)
    for number in range(5000):
        judge.start(f"0f9d1c3e5b7a-{number}", "candidate" if number % 20 == 0 else "stable", 0.05, number / 10)
    for number in range(1, 5000, 2):
        judge.outcome(f"0f9d1c3e5b7a-{number}", 500 + number / 100, failed=False, intervened=False, cost=0.08)
    took = []
    for _ in range(3):
        began = time.process_time()
        state = judge.to_state()
        again = Judge.from_state(state)
        took.append(time.process_time() - began)
    assert again.to_state() == state
    assert again.verdict(560.0).evidence.open_units == 5000
    assert min(took) < 0.1


def test_a_state_that_was_taken_does_not_change_with_the_judge() -> None:
    judge = Judge(CONFIG)
    judge.start("a", "candidate", 0.5, 0.0)
    judge.start("b", "stable", 0.5, 0.0)
    state = judge.to_state()
    before = json.dumps(state)
    judge.outcome("b", 1.0, failed=True)
    judge.outcome("a", 1.0, failed=True, cost=3.0)
    judge.verdict(1e4)
    assert json.dumps(state) == before


def enumerated(config: JudgeConfig, share: float, failing: float) -> Iterator[tuple[float, Verdict]]:
    """What is said of every course that three units can take, with its probability, when the arms are equal."""
    for arms, bad in product(product((False, True), repeat=3), product((False, True), repeat=3)):
        judge, chance = Judge(config), 1.0
        for number, (candidate, value) in enumerate(zip(arms, bad, strict=True)):
            chance *= (share if candidate else 1 - share) * (failing if value else 1 - failing)
            judge.start(f"t{number}", "candidate" if candidate else "stable", share, 40.0 * number)
            judge.outcome(f"t{number}", 40.0 * number + 1, failed=value)
        judge.start("later", "stable", share, 200.0)  # with it the units of the stable arm before it are settled
        yield chance, judge.verdict(5000.0)


@pytest.mark.parametrize("share", [0.02, 0.5])
@pytest.mark.parametrize("failing", [0.08, 0.3, 1.0])
def test_over_all_outcomes_of_three_units_the_evidence_of_a_judge_is_one_on_average(
    share: float, failing: float
) -> None:
    said = list(enumerated(FAILURES, share, failing))
    assert sum(chance * verdict.evidence.against for chance, verdict in said) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("share", [0.02, 0.5])
@pytest.mark.parametrize("failing", [0.08, 0.3, 1.0])
def test_over_all_outcomes_of_three_units_an_equal_candidate_is_aborted_no_oftener_than_promised(
    share: float, failing: float
) -> None:
    said = list(enumerated(replace(FAILURES, alpha=0.7, hold_at=1.2), share, failing))
    aborted = sum(chance for chance, verdict in said if verdict.kind is Kind.FAIL)
    assert 0 < aborted <= 0.7


PARTS = sorted(Judge().to_state())


@pytest.mark.parametrize(
    "part", [name for name in PARTS if name not in {"version", "base", "began", "against", "failed"}]
)
@pytest.mark.parametrize("junk", [None, 3, "x", ["x"], [None]], ids=str)
def test_a_state_that_is_not_one_is_refused_and_does_not_crash(part: str, junk: object) -> None:
    with pytest.raises((DamagedContent, InvalidRequest)):
        Judge.from_state({**Judge().to_state(), part: junk})
