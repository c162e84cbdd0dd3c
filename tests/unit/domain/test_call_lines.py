"""Calls as lines: back is the same; what is newer or damaged is nothing."""

from __future__ import annotations

import json

import pytest

from tests.unit.gateway.calls import FULL_MODEL_CALL, FULL_TOOL_CALL, model_call, tool_call
from turnout.domain.call_lines import call_from_line, call_to_line, lost_from_line, lost_to_line
from turnout.domain.calls import Call


@pytest.mark.parametrize(
    "call", [model_call(), tool_call(), FULL_MODEL_CALL, FULL_TOOL_CALL, model_call(task=None, status=0)]
)
def test_a_call_comes_back_as_it_was(call: Call) -> None:
    line = call_to_line(call)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert call_from_line(line) == call


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": None},
        {"kind": "agent"},
        {"id": ""},
        {"agent": ""},
        {"id": "x" * 65},
        {"release": "latest"},
        {"at": "yesterday"},
        {"duration": -1},
        {"tokens_in": -5},
        {"tokens_in": 1.5},
        {"tokens_in": True},
        {"nanos": (1 << 53) + 1},
        {"ended": "somehow"},
        {"stream": 1},
        {"task": 7},
        {"attempts": [["route"]]},
        {"attempts": {}},
    ],
)
def test_a_line_with_a_value_that_no_call_has_is_none(change: dict[str, object]) -> None:
    record = json.loads(call_to_line(model_call())) | change
    assert call_from_line(json.dumps(record).encode()) is None


@pytest.mark.parametrize("line", [b"", b"[]", b"7", b"\xff", b"{}", call_to_line(model_call())[:-9], b'{"a":' * 5_000])
def test_a_damaged_line_is_none(line: bytes) -> None:
    assert call_from_line(line) is None
    assert lost_from_line(line) == 0


def test_what_a_newer_version_adds_is_left_out() -> None:
    record = json.loads(call_to_line(model_call())) | {"mood": "good"}
    assert call_from_line(json.dumps(record).encode()) == model_call()


def test_texts_that_no_database_holds_are_mended() -> None:
    call = call_from_line(call_to_line(model_call(error="a\0b \ud800 c")))
    assert call is not None
    assert call.error == "a\ufffdb ? c"


def test_a_task_that_the_proxy_cannot_know_is_none() -> None:
    call = call_from_line(call_to_line(model_call(task="x" * 257)))
    assert call == model_call(task=None)


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        call_to_line(model_call(duration=float("nan")))


def test_a_line_says_how_many_calls_are_lost() -> None:
    assert lost_from_line(lost_to_line(12)) == 12
    assert call_from_line(lost_to_line(12)) is None
