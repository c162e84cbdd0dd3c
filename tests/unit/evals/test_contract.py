"""Lines that suites write."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.domain.errors import InvalidRequest
from turnout.evals.contract import parse_result


def test_a_line_tells_of_a_run() -> None:
    line = {"id": "a", "passed": True, "scores": {"tone": 0.5}, "cost": 0.1, "duration": 2, "detail": {"why": "x"}}
    run = parse_result(json.dumps(line).encode(), 3)
    assert (run.case, run.repeat, run.success, run.cost, run.duration) == ("a", 3, 1.0, 0.1, 2.0)
    assert (run.scores, run.detail) == ({"tone": 0.5}, '{"why": "x"}')


def test_what_no_number_or_text_can_hold_is_refused_or_left_out() -> None:
    with pytest.raises(InvalidRequest, match='"x" has to be a number'):
        parse_result(b'{"id": "a", "passed": true, "scores": {"x": 1' + b"0" * 400 + b"}}", 0)
    assert parse_result(b'{"id": "a", "passed": true, "score": 1' + b"0" * 400 + b"}", 0).scores == {}
    assert parse_result(b'{"id": "a", "passed": true, "score": 1e999}', 0).scores == {}
    assert parse_result(rb'{"id": "a", "passed": true, "detail": "cut \ud83d"}', 0).detail == "cut ?"


def test_a_score_counts_as_a_part_of_success() -> None:
    assert parse_result(b'{"id": "a", "score": 0.25}', 0).success == 0.25
    both = parse_result(b'{"id": "a", "passed": false, "score": 0.25}', 0)
    assert (both.success, both.scores) == (0.0, {"score": 0.25})


def test_a_run_with_an_error_is_not_passed_whatever_else_it_says() -> None:
    run = parse_result(b'{"id": "a", "passed": true, "error": "the judge is down"}', 0)
    assert (run.success, run.error) == (0.0, "the judge is down")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"hello", "no JSON object: hello"),
        (b"", "no JSON object: an empty line"),
        (b"[1]", "no JSON object"),
        (b"[" * 100_000, "no JSON object"),
        (b'{"passed": true}', '"id" has to be'),
        (b'{"id": "a"}', 'a result needs "passed"'),
        (b'{"id": "a", "passed": 1}', '"passed" has to be true or false'),
        (b'{"id": "a", "score": 1.1}', 'a "score" from 0 to 1'),
        (b'{"id": "a", "score": NaN}', "no JSON object"),
        (b'{"id": "a", "passed": true, "cost": -1}', '"cost" has to be a number'),
        (b'{"id": "a", "passed": true, "duration": "1"}', '"duration" has to be a number'),
        (b'{"id": "a", "passed": true, "scores": {"x": true}}', '"scores": "x" has to be a number'),
        (b'{"id": "a", "passed": true, "pased": true}', '"pased" is no part of a result'),
        (b'{"id": "a\\u0007", "passed": true}', '"id" has to be'),
    ],
)
def test_what_is_no_result_is_said(line: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse_result(line, 0)
    assert said in raised.value.message


@given(st.binary(max_size=200))
def test_any_bytes_are_a_result_or_refused(line: bytes) -> None:
    try:
        run = parse_result(line, 0)
    except InvalidRequest:
        return
    assert 0 <= run.success <= 1
