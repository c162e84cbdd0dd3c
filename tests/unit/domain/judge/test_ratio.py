"""The test of the share that the router gave: fair under the truth, found when it is another, never forgotten."""

from __future__ import annotations

import json
import random
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.domain.judge.ratio import SampleRatio


def counted(arms: list[bool], share: float, alpha: float = 0.001) -> SampleRatio:
    ratio = SampleRatio(alpha)
    for candidate in arms:
        ratio.count(candidate, share)
    return ratio


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("changed", [None, 0.5])
def test_over_all_arms_of_six_units_the_evidence_is_worth_what_was_staked(share: float, changed: float | None) -> None:
    expected = 0.0
    for arms in product((False, True), repeat=6):
        ratio, chance = SampleRatio(1e-9), 1.0
        for number, candidate in enumerate((*arms, True)):
            of_candidate = changed if changed is not None and number >= 3 else share
            ratio.count(candidate, of_candidate)
            if number < 6:
                chance *= of_candidate if candidate else 1 - of_candidate
        last = ratio.wealth  # with a seventh unit, which settles what was only counted, taken out again
        clean = [value / factor for value, factor in zip(last, last_factors(changed or share), strict=True)]
        expected += chance * sum(clean) / len(clean)
    assert expected == pytest.approx(1.0)


def last_factors(share: float) -> list[float]:
    one = counted([True], share)
    return one.wealth


def test_the_share_that_was_meant_is_seldom_complained_about_though_it_is_looked_at_all_the_time() -> None:
    chance, complaints = random.Random(1), 0
    for _ in range(300):
        ratio = counted([chance.random() < 0.05 for _ in range(400)], 0.05, alpha=0.05)
        complaints += ratio.mismatch
    assert complaints <= 25


@pytest.mark.parametrize(("meant", "given"), [(0.05, 0.0), (0.05, 0.15), (0.5, 0.3), (0.5, 1.0)])
def test_another_share_is_found(meant: float, given: float) -> None:
    chance = random.Random(2)
    assert counted([chance.random() < given for _ in range(1500)], meant).mismatch


def test_a_mismatch_stays_when_the_share_is_right_again() -> None:
    chance = random.Random(3)
    ratio = counted([True] * 60, 0.05)
    assert ratio.mismatch
    for _ in range(5000):
        ratio.count(chance.random() < 0.05, 0.05)
    assert ratio.mismatch
    assert ratio.doubtful


def test_doubt_comes_before_a_complaint_and_goes_again() -> None:
    ratio = counted([True] * 5, 0.3)
    assert ratio.doubtful
    assert not ratio.mismatch
    for _ in range(200):
        ratio.count(False, 0.05)
    for number in range(400):
        ratio.count(number % 4 == 0, 0.3)
    assert not ratio.doubtful


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.02, 0.3])), max_size=60), st.integers(0, 60))
def test_a_state_in_between_changes_nothing(units: list[tuple[bool, float]], cut: int) -> None:
    whole, first, second = (SampleRatio(0.001) for _ in range(3))
    for unit in units:
        whole.count(*unit)
    for unit in units[:cut]:
        first.count(*unit)
    second.load(json.loads(json.dumps(first.to_state())))
    for unit in units[cut:]:
        second.count(*unit)
    assert second.to_state() == whole.to_state()
