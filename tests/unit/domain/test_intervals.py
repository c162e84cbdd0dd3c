"""Bounds: known values of tables, limits that hold for any input, and how often a bound misses."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.domain.intervals import (
    clustered_share_bounds,
    difference_bounds,
    effective_runs,
    mean_bounds,
    regularised_beta,
    share_bounds,
    skewed_mean_bound,
    t_quantile,
)

runs = st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=6), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("probability", "degrees", "quantile"),
    [(0.975, 10, 2.228139), (0.95, 3, 2.353363), (0.95, 1, 6.313752), (0.05, 3, -2.353363), (0.5, 7, 0.0)],
)
def test_quantiles_of_student_are_those_of_the_tables(probability: float, degrees: int, quantile: float) -> None:
    assert t_quantile(probability, degrees) == pytest.approx(quantile, abs=1e-6)


def test_the_bounds_of_a_share_are_those_of_clopper_and_pearson() -> None:
    assert share_bounds(8, 10, 0.975) == pytest.approx((0.443905, 0.974789), abs=1e-6)
    assert share_bounds(0, 10, 0.95) == pytest.approx((0.0, 1 - 0.05 ** (1 / 10)))
    assert share_bounds(10, 10, 0.95) == pytest.approx((0.05 ** (1 / 10), 1.0))
    assert share_bounds(0, 0, 0.95) == (0.0, 1.0)


@given(st.floats(0, 1), st.floats(0.5, 300), st.floats(0.5, 300))
def test_the_beta_function_is_a_probability_and_symmetric(x: float, a: float, b: float) -> None:
    value = regularised_beta(x, a, b)
    assert -1e-12 <= value <= 1 + 1e-12
    assert value == pytest.approx(1 - regularised_beta(1 - x, b, a), abs=1e-9)


@given(runs)
def test_a_share_lies_between_its_bounds_and_its_runs_count_as_some_of_them(cases: list[list[float]]) -> None:
    low, high = clustered_share_bounds(cases, 0.95)
    assert 0 <= low <= fmean(map(fmean, cases)) <= high <= 1
    assert len(cases) <= effective_runs(cases) <= max(len(cases), sum(map(len, cases)))


def test_repeats_that_always_agree_count_as_one() -> None:
    same = [[1.0] * 5] * 90 + [[0.0] * 5] * 10
    once = [[1.0]] * 90 + [[0.0]] * 10
    assert clustered_share_bounds(same, 0.95) == pytest.approx(clustered_share_bounds(once, 0.95), abs=0.005)


@pytest.mark.parametrize("alike", [0.0, 0.3, 0.9])
def test_the_lower_bound_is_above_the_truth_in_hardly_more_runs_than_it_says(alike: float) -> None:
    chance, truth, missed = random.Random(1), 0.85, 0
    for _ in range(300):
        cases = []
        for _ in range(60):
            own = chance.random() < truth
            cases.append([float(own if chance.random() < alike else chance.random() < truth) for _ in range(4)])
        missed += clustered_share_bounds(cases, 0.95)[0] > truth
    assert missed <= 0.08 * 300  # 5 % and what 300 runs allow by chance


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=50))
def test_differences_lie_between_their_bounds(differences: list[float]) -> None:
    low, high = difference_bounds(differences, 0.95)
    assert -1 <= low <= high <= 1
    assert difference_bounds([-value for value in differences], 0.95) == pytest.approx((-high, -low))


def test_no_difference_at_all_is_no_proof_without_many_cases() -> None:
    assert difference_bounds([0.0] * 10, 0.95)[0] < -0.1
    assert difference_bounds([0.0] * 1000, 0.95)[0] > -0.01
    assert difference_bounds([], 0.95) == (-1.0, 1.0)


def test_a_mean_of_one_value_has_no_bounds() -> None:
    assert mean_bounds([3.0], 0.95) == (-math.inf, math.inf)
    assert mean_bounds([1.0, 2.0, 3.0], 0.95) == pytest.approx(
        (2 - 2.919986 / math.sqrt(3), 2 + 2.919986 / math.sqrt(3))
    )


@pytest.mark.parametrize(("spread", "cases"), [(1.2, 50), (1.5, 50), (1.2, 160), (1.5, 160)])
def test_skewed_costs_exactly_at_the_bar_are_rarely_below_it(spread: float, cases: int) -> None:
    chance, truth = random.Random(1), math.exp(spread * spread / 2)
    below = sum(
        skewed_mean_bound([chance.lognormvariate(0, spread) for _ in range(cases)], 0.9) <= truth for _ in range(600)
    )
    assert below <= 0.15 * 600


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda chance: chance.gauss(10, 1), 10.0),
        (lambda chance: chance.expovariate(1), 1.0),
        (lambda chance: chance.lognormvariate(0, 0.3), math.exp(0.045)),
    ],
)
def test_costs_that_are_hardly_skewed_are_bounded_as_closely_as_student_does(
    draw: Callable[[random.Random], float], truth: float
) -> None:
    chance, below, width = random.Random(2), 0, 0.0
    for _ in range(300):
        values = [draw(chance) for _ in range(100)]
        bound = skewed_mean_bound(values, 0.9)
        below += bound <= truth
        width += bound / mean_bounds(values, 0.9)[1]
    assert below <= 0.15 * 300
    assert width / 300 <= 1.1


@given(st.lists(st.floats(0, 1e9), min_size=2, max_size=50))
def test_the_bound_of_a_cost_is_never_below_student(values: list[float]) -> None:
    assert skewed_mean_bound(values, 0.9) >= mean_bounds(values, 0.9)[1]


def test_costs_that_are_all_the_same_have_no_width() -> None:
    assert skewed_mean_bound([0.01] * 30, 0.9) == pytest.approx(0.01)
    assert skewed_mean_bound([0.01], 0.9) == math.inf
