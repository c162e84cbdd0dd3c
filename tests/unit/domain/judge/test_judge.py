"""Verdicts: what fails, passes, holds and stays open, and that neither questions nor interruptions change any of it."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.domain.judge.streams import CONFIG, FAILURES, HISTORY, Record, Report, Start, feed, stream
from turnout.domain.errors import DamagedContent, InvalidRequest
from turnout.domain.judge import History, Judge, JudgeConfig, Kind
from turnout.domain.judge.config import METRICS

EASY = JudgeConfig(history=HISTORY, metrics=("failure", "intervention"))


def judged(records: list[Record], config: JudgeConfig = CONFIG, until: float = 1e6) -> Judge:
    judge = Judge(config)
    feed(judge, records)
    judge.verdict(until)
    return judge


def test_a_candidate_that_always_fails_is_aborted_after_a_few_of_its_units() -> None:
    needed = []
    for seed in range(15):
        judge = judged(stream(seed, units=2000, share=0.02, candidate=1.0))
        verdict = judge.verdict(1e6)
        assert (verdict.kind, verdict.metric) == (Kind.FAIL, "failure")
        assert verdict.evidence.weighed[0].metric == "failure"
        needed.append(len([weighed for weighed in verdict.evidence.weighed if weighed.metric == "failure"]))
    assert statistics.median(needed) <= 4


@pytest.mark.parametrize(("metric", "changed"), [("failure", {"candidate": 0.3}), ("cost", {"cost": 3.0})])
def test_the_metric_with_most_evidence_is_named(metric: str, changed: dict[str, float]) -> None:
    verdict = judged(stream(3, units=1500, **changed)).verdict(1e6)  # type: ignore[arg-type]
    assert (verdict.kind, verdict.metric) == (Kind.FAIL, metric)
    against = {name: found.against for name, found in verdict.evidence.metrics.items()}
    assert max(against, key=lambda name: against[name]) == metric
    assert verdict.evidence.against >= 20


def test_an_equal_candidate_is_seldom_aborted_and_passes_with_enough_units() -> None:
    kinds = [judged(stream(seed, units=6000, share=0.5, pace=2.0)).verdict(1e6).kind for seed in range(8)]
    assert kinds.count(Kind.FAIL) <= 1
    assert kinds.count(Kind.PASS) >= 6


def test_a_candidate_past_the_margin_does_not_pass() -> None:
    kinds = [
        judged(stream(seed, units=4000, share=0.5, pace=2.0, candidate=0.12)).verdict(1e6).kind for seed in range(12)
    ]
    assert kinds.count(Kind.PASS) == 0


def test_levels_are_proven_from_the_coarsest_on() -> None:
    judge, proven = Judge(CONFIG), []
    for record in stream(1, units=6000, share=0.5, pace=2.0):
        feed(judge, [record])
        if isinstance(record, Start):
            proven.append(judge.verdict(record.at).evidence.proven)
    assert proven == sorted(proven)
    assert {0, 1, 2, 3} == set(proven)


def test_evidence_under_the_line_of_a_fail_holds() -> None:
    judge = Judge(replace(FAILURES, hold_at=2.0))
    for number in range(2):
        judge.start(f"s{number}", "stable", 0.02, 10.0 * number)
        judge.outcome(f"s{number}", 10.0 * number + 1, failed=False)
    judge.start("c", "candidate", 0.02, 30.0)
    judge.outcome("c", 31.0, failed=True)
    verdict = judge.verdict(32.0)
    assert (verdict.kind, verdict.metric) == (Kind.HOLD, "failure")
    assert 2 < verdict.evidence.against < 20


def test_nothing_is_concluded_from_nothing() -> None:
    verdict = Judge(CONFIG).verdict(1e6)
    assert verdict.kind is Kind.INCONCLUSIVE
    assert verdict.evidence.against == 1.0


def test_a_candidate_that_gets_no_unit_neither_fails_nor_passes() -> None:
    for seed in range(5):
        verdict = judged(stream(seed, units=2000, share=0.3, routed=0.0)).verdict(1e6)
        assert (verdict.kind, verdict.metric) == (Kind.HOLD, "sample_ratio")
        assert verdict.evidence.ratio.candidates == 0
        assert verdict.evidence.ratio.expected == pytest.approx(600)


@pytest.mark.parametrize("routed", [0.1, 0.6])
def test_a_share_other_than_the_recorded_one_holds_and_no_release_is_blamed_for_it(routed: float) -> None:
    for seed in range(5):
        verdict = judged(stream(seed, units=3000, share=0.3, routed=routed)).verdict(1e6)
        assert (verdict.kind, verdict.metric) == (Kind.HOLD, "sample_ratio")


def test_traffic_that_stops_in_the_middle_passes_nothing() -> None:
    judge = judged(stream(4, units=150, share=0.5))
    assert judge.verdict(1e6).kind is Kind.INCONCLUSIVE
    assert judge.verdict(1e7).kind is Kind.INCONCLUSIVE
    assert judge.verdict(1e7).evidence.open_units == 0


def test_slow_successes_of_both_arms_abort_nothing() -> None:
    kinds = [judged(stream(seed, units=1500, slow=True), FAILURES).verdict(1e6).kind for seed in range(25)]
    assert kinds.count(Kind.FAIL) <= 2


def test_a_missing_outcome_counts_as_a_failure_at_the_last_age_and_not_before() -> None:
    judge = Judge(FAILURES)
    for number in range(60):
        judge.start(f"s{number}", "stable", 0.5, 2.0 * number)
        judge.outcome(f"s{number}", 2.0 * number + 1, failed=False)
        judge.start(f"c{number}", "candidate", 0.5, 2.0 * number + 1)
    before = judge.verdict(3500.0)
    assert before.kind is Kind.INCONCLUSIVE
    assert before.evidence.metrics["failure"].candidate.units == 0
    after = judge.verdict(4000.0)
    assert after.kind is Kind.FAIL
    assert after.evidence.metrics["failure"].candidate.mean == 1.0
    assert after.evidence.metrics["failure"].candidate.missing == after.evidence.metrics["failure"].candidate.units


def test_where_silence_is_success_a_missing_outcome_is_counted_as_missing_and_not_as_a_failure() -> None:
    judge = Judge(replace(FAILURES, missing_fails=False))
    for number in range(60):
        judge.start(f"s{number}", "stable", 0.5, 2.0 * number)
        judge.outcome(f"s{number}", 2.0 * number + 1, failed=False)
        judge.start(f"c{number}", "candidate", 0.5, 2.0 * number + 1)
    candidate = judge.verdict(4000.0).evidence.metrics["failure"].candidate
    assert (candidate.units, candidate.missing, candidate.mean) == (60, 60, 0.0)
    assert judge.verdict(4000.0).kind is Kind.INCONCLUSIVE


def test_dropping_the_reports_of_failures_does_not_promote() -> None:
    for seed in range(4):
        records = stream(seed, units=5000, share=0.5, pace=2.0, candidate=0.13)
        arms = {record.task: record.candidate for record in records if isinstance(record, Start)}
        kept = [
            record
            for number, record in enumerate(records)
            if not (isinstance(record, Report) and record.failed and arms[record.task] and number % 5 < 3)
        ]
        assert judged(kept, EASY).verdict(1e6).kind is not Kind.PASS


def test_a_fail_stays_whatever_comes_after_it() -> None:
    judge = judged(stream(1, units=2000, share=0.02, candidate=1.0), until=30_000.0)
    at = judge.verdict(30_000.0).evidence.against
    later = [
        replace(record, at=record.at + 30_000, task=f"later {record.task}")
        for record in stream(2, units=3000, share=0.5)
    ]
    feed(judge, later)
    verdict = judge.verdict(1e6)
    assert verdict.kind is Kind.FAIL
    assert verdict.evidence.against == at


def test_the_state_does_not_grow_with_finished_units() -> None:
    judge, sizes = Judge(CONFIG), []
    for number, record in enumerate(stream(1, units=4000)):
        feed(judge, [record])
        if number % 1000 == 999:
            sizes.append(len(json.dumps(judge.to_state())))
    assert max(sizes[2:]) < 1.6 * sizes[1]


def test_rates_come_with_what_they_may_be() -> None:
    found = judged(stream(1, units=3000, share=0.5, pace=2.0)).verdict(1e6).evidence
    for metric, truth in zip(METRICS, (0.08, 0.05, 0.08), strict=True):
        for arm in (found.metrics[metric].stable, found.metrics[metric].candidate):
            assert arm.low < truth < arm.high
            assert arm.low < arm.mean < arm.high
    cost = found.cost_per_success(candidate=True)
    assert cost is not None
    assert cost > found.metrics["cost"].candidate.mean


# --- questions and interruptions -------------------------------------------------------------------------------------


@st.composite
def streams(draw: st.DrawFn) -> list[Record]:
    """Streams with late, missing, partial, doubled and contradictory reports."""
    records = stream(
        draw(st.integers(0, 999)),
        units=draw(st.integers(1, 120)),
        share=draw(st.sampled_from([0.02, 0.3, 0.5])),
        candidate=draw(st.sampled_from([0.08, 0.5])),
        pace=draw(st.sampled_from([1.0, 20.0, 200.0])),
    )
    changed: list[Record] = []
    for record in records:
        fate = draw(st.integers(0, 9)) if isinstance(record, Report) else 9
        if isinstance(record, Report) and fate == 0:
            continue
        if isinstance(record, Report) and fate == 1:
            late = draw(st.sampled_from([100.0, 118.0, 400.0, 3000.0, 9000.0]))
            changed.append(replace(record, at=record.at + late))
        elif isinstance(record, Report) and fate == 2:
            changed += [replace(record, cost=None), replace(record, at=record.at + 700, failed=not record.failed)]
        else:
            changed.append(record)
    return sorted(changed, key=lambda record: (record.at, isinstance(record, Report), record.task))


@settings(max_examples=30, deadline=None)
@given(streams(), st.data())
def test_questions_and_restarts_in_between_change_nothing(records: list[Record], data: st.DataObject) -> None:
    whole, pieces = Judge(CONFIG), Judge(CONFIG)
    feed(whole, records)
    for record in records:
        if data.draw(st.booleans()):
            pieces.verdict(record.at)
        if data.draw(st.integers(0, 9)) == 0:
            pieces = Judge.from_state(json.loads(json.dumps(pieces.to_state())))
        feed(pieces, [record])
    assert pieces.verdict(1e5) == whole.verdict(1e5)
    assert json.dumps(pieces.to_state()) == json.dumps(whole.to_state())


@settings(max_examples=12, deadline=None)
@given(streams())
def test_a_state_survives_json(records: list[Record]) -> None:
    judge = Judge(CONFIG)
    feed(judge, records)
    state = json.loads(json.dumps(judge.to_state(), allow_nan=False))
    assert Judge.from_state(state).to_state() == judge.to_state()


def test_the_ages_of_a_metric_see_the_same_together_as_apart() -> None:
    """A lane stands for several ages until they see different things; the evidence is that of single ages, averaged."""
    records = [
        replace(record, at=record.at + (450.0 * (number % 3))) if isinstance(record, Report) else record
        for number, record in enumerate(stream(8, units=300, candidate=0.1))
    ]
    records.sort(key=lambda record: (record.at, isinstance(record, Report), record.task))
    single = []
    for age in FAILURES.ages[:2]:
        ages = (age, 1e6)
        judge = judged(records, replace(FAILURES, ages=ages), until=20_000.0)
        single.append(judge.to_state()["lanes"][0])
    both = judged(records, replace(FAILURES, ages=(*FAILURES.ages[:2], 1e6)), until=20_000.0).to_state()["lanes"]
    assert [lane["ages"] for lane in both[:2]] == [[120.0], [600.0]]
    assert [lane["wealth"] for lane in both[:2]] == [pytest.approx(lane["wealth"]) for lane in single]


def test_a_state_of_another_version_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="version 0"):
        Judge.from_state({**Judge().to_state(), "version": 0})


@pytest.mark.parametrize("lost", ["lanes", "config", "units", "times"])
def test_a_state_with_a_part_lost_is_refused(lost: str) -> None:
    state = Judge().to_state()
    del state[lost]
    with pytest.raises(DamagedContent, match=lost):
        Judge.from_state(state)


def test_a_wrong_history_costs_time_and_not_validity() -> None:
    config = JudgeConfig(history=History(failure=0.6, intervention=0.4, cost=1.0, units=50))
    kinds = [judged(stream(seed, units=1500), config).verdict(1e6).kind for seed in range(15)]
    assert kinds.count(Kind.FAIL) <= 2
