"""What cannot be used is counted, named, and changes no verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest

from tests.unit.domain.judge.streams import CONFIG, feed, stream
from turnout.domain.errors import InvalidRequest
from turnout.domain.judge import Judge, Kind

NOW = 2000.0  # the units from about here on are open
BAD: dict[str, tuple[str, Callable[[Judge], None]]] = {
    "arm": ("unknown arm", lambda judge: judge.start("new", "canary", 0.5, NOW)),
    "share 0": ("probability not between 0 and 1", lambda judge: judge.start("new", "stable", 0.0, NOW)),
    "share 1": ("probability not between 0 and 1", lambda judge: judge.start("new", "candidate", 1.0, NOW)),
    "share nan": ("probability not between 0 and 1", lambda judge: judge.start("new", "stable", math.nan, NOW)),
    "time nan": ("impossible time", lambda judge: judge.start("new", "stable", 0.5, math.nan)),
    "time infinite": ("impossible time", lambda judge: judge.outcome("t100", math.inf, failed=True)),
    "next week": ("impossible time", lambda judge: judge.start("new", "stable", 0.5, NOW + 7 * 86_400)),
    "report of next week": ("impossible time", lambda judge: judge.outcome("t199", NOW + 7 * 86_400, failed=True)),
    "unknown": ("outcome of an unknown or finished task", lambda judge: judge.outcome("what", NOW, failed=True)),
    "doubled": ("start of a task that had begun", lambda judge: judge.start("t150", "candidate", 0.5, NOW)),
    "repeated": ("repetition of an earlier report", lambda judge: report_again(judge, flip=False)),
    "contradiction": ("contradiction of an earlier report", lambda judge: report_again(judge, flip=True)),
    "negative cost": ("impossible cost", lambda judge: judge.outcome("open", NOW, cost=-0.1)),
    "nan cost": ("impossible cost", lambda judge: judge.outcome("open", NOW, cost=math.nan)),
    "infinite cost": ("impossible cost", lambda judge: judge.outcome("open", NOW, cost=math.inf)),
    "text": ("impossible outcome", lambda judge: judge.outcome("open", NOW, failed="no")),  # type: ignore[arg-type]
    "cost as text": ("impossible cost", lambda judge: judge.outcome("open", NOW, cost="1")),  # type: ignore[arg-type]
}


def report_again(judge: Judge, *, flip: bool) -> None:
    judge.outcome("said", NOW, failed=flip)


def running() -> Judge:
    judge = Judge(CONFIG)
    feed(judge, [record for record in stream(1, units=200) if record.at < NOW - 10])
    judge.start("open", "stable", 0.3, NOW - 5)
    judge.start("said", "stable", 0.3, NOW - 5)
    judge.outcome("said", NOW - 4, failed=False)
    judge.verdict(NOW)
    return judge


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_counted_and_changes_nothing_else(name: str) -> None:
    kind, record = BAD[name]
    judge, other = running(), running()
    known = judge.verdict(NOW).evidence.bad.get(kind, 0)
    record(judge)
    assert judge.verdict(NOW).evidence.bad[kind] == known + 1
    changed, untouched = judge.to_state(), other.to_state()
    assert changed.pop("bad") != untouched.pop("bad")
    assert json.dumps(changed) == json.dumps(untouched)


def test_an_absurd_cost_counts_as_the_ceiling() -> None:
    judge, other = running(), running()
    judge.outcome("open", NOW, cost=1e12)
    other.outcome("open", NOW, cost=CONFIG.ceiling)
    assert judge.verdict(NOW).evidence.bad["absurd cost, counted as the ceiling"] == 1
    assert judge.to_state()["lanes"] == other.to_state()["lanes"]


def test_a_start_out_of_order_counts_as_of_the_latest_one() -> None:
    judge, other = running(), running()
    judge.start("late", "candidate", 0.3, NOW - 1000)
    other.start("late", "candidate", 0.3, NOW - 5)
    assert judge.verdict(NOW).evidence.bad["start out of order"] == 1
    assert judge.to_state()["units"] == other.to_state()["units"]


def test_a_report_from_before_its_start_counts_as_of_the_start() -> None:
    judge, other = running(), running()
    judge.outcome("open", NOW - 500, failed=True)
    other.outcome("open", NOW - 5, failed=True)
    assert judge.verdict(NOW).evidence.bad["outcome before its start"] == 1
    assert judge.to_state()["lanes"] == other.to_state()["lanes"]


def test_a_report_after_the_last_age_is_too_late() -> None:
    judge = running()
    for after in (1.0, 3600.0):
        judge.outcome("open", NOW + CONFIG.ages[-1] + after, failed=False)
    assert judge.verdict(NOW).evidence.bad["outcome of an unknown or finished task"] == 2


def test_time_that_runs_backwards_in_a_question_changes_nothing() -> None:
    judge = running()
    before = judge.verdict(NOW)
    assert judge.verdict(NOW - 1500) == before


def test_a_question_needs_a_time() -> None:
    with pytest.raises(InvalidRequest, match="nan is not a time"):
        Judge().verdict(math.nan)


def test_a_flood_of_bad_records_passes_and_fails_nothing() -> None:
    judge = running()
    for number in range(5000):
        judge.outcome(f"flood {number}", NOW, failed=True)
        judge.start("t199", "candidate", 0.3, NOW)
    assert judge.verdict(NOW).kind is Kind.INCONCLUSIVE
