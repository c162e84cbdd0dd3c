"""What is stored of a task → its recording: what is whole, what was cut, what was redacted, what belongs to it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.domain.values import AGENT, make_release
from turnout.domain.budget import NANOS
from turnout.domain.calls import Ended, ModelCall, ToolCall
from turnout.domain.models import Arm, Capture, Record, RingSettings, Task
from turnout.domain.outcomes import Known
from turnout.domain.recording_parts import build_recording, is_of_stable, is_over, is_sampled, record_of

RING = "production"
RELEASE = make_release(
    "v1", rings=(RingSettings(RING, capture=Capture(8, redact=("secret",)), record=Record(size=100)),)
)
OTHER = make_release("v2")


def request(name: str = "r1", at: float = 10.0, **changes: Any) -> Task:
    values: dict[str, Any] = {
        "question": b'{"a": 1}',
        "answer": b"ok",
        "bytes_in": 8,
        "bytes_out": 2,
        "method": "POST",
        "path": "/chat",
        "task": "t1",
    }
    values |= changes
    return Task(name, values.pop("task"), AGENT, RING, RELEASE.digest, at, 1.0, 200, **values)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def tool(name: str = "c1", at: float = 10.2, **changes: Any) -> ToolCall:
    values: dict[str, Any] = {
        "arguments": "{}",
        "arguments_digest": sha("{}"),
        "result": '{"content":[]}',
        "result_digest": sha('{"content":[]}'),
    }
    return ToolCall(name, at, 0.1, AGENT, RING, RELEASE.digest, "t1", "shop", "refund", **(values | changes))


def model(name: str = "m1", at: float = 10.1, **changes: Any) -> ModelCall:
    values: dict[str, Any] = {"answer": "{}", "answer_digest": sha("{}"), "request_digest": "d", "nanos": NANOS // 2}
    values |= {"content_type": "application/json", "status": 200}
    endpoint = ("chat/completions", "openai", "gpt")
    return ModelCall(name, at, 0.1, AGENT, RING, RELEASE.digest, "t1", *endpoint, **(values | changes))


def test_a_recording_holds_the_task_in_order() -> None:
    later, first = request("r2", 20.0, path="/more"), request()
    calls = (tool("c2", 20.1), tool(), model())
    recording = build_recording(RELEASE, [later, first], calls, Known(failed=False, cost=0.5))
    assert (recording.agent, recording.ring, recording.release, recording.version, recording.task) == (
        AGENT,
        RING,
        RELEASE.digest,
        "v1",
        "t1",
    )
    assert [item.path for item in recording.requests] == ["/chat", "/more"]
    assert recording.requests[0].content_type == "application/json"
    assert [item.at for item in recording.tools] == [10.2, 20.1]
    assert recording.models[0].cost == 0.5
    assert (recording.failed, recording.intervened, recording.cost) == (False, None, 0.5)
    assert recording.faults(models=True) == ()


def test_calls_of_the_same_name_elsewhere_are_not_part_of_it() -> None:
    calls = (replace(tool(), ring="dev"), replace(model(), release=OTHER.digest), replace(tool(), agent="other"))
    recording = build_recording(RELEASE, [request()], calls, Known())
    assert (recording.tools, recording.models) == ((), ())


@pytest.mark.parametrize(
    ("question", "size", "whole", "redacted"),
    [
        (b"x" * 100, 100, True, False),
        (b"x" * 100, 101, False, False),  # cut
        (b"my [redacted]", 9, True, True),
        (b"my [redacted]", 101, False, True),  # cut by the proxy, and shorter by what was redacted
        (b"x" * 90 + b"[redacted]", 96, False, True),  # cut after it grew
        (None, 9, False, False),
    ],
)
def test_a_body_is_whole_where_nothing_was_cut(question: bytes | None, size: int, whole: bool, redacted: bool) -> None:
    (found,) = build_recording(RELEASE, [request(question=question, bytes_in=size)], (), Known()).requests
    assert (found.whole, found.redacted) == (whole, redacted)


def test_no_body_is_an_empty_one() -> None:
    (found,) = build_recording(RELEASE, [request(question=None, bytes_in=0, method="GET")], (), Known()).requests
    assert (found.body, found.whole, found.content_type) == (b"", True, "")


@pytest.mark.parametrize(
    ("result", "digest", "whole", "redacted"),
    [
        ("x" * 100, sha("x" * 100), True, False),
        ("x" * 100, sha("x" * 101), False, False),
        ("é" * 49 + "xx\ufffd", sha("é" * 51), False, False),  # cut within a sign
        ("a [redacted] b", sha("a secret b"), True, True),
        (None, sha("x" * 200), False, False),
    ],
)
def test_a_result_is_whole_by_its_digest(result: str | None, digest: str, whole: bool, redacted: bool) -> None:
    call = tool(result=result, result_digest=digest)
    (found,) = build_recording(RELEASE, [request()], [call], Known()).tools
    assert (found.whole, found.redacted) == (whole, redacted)
    answer = model(answer=result, answer_digest=digest)
    (said,) = build_recording(RELEASE, [request()], [answer], Known()).models
    assert (said.whole, said.redacted) == (whole, redacted)


def test_a_refused_call_has_no_result_and_that_is_no_fault() -> None:
    refused = tool(ended=Ended.REFUSED, result=None, result_digest="", error="not in the manifest")
    assert build_recording(RELEASE, [request()], [refused], Known()).faults(models=True) == ()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"[1]", "application/json"),
        (b"a=1&b=2", "application/x-www-form-urlencoded"),
        (b"\x89PNG", "application/octet-stream"),
    ],
)
def test_the_type_of_a_body_is_told_by_its_content(body: bytes, kind: str) -> None:
    (found,) = build_recording(RELEASE, [request(question=body, bytes_in=len(body))], (), Known()).requests
    assert found.content_type == kind


def test_the_sample_is_the_same_each_time_and_grows_with_its_share() -> None:
    tasks = [f"task-{number}" for number in range(2_000)]
    tenth = {task for task in tasks if is_sampled(task, 0.1)}
    assert tenth == {task for task in tasks if is_sampled(task, 0.1)}
    assert tenth < {task for task in tasks if is_sampled(task, 0.2)}
    assert 140 <= len(tenth) <= 260
    assert all(is_sampled(task, 1.0) for task in tasks)


def test_only_what_the_stable_release_answered_alone_is_recorded() -> None:
    stable = RELEASE.digest
    canary = request(arm=Arm.CANDIDATE, rollout="d", probability=0.1)
    assert is_of_stable([request()], stable)
    assert is_of_stable([request(arm=Arm.STABLE, rollout="d", probability=0.1)], stable)
    assert is_of_stable([canary], stable), "while it bakes the judged release is the stable one"
    assert not is_of_stable([canary], OTHER.digest)
    assert not is_of_stable([request(pinned=True)], stable)
    assert not is_of_stable([request(), replace(request("r2"), release=OTHER.digest)], stable)
    assert not is_of_stable([replace(request(), release=None)], stable)


def test_a_task_is_over_when_its_last_request_is() -> None:
    assert is_over([request(), request("r2", 20.0)], 21.0)
    assert not is_over([request(), request("r2", 20.0)], 20.5)
    assert not is_over([replace(request(), duration=None)], 1e9)


def test_a_ring_without_the_table_records_nothing() -> None:
    assert record_of(RELEASE, RING) == Record(size=100)
    assert record_of(OTHER, RING) is None
    assert record_of(RELEASE, "unknown") is None
