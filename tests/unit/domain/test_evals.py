"""The gate of suites: what passes, what is lost, what is compared, and the report."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.domain.errors import InvalidRequest
from turnout.domain.eval_report import EvalReport, parse_report, render_report, request_size, verdict_document
from turnout.domain.evals import Bar, Run, judge_suite
from turnout.domain.models import Digest

SUCCESS = Bar(at_least={"success": 0.9})
DIGEST = Digest("sha256:" + "a" * 64)


def runs_of(cases: int, repeat: int = 5, failed: int = 0, **fields: object) -> list[Run]:
    """So many cases; of the first `failed` no run is passed."""
    return [
        Run(f"c{case}", number, float(case >= failed), **fields)  # type: ignore[arg-type]
        for case in range(cases)
        for number in range(repeat)
    ]


def expected(cases: int) -> list[str]:
    return [f"c{case}" for case in range(cases)]


def test_the_bound_decides_and_not_the_mean() -> None:
    few = judge_suite(SUCCESS, runs_of(10), expected=expected(10), repeat=5)
    many = judge_suite(SUCCESS, runs_of(100), expected=expected(100), repeat=5)
    assert [few.passed, many.passed] == [False, True]
    assert few.findings[0].mean == many.findings[0].mean == 1.0


def test_a_suite_with_a_problem_is_not_passed_however_good_its_runs() -> None:
    verdict = judge_suite(
        SUCCESS, runs_of(100), expected=expected(100), repeat=5, problems=["it ended with exit code 3"]
    )
    assert not verdict.passed
    assert verdict.problems == ("it ended with exit code 3",)


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([], "it ran no case"),
        (runs_of(100)[3:], "3 of 500 runs have no result: c0 (repeat 1), c0 (repeat 2), c0 (repeat 3)"),
        ([*runs_of(100), Run("c7", 0, 1.0)], "1 runs have more than one result: c7 (repeat 1)"),
        ([*runs_of(100), Run("zz", 0, 1.0)], "1 results are of no case of the suite: zz (repeat 1)"),
    ],
)
def test_lost_doubled_and_foreign_runs_are_named(runs: list[Run], said: str) -> None:
    verdict = judge_suite(SUCCESS, runs, expected=expected(100), repeat=5)
    assert not verdict.passed
    assert said in verdict.problems


def test_cost_and_time_are_held_against_the_upper_bound() -> None:
    runs = [replace(run, cost=0.01 + 0.001 * (index % 7), duration=1.0) for index, run in enumerate(runs_of(30))]
    tight, wide = Bar(at_most={"cost": 0.0130}), Bar(at_most={"cost": 0.0135, "latency": 1.0})
    assert not judge_suite(tight, runs, expected=expected(30), repeat=5).passed
    assert judge_suite(wide, runs, expected=expected(30), repeat=5).passed


def test_what_no_run_tells_is_not_held() -> None:
    finding = judge_suite(Bar(at_most={"cost": 1.0}), runs_of(30), expected=expected(30), repeat=5).findings[0]
    assert (finding.passed, finding.note) == (False, "150 of 150 runs do not tell it")


def test_a_run_that_broke_off_tells_no_cost_but_counts_as_not_passed() -> None:
    runs = [replace(run, cost=0.01) for run in runs_of(100)]
    runs[0] = Run("c0", 0, 0.0, error="no result within 60 s")
    bar = Bar(at_least={"success": 0.9}, at_most={"cost": 0.01})
    verdict = judge_suite(bar, runs, expected=expected(100), repeat=5)
    assert verdict.passed
    assert verdict.failed == ("c0",)


def test_it_is_compared_on_the_same_cases() -> None:
    bar = Bar(no_worse={"success": 0.05, "cost": 0.25})
    stable = [replace(run, cost=1.0) for run in runs_of(200)]
    same = judge_suite(bar, stable, expected=expected(200), repeat=5, stable=stable)
    worse = judge_suite(
        bar,
        [replace(run, cost=1.0) for run in runs_of(200, failed=20)],
        expected=expected(200),
        repeat=5,
        stable=stable,
    )
    dear = judge_suite(
        bar, [replace(run, cost=1.3) for run in runs_of(200)], expected=expected(200), repeat=5, stable=stable
    )
    assert [same.passed, worse.passed, dear.passed] == [True, False, False]
    assert [finding.passed for finding in worse.findings] == [False, True]
    assert [finding.passed for finding in dear.findings] == [True, False]


def test_without_a_stable_release_there_is_nothing_to_be_worse_than() -> None:
    verdict = judge_suite(Bar(no_worse={"success": 0.05}), runs_of(5), expected=expected(5), repeat=5)
    assert verdict.passed
    assert [finding.note for finding in verdict.findings] == ["there is no stable release to compare with"]


def test_a_release_of_which_no_run_is_passed_is_not_passed_where_there_is_nothing_to_compare_with() -> None:
    verdict = judge_suite(Bar(no_worse={"success": 0.05}), runs_of(5, failed=5), expected=expected(5), repeat=5)
    assert (verdict.passed, verdict.problems) == (False, ("no run was passed",))


def test_a_bar_that_demands_nothing_is_not_passed() -> None:
    verdict = judge_suite(Bar(), runs_of(100), expected=expected(100), repeat=5)
    assert (verdict.passed, verdict.problems) == (False, ("nothing was demanded of it",))


def test_nothing_is_no_worse_than_a_broken_run_of_stable() -> None:
    bar, ours = Bar(no_worse={"success": 0.05}), runs_of(100, failed=50)
    down = [Run(run.case, run.repeat, 0.0, error="429") for run in ours]
    refused = judge_suite(bar, ours, expected=expected(100), repeat=5, stable=down)
    mad = judge_suite(bar, ours, expected=expected(100), repeat=5, stable=ours, stable_problems=["it ended"])
    assert [refused.passed, mad.passed] == [False, False]
    assert refused.findings[0].note == "every run of the stable release broke off"
    assert mad.findings[0].note == "the runs of the stable release cannot be believed: it ended"


def test_a_run_of_stable_that_broke_off_counts_as_passed() -> None:
    bar, ours = Bar(no_worse={"success": 0.05}), runs_of(200, failed=20)
    stable = [replace(run, error="429") if run.success == 0 else run for run in ours]
    verdict = judge_suite(bar, ours, expected=expected(200), repeat=5, stable=stable)
    assert (verdict.passed, verdict.findings[0].stable) == (False, 1.0)


def test_two_cases_with_a_full_own_score_prove_little() -> None:
    runs = [replace(run, scores={"kind": 1.0, "length": 7.0}) for run in runs_of(2, 1)]
    bar = Bar(at_least={"scores.kind": 0.9, "scores.length": 7.0, "success": 0.01})
    found = {finding.metric: finding for finding in judge_suite(bar, runs, expected=expected(2), repeat=1).findings}
    assert not found["scores.kind"].passed
    assert found["scores.length"].passed
    no_worse = Bar(no_worse={"scores.kind": 0.1, "success": 0.9})
    assert not judge_suite(no_worse, runs, expected=expected(2), repeat=1, stable=runs).findings[0].passed


def test_cases_that_only_the_stable_release_ran_cannot_be_left_out() -> None:
    bar, stable = Bar(no_worse={"success": 0.45}), runs_of(50)
    verdict = judge_suite(bar, runs_of(20), expected=expected(20), repeat=5, stable=stable)
    assert not verdict.passed
    assert verdict.findings[0].note == "30 cases of the stable release are not there any more"


def test_runs_that_broke_off_do_not_make_a_release_fast() -> None:
    runs = [Run(f"c{n}", 0, 0.0, error="no result within 60 s") for n in range(98)]
    runs += [Run(f"c{n}", 0, 1.0, duration=1.0) for n in (98, 99)]
    verdict = judge_suite(Bar(at_most={"latency": 5.0}), runs, expected=expected(100), repeat=1)
    assert verdict.problems == ("98 of 100 runs broke off, and the suite demands nothing of success",)
    assert (verdict.findings[0].passed, verdict.findings[0].note) == (False, "98 of 100 runs do not tell it")


def test_many_runs_with_one_that_is_there_twice_are_judged_at_once() -> None:
    runs = runs_of(20_000, 1)
    began = time.monotonic()
    verdict = judge_suite(SUCCESS, [*runs, runs[0]], expected=expected(20_000), repeat=1)
    assert verdict.problems == ("1 runs have more than one result: c0 (repeat 1)",)
    assert time.monotonic() - began < 5


def test_cases_that_the_stable_release_did_not_run_cannot_be_compared() -> None:
    bar = Bar(no_worse={"success": 0.05})
    verdict = judge_suite(bar, runs_of(200), expected=expected(200), repeat=5, stable=runs_of(199))
    assert not verdict.passed
    assert verdict.findings[0].note == "the stable release has no result for some cases"


@given(st.integers(0, 60), st.integers(1, 60), st.integers(1, 5), st.randoms(use_true_random=False))
def test_the_order_of_runs_changes_nothing(failed: int, cases: int, repeat: int, chance: random.Random) -> None:
    runs = runs_of(cases, repeat, min(failed, cases))
    shuffled = runs.copy()
    chance.shuffle(shuffled)
    first = judge_suite(SUCCESS, runs, expected=expected(cases), repeat=repeat)
    second = judge_suite(SUCCESS, shuffled, expected=expected(cases), repeat=repeat)
    assert (first.passed, first.failed) == (second.passed, second.failed)
    assert first.findings[0].bound == pytest.approx(second.findings[0].bound)


@given(st.integers(0, 99))
def test_one_more_failed_case_never_helps(failed: int) -> None:
    bounds = [
        judge_suite(SUCCESS, runs_of(100, 3, count), expected=expected(100), repeat=3).findings[0].bound or 0.0
        for count in (failed, failed + 1)
    ]
    assert bounds[0] >= bounds[1]


REPORT = EvalReport(
    agent="support",
    release=DIGEST,
    suite="answers",
    suite_digest=DIGEST,
    bar=Bar(0.9, {"success": 0.9, "scores.kind": 0.5}, {"cost": 0.1}, {"success": 0.05}),
    repeat=2,
    expected=("a", "b"),
    runs=(Run("a", 0, 1.0, {"kind": 0.7}, 0.01, 2.0, "well", "", 1), Run("b", 1, 0.0, error="gone", tries=2)),
    problems=("it said too much",),
    stable=DIGEST,
    began=1.0,
    ended=2.0,
    made_by={"turnout": "1"},
)


def test_a_report_is_read_as_it_was_written() -> None:
    assert parse_report(render_report(REPORT)) == REPORT
    assert render_report(parse_report(render_report(REPORT))) == render_report(REPORT)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b'"schema":1', b'"schema":2', "another version"),
        (b'"repeat":2', b'"repeat":0', "repeat has to be from 1 to 100"),
        (b'"success":1.0', b'"success":1.5', "runs[0].success has to be from 0 to 1"),
        (b'"success":1.0', b'"success":NaN', "runs[0].success has to be a number"),
        (b'"case":"a"', b'"case":7', "runs[0].case is missing, or not what it has to be"),
        (b'"cost":0.01', b'"cost":1' + b"0" * 400, "runs[0].cost has to be a number"),
        (b'"cost":0.01', b'"cost":-1', "runs[0].cost has to be from 0 to"),
        (b'"case":"a"', rb'"case":"\ud83d"', "is no JSON"),
        (b'"tries":2', b'"tricks":2', '"tricks" is no part of a run'),
        (b"sha256:aa", b"sha512:aa", "a digest in the report is none"),
    ],
)
def test_a_report_that_is_none_is_refused(old: bytes, new: bytes, said: str) -> None:
    content = render_report(REPORT)
    assert old in content
    with pytest.raises(InvalidRequest) as raised:
        parse_report(content.replace(old, new, 1))
    assert said in raised.value.message


def test_half_a_character_in_a_detail_does_not_lose_the_report() -> None:
    cut = replace(REPORT, runs=(Run("a", 0, 1.0, detail="cut \ud83d"),))
    assert parse_report(render_report(cut)).runs[0].detail == "cut ?"


def test_a_report_of_a_baseline_says_so() -> None:
    baseline = replace(REPORT, baseline=True)
    assert parse_report(render_report(baseline)) == baseline
    assert verdict_document(baseline.judge(None), baseline)["baseline"] is True
    assert b'"baseline"' not in (old := render_report(REPORT).replace(b'"baseline":false,', b""))
    assert parse_report(old) == REPORT


def test_a_long_report_loses_what_was_said_in_steps_and_never_a_run() -> None:
    runs = tuple(replace(run, detail='"' * 2_000) for run in runs_of(20, 5, failed=10))
    report = replace(REPORT, runs=runs, expected=tuple(expected(20)))
    full = request_size(report)
    assert report.within(full) == report
    half = report.within(full - 1)
    assert {(run.success, len(run.detail)) for run in half.runs} == {(1.0, 0), (0.0, 2_000)}
    assert {len(run.detail) for run in report.within(60_000).runs} == {0, 200}
    least = report.within(10_000)
    assert request_size(least) <= 10_000
    assert least.judge(None).failed == report.judge(None).failed
    with pytest.raises(InvalidRequest, match="100 runs, more than a server takes"):
        report.within(1_000)


def test_an_error_is_never_left_out() -> None:
    report = replace(REPORT, runs=tuple(Run(f"c{n}", 0, 0.0, error="x" * 500) for n in range(100)))
    assert {len(run.error) for run in report.within(20_000).runs} == {60}


def test_runs_that_broke_off_are_nothing_to_compare_with() -> None:
    good = replace(REPORT, problems=(), runs=(Run("a", 0, 1.0), Run("b", 0, 0.0)))
    assert good.can_be_compared_with()
    assert not REPORT.can_be_compared_with()
    assert not replace(good, runs=(Run("a", 0, 0.0, error="429"),)).can_be_compared_with()
    assert not replace(good, runs=()).can_be_compared_with()


def test_a_verdict_becomes_plain_values() -> None:
    document = verdict_document(REPORT.judge(None), REPORT)
    assert (document["confidence"], document["baseline"]) == (0.9, False)
    assert document["passed"] is False
    assert document["problems"][0] == "it said too much"
    assert document["findings"][0]["metric"] == "success"
