"""Evidence as it grows: two units enumerated exactly, many units on average, restarts, ages."""

from __future__ import annotations

import random
from itertools import product

import pytest

from tests.unit.domain.judge.streams import CONFIG, HISTORY
from turnout.domain.judge import JudgeConfig, Margins
from turnout.domain.judge.costs import make_lane
from turnout.domain.judge.lanes import Lane
from turnout.domain.judge.units import Unit

AGES = CONFIG.ages
COSTS = {0.02: 0.7, 0.3: 0.28, 1.95: 0.02}  # with their probabilities


def unit(number: int, *, candidate: bool, share: float, value: float, column: int, at: float | None = None) -> Unit:
    made = Unit(f"t{number}", candidate=candidate, share=share, at=100.0 * number if at is None else at, period=60.0)
    made.values[column] = value
    made.times[column] = made.at
    return made


def judge(lane: Lane, made: Unit) -> None:
    lane.judge(made, made.values[lane.column])


def wealth(lane: Lane) -> list[float]:
    lane.settle()
    return list(lane.wealth)


@pytest.mark.parametrize("share", [0.02, 0.5])
@pytest.mark.parametrize("rate", [0.08, 0.5])
@pytest.mark.parametrize("metric", ["failure", "intervention"])
def test_over_all_outcomes_of_two_units_every_bet_on_a_rate_is_worth_what_was_staked(
    metric: str, rate: float, share: float
) -> None:
    fresh = wealth(make_lane(metric, AGES, CONFIG))
    expected = [0.0] * len(fresh)
    for arms, bad in product(product((False, True), repeat=2), product((False, True), repeat=2)):
        lane, chance = make_lane(metric, AGES, CONFIG), 1.0
        for number, (candidate, value) in enumerate(zip(arms, bad, strict=True)):
            chance *= (share if candidate else 1 - share) * (rate if value else 1 - rate)
            judge(lane, unit(number, candidate=candidate, share=share, value=value, column=lane.column))
        expected = [total + chance * value for total, value in zip(expected, wealth(lane), strict=True)]
    assert expected == pytest.approx(fresh, rel=1e-6)


@pytest.mark.parametrize("share", [0.02, 0.5])
def test_over_all_outcomes_of_two_units_every_bet_on_cost_is_worth_what_was_staked(share: float) -> None:
    fresh = wealth(make_lane("cost", AGES, CONFIG))
    expected = [0.0] * len(fresh)
    for arms, costs in product(product((False, True), repeat=2), product(COSTS, repeat=2)):
        lane, chance = make_lane("cost", AGES, CONFIG), 1.0
        for number, (candidate, value) in enumerate(zip(arms, costs, strict=True)):
            chance *= (share if candidate else 1 - share) * COSTS[value]
            judge(lane, unit(number, candidate=candidate, share=share, value=value, column=2))
        expected = [total + chance * value for total, value in zip(expected, wealth(lane), strict=True)]
    assert expected == pytest.approx(fresh, rel=1e-6)


@pytest.mark.parametrize("metric", ["failure", "cost"])
def test_over_all_outcomes_of_two_units_no_proof_gains_at_its_margin(metric: str) -> None:
    share, margins = 0.5, CONFIG.margins
    expected = [0.0] * 3
    for arms, bad in product(product((False, True), repeat=2), product((False, True), repeat=2)):
        lane, chance = make_lane(metric, AGES, CONFIG), 1.0
        for number, (candidate, value) in enumerate(zip(arms, bad, strict=True)):
            if metric == "failure":
                rate, outcome = 0.2 + margins.failure * candidate, float(value)
            else:
                rate, outcome = 0.2, (0.4 * (1 + margins.cost * candidate) if value else 0.0)
            chance *= (share if candidate else 1 - share) * (rate if value else 1 - rate)
            judge(lane, unit(number, candidate=candidate, share=share, value=outcome, column=lane.column))
        lane.settle()
        assert lane.proof is not None
        expected = [total + chance * value for total, value in zip(expected, lane.proof.wealth[-3:], strict=True)]
    assert max(expected) <= 1 + 1e-9


@pytest.mark.parametrize("metric", ["failure", "cost"])
def test_the_evidence_against_an_equal_candidate_is_one_on_average(metric: str) -> None:
    chance, found = random.Random(5), []
    for _ in range(3000):
        lane = make_lane(metric, AGES, CONFIG)
        for number in range(8):
            value = chance.choices(list(COSTS), list(COSTS.values()))[0] if metric == "cost" else chance.random() < 0.3
            candidate = chance.random() < 0.3
            judge(lane, unit(number, candidate=candidate, share=0.3, value=value, column=lane.column))
        judge(lane, unit(9, candidate=False, share=0.3, value=0.0, column=lane.column))
        found.append(lane.evidence)
    mean = sum(found) / len(found)
    deviation = (sum((value - mean) ** 2 for value in found) / len(found) / len(found)) ** 0.5
    assert abs(mean - 1) < 4 * deviation


def test_what_is_not_staked_yet_is_staked_hour_by_hour_and_nothing_is_made_of_nothing() -> None:
    lane = make_lane("failure", AGES, CONFIG)
    for hour in range(30):
        judge(lane, unit(hour, candidate=False, share=1e-12, value=False, column=0, at=3600.0 * hour))
        assert lane.evidence == pytest.approx(1.0)
    assert lane.cash == pytest.approx(0.0)


def test_a_fault_that_begins_late_is_found_though_the_first_hours_spoke_for_the_candidate() -> None:
    lane = make_lane("failure", AGES, CONFIG)
    for number in range(600):
        late = number >= 400
        judge(lane, unit(number, candidate=True, share=0.5, value=late and number % 2 == 0, column=0, at=60.0 * number))
        judge(lane, unit(number, candidate=False, share=0.5, value=number % 12 == 0, column=0, at=60.0 * number))
    assert lane.evidence > 1000


def test_a_tolerance_makes_evidence_against_a_slightly_worse_candidate_shrink() -> None:
    def evidence(config: JudgeConfig) -> float:
        lane = make_lane("failure", AGES, config)
        for number in range(20_000):
            judge(lane, unit(number, candidate=False, share=0.5, value=number % 25 < 2, column=0, at=number / 10))
            judge(lane, unit(number, candidate=True, share=0.5, value=number % 100 < 9, column=0, at=number / 10))
        return lane.evidence

    assert evidence(JudgeConfig(history=HISTORY)) > 5
    assert evidence(JudgeConfig(history=HISTORY, tolerance=Margins(0.01, 0.01, 0.1))) < 1


@pytest.mark.parametrize("metric", ["failure", "cost"])
def test_a_candidate_that_is_better_in_everything_has_nothing_against_it(metric: str) -> None:
    lane = make_lane(metric, AGES, CONFIG)
    for number in range(2000):
        value = 1.9 if metric == "cost" else 1.0
        judge(lane, unit(number, candidate=False, share=0.5, value=value, column=lane.column))
        judge(lane, unit(number, candidate=True, share=0.5, value=0.0, column=lane.column))
    assert -1e-12 < lane.evidence < 0.1
