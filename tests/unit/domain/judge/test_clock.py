"""Time as the judge sees it: ages of any length, late starts, gaps, clocks that are wrong."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.unit.domain.judge.streams import CONFIG, HISTORY, Report, Start, feed, stream
from turnout.domain.errors import InvalidRequest
from turnout.domain.judge import Judge, JudgeConfig, Kind

DAY = 86_400.0
SHORT = JudgeConfig(history=HISTORY, metrics=("failure",), ages=(1.0, 3.0, 10.0))


@pytest.mark.parametrize(
    ("ages", "tick", "period"),
    [
        ((120.0, 600.0, 3600.0), 10.0, 60.0),
        ((86_400.0,), 10.0, 60.0),
        ((60.0, 300.0), 5.0, 30.0),
        ((1.0, 3.0, 10.0), 1 / 12, 0.5),
        ((0.1,), 0.1 / 12, 0.05),
    ],
)
def test_ticks_and_periods_follow_the_first_age_and_never_exceed_those_of_production(
    ages: tuple[float, ...], tick: float, period: float
) -> None:
    config = JudgeConfig(ages=ages)
    assert config.tick == pytest.approx(tick)
    assert config.period == pytest.approx(period)


def test_a_missing_outcome_counts_within_a_tick_of_the_last_age_however_short_it_is() -> None:
    judge = Judge(SHORT)
    for number in range(8):
        judge.start(f"c{number}", "candidate", 0.5, number / 10)
        judge.start(f"s{number}", "stable", 0.5, number / 10)
        judge.outcome(f"s{number}", number / 10 + 0.01, failed=False)
    assert judge.verdict(10.5).evidence.metrics["failure"].candidate.units == 5  # those of the first half second
    verdict = judge.verdict(10.0 + 0.7 + 2 * SHORT.tick)
    assert verdict.evidence.metrics["failure"].candidate.missing == 8
    assert (verdict.kind, verdict.evidence.open_units) == (Kind.FAIL, 0)


@pytest.mark.parametrize("faster", [60.0, 360.0])
def test_a_compressed_clock_sees_what_the_clock_of_production_sees(faster: float) -> None:
    """The same stream, all times and settings divided by the same number: the same evidence up to rounding."""
    config = replace(CONFIG, history=replace(HISTORY, units=200.0), horizon=3600.0)
    short = replace(
        config,
        ages=tuple(age / faster for age in config.ages),
        half_life=config.half_life / faster,
        horizon=config.horizon / faster,
    )
    records = stream(5, units=600, candidate=0.12)
    squeezed = [replace(record, at=record.at / faster) for record in records]
    long_judge, short_judge = Judge(config), Judge(short)
    feed(long_judge, records)
    feed(short_judge, squeezed)
    expected, found = long_judge.verdict(1e5), short_judge.verdict(1e5 / faster)
    assert found.evidence.against == pytest.approx(expected.evidence.against, rel=1e-6)
    assert found.kind is expected.kind
    assert len(found.evidence.history) == len(expected.evidence.history)


def test_starts_that_come_late_and_mixed_are_all_judged() -> None:
    chance, judge = random.Random(4), Judge(CONFIG)
    records = [
        replace(record, at=record.at - chance.choice([0.0, 0.2, 3.0])) if isinstance(record, Start) else record
        for record in stream(6, units=500, share=0.3, pace=1.0)
    ]
    feed(judge, records)
    evidence = judge.verdict(1e5).evidence
    assert evidence.metrics["failure"].stable.units + evidence.metrics["failure"].candidate.units == 500
    assert evidence.metrics["failure"].stable.missing == 0
    assert set(evidence.bad) == {"start out of order"}


def test_a_record_from_far_ahead_moves_no_clock() -> None:
    judge, other = Judge(CONFIG), Judge(CONFIG)
    records = stream(7, units=200)
    feed(judge, records[:200])
    judge.start("from next week", "candidate", 0.3, records[199].at + 7 * DAY)
    judge.outcome("t3", records[199].at + 7 * DAY, failed=True)
    feed(judge, records[200:])
    feed(other, records)
    assert judge.verdict(1e4).evidence.against == other.verdict(1e4).evidence.against
    assert judge.verdict(1e4).evidence.bad == {"impossible time": 2}


def test_a_question_moves_the_clock_over_a_gap_in_the_traffic() -> None:
    judge = Judge(CONFIG)
    judge.start("a", "stable", 0.3, 0.0)
    assert judge.clock == 0.0
    judge.verdict(3 * DAY)
    judge.start("b", "candidate", 0.3, 3 * DAY + 1)
    judge.outcome("b", 3 * DAY + 2, failed=False)
    evidence = judge.verdict(3 * DAY + 3).evidence
    assert (evidence.ratio.units, evidence.bad) == (2, {})


@pytest.mark.parametrize("at", [1e12, -1e12, float("inf"), 10**400])
def test_a_question_for_no_time_is_refused_and_moves_nothing(at: float) -> None:
    judge = Judge(CONFIG)
    judge.start("a", "stable", 0.3, 5.0)
    with pytest.raises(InvalidRequest, match="not a time"):
        judge.verdict(at)
    assert judge.clock == 5.0


def test_times_of_the_present_are_as_good_as_times_from_zero() -> None:
    """Seconds since 1970, a multiple of every period, so that ticks fall alike."""
    epoch, near, far = 1_700_000_400.0, Judge(CONFIG), Judge(CONFIG)
    records = [replace(record, at=round(record.at)) for record in stream(8, units=300, candidate=0.15)]
    records.sort(key=lambda record: (record.at, isinstance(record, Report)))
    feed(near, records)
    feed(far, [replace(record, at=record.at + epoch) for record in records])
    assert near.verdict(1e5).evidence.against == far.verdict(1e5 + epoch).evidence.against
