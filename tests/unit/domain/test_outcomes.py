"""What an answer says of its task, and which report counts."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.domain.values import AGENT, RING, make_digest
from turnout.domain.captures import JSON_RULE_SIZE, capture_size, kept_capture
from turnout.domain.errors import InvalidRequest
from turnout.domain.models import Capture, Record, ReleaseSpec, RingSettings, Task
from turnout.domain.outcomes import Known, Outcome, Source, check_outcome, is_path, parse_header, read_task

TASK = Task("t1", "t1", AGENT, RING, make_digest("v1"), 10.0, 0.5, 200)


def said(rule: str, **fields: Any) -> bool | None:
    outcome = read_task(replace(TASK, **fields), rule)
    return None if outcome is None else outcome.failed


def test_a_status_from_400_on_is_a_failure_by_status() -> None:
    assert [said("status", status=status) for status in (200, 302, 400, 404, 500, 503, 0)] == [
        False,
        False,
        True,
        True,
        True,
        True,
        True,
    ]


@pytest.mark.parametrize("rule", ["report", "silence"])
def test_where_reports_decide_an_answer_tells_of_failures_of_the_server_alone(rule: str) -> None:
    assert [said(rule, status=status) for status in (200, 404, 500, 0)] == [None, None, True, True]


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        ({"result": {"ok": True}}, False),
        ({"result": {"ok": "yes"}}, False),
        ({"result": {"ok": False}}, True),
        ({"result": {}}, True),
        ([], True),
    ],
)
def test_a_path_into_the_answer_decides(answer: object, failed: bool) -> None:
    body = json.dumps(answer).encode()
    assert said("$.result.ok", answer=body, bytes_out=len(body)) is failed


def test_an_answer_that_is_cut_off_says_nothing_and_one_that_is_no_json_is_a_failure() -> None:
    assert said("$.ok", answer=b'{"ok": tr', bytes_out=100) is None
    assert said("$.ok", answer=None) is None
    assert said("$.ok", answer=b"oops", bytes_out=4) is True
    assert said("$[1].ok", answer=b'[0, {"ok": 1}]', bytes_out=14) is False


def test_a_good_answer_in_a_conversation_says_nothing_yet_and_a_bad_one_does() -> None:
    for rule, body in (("status", None), ("$.ok", b'{"ok": 1}')):
        turn = {"request": "r1", "answer": body, "bytes_out": 9}
        assert said(rule, **turn) is None
        assert said(rule, **{**turn, "status": 502}) is True


def test_what_is_under_way_says_nothing_yet() -> None:
    assert read_task(replace(TASK, duration=None, status=0), "status") is None


def test_the_header_of_the_agent_goes_before_the_rule() -> None:
    outcome = read_task(replace(TASK, report="failure; intervention; cost=0.25"), "status")
    assert outcome == Outcome("t1", Source.REPORT, 10.5, True, True, 0.25, "x-turnout-outcome")
    part = read_task(replace(TASK, report="cost=0.25", status=500), "report")
    assert part is not None
    assert (part.failed, part.cost) == (True, 0.25), "what the header leaves open the rule says"
    promised = read_task(replace(TASK, report="success", status=0), "report")
    assert promised is not None
    assert promised.failed, "an answer that breaks off is no success"
    for unreadable in ("who knows", "cost=much", "cost=nan", "cost=-1", ""):
        outcome = read_task(replace(TASK, report=unreadable), "status")
        assert outcome is not None
        assert outcome.source is Source.RULE


def test_a_header_may_say_part_of_it() -> None:
    assert parse_header("cost=1e-3") == (None, None, 0.001)
    assert parse_header(" Success ;") == (False, None, None)
    with pytest.raises(InvalidRequest, match="'maybe' is not an outcome"):
        parse_header("success; maybe")


@pytest.mark.parametrize(
    "change",
    [{"cost": math.nan}, {"cost": -0.1}, {"cost": math.inf}, {"cost": 1e9}, {"task": ""}, {"task": "x" * 257}, {}],
)
def test_what_no_task_can_have_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        check_outcome(Outcome(**{"task": "t1", "source": Source.REPORT, "at": 1.0, **change}))


def test_what_no_database_can_hold_is_refused_as_a_name_and_replaced_in_a_detail() -> None:
    for task in ("a\ud800", "a\0b"):
        with pytest.raises(InvalidRequest, match="UTF-8"):
            check_outcome(Outcome(task, Source.REPORT, 1.0, True))

    assert check_outcome(Outcome("zürich", Source.REPORT, 1.0, True, detail="\ud800\0é😀")).detail == "?é😀"


def test_rules_that_are_paths_are_known() -> None:
    assert [is_path(text) for text in ("$.ok", "$.a.b[0].c-d", "$", "ok", "$.", "$..a", "$.a b")] == [
        True,
        True,
        False,
        False,
        False,
        False,
        False,
    ]


values = st.none() | st.booleans()


@given(st.lists(st.tuples(values, values, st.none() | st.floats(0, 10))))
def test_of_each_value_the_first_counts_and_only_what_is_new_is_passed_on(reports: list[tuple[Any, Any, Any]]) -> None:
    known, passed = Known(), Known()
    for failed, intervened, cost in reports:
        known, new, state = known.take(Outcome("t1", Source.REPORT, 1.0, failed, intervened, cost))
        assert (state == "counted") == (new != Known())
        for name in ("failed", "intervened", "cost"):
            if getattr(new, name) is not None:
                assert getattr(passed, name) is None
                passed = replace(passed, **{name: getattr(new, name)})
    firsts = [next((value for value in column if value is not None), None) for column in zip(*reports, strict=True)]
    assert known == passed == Known(*firsts)


# --- what is captured ------------------------------------------------------------------------------------------------


def test_the_proxy_logs_what_the_rule_needs_and_the_ring_keeps() -> None:
    spec = ReleaseSpec("a", ("run",), (RingSettings("dev", capture=Capture(100)), RingSettings("production")))
    assert [capture_size(spec, ring) for ring in ("dev", "production", "moon")] == [100, 0, 0]
    assert capture_size(replace(spec, success="$.ok"), "dev") == JSON_RULE_SIZE
    recording = replace(spec, rings=(RingSettings("dev", capture=Capture(100, ("x",)), record=Record(size=70_000)),))
    assert capture_size(recording, "dev") == capture_size(replace(recording, success="$.ok"), "dev") == 70_000
    assert kept_capture(recording.rings[0]) == Capture(70_000, ("x",))
