"""The factors, by exact enumeration: under the null no bet of any grid gains on average, whatever the base rate is."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.domain.judge.bets import (
    RATE_ODDS,
    TAIL_ODDS,
    Z_LIMIT,
    Table,
    abort_table,
    log_table,
    mean_stakes,
    pass_stakes,
    pass_table,
    project,
    round_rate,
)

RATES = (0.001, 0.05, 0.3, 0.9)
SHARES = (0.01, 0.05, 0.5, 0.9)


def expectations(table: Table, share: float, stable: float, candidate: float) -> list[float]:
    """Of each bet of a grid, for one unit, when these are the true rates."""
    chances = ((1 - share) * (1 - stable), (1 - share) * stable, share * (1 - candidate), share * candidate)
    return [sum(c * f for c, f in zip(chances, factors, strict=True)) for factors in zip(*table, strict=True)]


@pytest.mark.parametrize("odds", [RATE_ODDS, TAIL_ODDS])
@pytest.mark.parametrize(("assumed", "share", "true"), list(product(RATES, SHARES, (0.0, 0.02, 0.4, 1.0))))
def test_no_bet_on_a_rate_gains_when_the_arms_are_equal(
    odds: tuple[float, ...], assumed: float, share: float, true: float
) -> None:
    found = expectations(abort_table(assumed, share, 0.0, odds), share, true, true)
    assert found == pytest.approx([1.0] * len(odds), abs=1e-6)


@pytest.mark.parametrize(("assumed", "share", "true"), list(product(RATES[:3], SHARES, (0.0, 0.02, 0.4, 0.9))))
@pytest.mark.parametrize("worse", [0.0, 0.005, 0.01])
def test_no_bet_gains_when_the_candidate_is_worse_by_no_more_than_the_tolerance(
    assumed: float, share: float, true: float, worse: float
) -> None:
    found = expectations(abort_table(assumed, share, 0.01, RATE_ODDS), share, true, true + worse)
    assert max(found) <= 1 + 1e-6


@pytest.mark.parametrize(("assumed", "share", "true"), list(product(RATES[:3], SHARES, (0.0, 0.02, 0.4, 0.9))))
@pytest.mark.parametrize(("margin", "more"), list(product((0.03, 0.1), (0.0, 0.02))))
def test_no_proof_gains_when_the_candidate_is_at_or_past_the_margin(
    assumed: float, share: float, true: float, margin: float, more: float
) -> None:
    candidate = min(true + margin + more, 1.0)
    found = expectations(pass_table(assumed, share, margin), share, candidate - margin, candidate)
    assert max(found) <= 1 + 1e-6


def test_a_bet_gains_when_the_candidate_is_worse_and_a_proof_when_it_is_equal() -> None:
    assert max(expectations(abort_table(0.08, 0.05, 0.0, RATE_ODDS), 0.05, 0.08, 0.18)) > 1.005
    assert min(expectations(pass_table(0.08, 0.5, 0.03), 0.5, 0.08, 0.08)) > 1.0


@given(st.floats(-6, 6), st.floats(0.001, 0.999))
def test_the_bet_on_the_logarithm_of_a_cost_is_fair_for_any_cost(z: float, share: float) -> None:
    stable, candidate = log_table(share)
    index = round(z * 10) + Z_LIMIT
    for a, b in zip(stable[index], candidate[index], strict=True):
        assert (1 - share) * a + share * b == pytest.approx(1.0)


@given(st.floats(0.001, 0.95), st.floats(0.005, 0.95), st.floats(0, 1), st.floats(0, 1))
def test_stakes_on_the_mean_cost_are_fair_and_can_not_lose_everything(
    mean: float, share: float, low: float, high: float
) -> None:
    for stake in mean_stakes(mean, share):
        factors = [(1 - stake * share / (1 - share) * (y - mean), 1 + stake * (y - mean)) for y in (low, high)]
        assert all(factor > 0 for pair in factors for factor in pair)
        assert sum((1 - share) * a + share * b for a, b in factors) / 2 == pytest.approx(1.0)


@given(st.floats(0.001, 0.15), st.floats(0.005, 0.95), st.floats(0.05, 1.0), st.floats(0, 1))
def test_a_proof_of_cost_is_fair_at_the_margin_and_can_not_lose_everything(
    mean: float, share: float, margin: float, chance: float
) -> None:
    limit, centre, odds = 0.5, (1 + margin) * mean, share / (1 - share)
    cost = 0.5 / (1 + margin)  # of the stable arm with probability `chance`, else nothing
    for stake in pass_stakes(mean, mean, share, margin, limit):
        candidate = [1 - stake * (y - centre) for y in (0.0, limit)]
        stable = [1 + odds * stake * ((1 + margin) * y - centre) for y in (0.0, cost)]
        assert min(*candidate, *stable) > 0
        assert sum(
            weight * (share * candidate[y] + (1 - share) * stable[y]) for y, weight in ((0, 1 - chance), (1, chance))
        ) == pytest.approx(1.0)


@given(st.floats(1e-5, 0.999), st.floats(1e-5, 0.95), st.floats(0.005, 0.95))
def test_without_a_shift_the_nearest_null_is_the_mixture_of_both_rates(high: float, low: float, share: float) -> None:
    assert project(high, low, share, 0.0) == pytest.approx(share * high + (1 - share) * low, rel=1e-6, abs=1e-9)


@given(st.floats(0.0, 1.0))
def test_rates_are_rounded_by_no_more_than_one_percent_and_never_to_certainty(rate: float) -> None:
    rounded = round_rate(rate)
    assert 0 < rounded < 1
    if 0.001 < rate < 0.999:
        assert math.isclose(rounded / (1 - rounded), rate / (1 - rate), rel_tol=0.0101)


@given(st.floats(0.0, 1.0), st.floats(0.001, 0.999), st.sampled_from([0.0, 0.01, 0.2]))
def test_a_bad_outcome_speaks_against_its_arm_and_a_good_one_for_it_whatever_the_rate(
    rate: float, share: float, shift: float
) -> None:
    rate = round_rate(rate)
    for good, bad, candidate_good, candidate_bad in zip(*abort_table(rate, share, shift, RATE_ODDS), strict=True):
        assert good >= 1 - 1e-9 >= bad - 2e-9
        assert candidate_bad >= 1 - 1e-9 >= candidate_good - 2e-9
    for good, bad, candidate_good, candidate_bad in zip(*pass_table(rate, share, 0.03), strict=True):
        assert good <= bad + 1e-9
        assert candidate_bad <= candidate_good + 1e-9
