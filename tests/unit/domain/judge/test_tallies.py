"""Confidence sequences: they hold at all times at once."""

from __future__ import annotations

import math
import random

import pytest

from turnout.domain.judge.tallies import Tally, mean_interval, rate_interval


def test_nothing_is_known_of_an_arm_without_units() -> None:
    assert rate_interval(0, 0, 0.05) == (0.0, 1.0)
    assert mean_interval(Tally(), 0.05) == (0.0, math.inf)


@pytest.mark.parametrize(("bad", "units"), [(0, 50), (50, 50), (4, 50), (400, 5000)])
def test_a_rate_lies_in_its_interval_and_the_interval_in_certainty(bad: int, units: int) -> None:
    low, high = rate_interval(bad, units, 0.05)
    assert 0 <= low <= bad / units <= high <= 1
    assert high - low < 2.2 / math.sqrt(units)


def test_the_sequence_of_a_rate_leaves_the_truth_out_seldom_though_it_is_looked_at_all_the_time() -> None:
    chance, left = random.Random(2), 0
    for _ in range(150):
        bad, out = 0, False
        for units in range(1, 301):
            bad += chance.random() < 0.2
            low, high = rate_interval(bad, units, 0.05) if units % 10 == 0 else (0.0, 1.0)
            out = out or not low <= 0.2 <= high
        left += out
    assert left <= 14


def test_the_sequence_of_a_mean_leaves_the_truth_out_seldom_once_there_are_some_units() -> None:
    chance, left = random.Random(3), 0
    for _ in range(150):
        tally, out = Tally(), False
        for units in range(1, 601):
            tally.count(chance.lognormvariate(-0.5, 1.0), missing=False)
            if units >= 100 and units % 10 == 0:
                low, high = mean_interval(tally, 0.05)
                out = out or not low <= 1.0 <= high
        left += out
    assert left <= 14


def test_missing_costs_are_in_no_mean() -> None:
    tally = Tally()
    for value in (1.0, 2.0, 3.0):
        tally.count(value, missing=False)
    known = mean_interval(tally, 0.05)
    tally.count(0.0, missing=True)
    assert mean_interval(tally, 0.05) == known
