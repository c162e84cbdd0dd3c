"""Recordings, why they cannot be replayed, and their documents."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.domain.calls import Ended
from turnout.domain.errors import InvalidRequest
from turnout.domain.models import Digest
from turnout.domain.recording_document import parse_recording, render_recording
from turnout.domain.recordings import RecordedModel, RecordedRequest, RecordedTool, Recording

REQUEST = RecordedRequest("POST", "/chat", b'{"say": "hi"}', 200, b'{"said": "hello"}', 10.0, 0.5)
TOOL = RecordedTool(
    "shop", "refund", '{"order":1}', "ab" * 32, '{"content":[]}', Ended.DONE, False, "", 10.1, 0.1, whole=True
)
MODEL = RecordedModel(
    "messages", "anthropic", "claude", "cd" * 32, '{"id": "a"}', "application/json", 200, Ended.DONE, 0.01, 5, 6,
    10.2, 0.2, whole=True,
)  # fmt: skip
RECORDING = Recording(
    "bot",
    "production",
    Digest("sha256:" + "1" * 64),
    "1.0",
    "t1",
    10.0,
    (REQUEST,),
    (TOOL,),
    (MODEL,),
    False,
    None,
    0.01,
)

times = st.floats(0, 2e9)
texts = st.text(max_size=20)
some_bytes = st.none() | st.binary(max_size=20)
recordings = st.builds(
    Recording,
    agent=texts,
    ring=texts,
    release=st.just(RECORDING.release),
    version=texts,
    task=texts,
    at=times,
    requests=st.lists(
        st.builds(
            RecordedRequest, body=some_bytes, answer=some_bytes, at=times, duration=times, status=st.integers(0, 599)
        ),
        max_size=3,
    ).map(tuple),
    tools=st.lists(st.builds(RecordedTool, at=times, duration=times), max_size=3).map(tuple),
    models=st.lists(
        st.builds(
            RecordedModel,
            at=times,
            duration=times,
            cost=times,
            status=st.integers(0, 599),
            tokens_in=st.integers(0, 9),
            tokens_out=st.integers(0, 9),
        ),
        max_size=3,
    ).map(tuple),
    failed=st.none() | st.booleans(),
    intervened=st.none() | st.booleans(),
    cost=st.none() | times,
)


@given(recordings)
def test_what_is_rendered_is_read_again(recording):
    content = render_recording(recording)
    assert parse_recording(content) == recording
    assert render_recording(parse_recording(content)) == content
    assert b"\n" not in content


def test_a_body_that_is_no_text_keeps_its_bytes():
    recording = replace(RECORDING, requests=(replace(REQUEST, body=b"\xff\x00"),))
    document = json.loads(render_recording(recording))
    assert document["requests"][0]["body"] == {"base64": "/wA="}
    assert document["requests"][0]["answer"] == '{"said": "hello"}'
    assert parse_recording(json.dumps(document).encode()) == recording


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda d: d.pop("task"), "task: is missing"),
        (lambda d: d.update(tasks=1), "tasks: unknown key"),
        (lambda d: d.update(schema=2), "schema: expected 1, found '2'"),
        (lambda d: d.update(release="sha256:abc"), "release: expected a digest"),
        (lambda d: d.update(requests={}), "requests: expected a list"),
        (lambda d: d["requests"].append(7), "requests[1]: expected an object"),
        (lambda d: d["requests"][0].update(status=True), "requests[0].status: expected a whole number"),
        (lambda d: d["requests"][0].update(body={"base64": "?"}), "requests[0].body: expected a text or"),
        (lambda d: d["tools"][0].update(ended="gone"), "tools[0].ended: expected one of done, refused"),
        (lambda d: d["models"][0].update(cost=-1), "models[0].cost: expected a number of at least 0"),
        (lambda d: d["models"][0].update(whole=1), "models[0].whole: expected true or false"),
    ],
)
def test_a_document_that_is_not_one_is_refused_with_the_place(change, place):
    document = json.loads(render_recording(RECORDING))
    change(document)
    with pytest.raises(InvalidRequest) as raised:
        parse_recording(json.dumps(document).encode())
    assert place in raised.value.message


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b"nul", b'{"schema":true}'])
def test_what_is_no_document_at_all_is_refused(content):
    with pytest.raises(InvalidRequest, match="not a recording"):
        parse_recording(content)


def test_a_whole_recording_can_be_replayed():
    assert RECORDING.faults(models=True) == ()


def test_faults_name_what_is_missing_or_cut():
    recording = replace(
        RECORDING,
        requests=(
            replace(REQUEST, body=b"x" * 4096, whole=False),
            replace(REQUEST, body=None),
            replace(REQUEST, path=""),
        ),
        tools=(
            replace(TOOL, result=None, whole=False),
            replace(TOOL, whole=False),
            replace(TOOL, whole=False),
            replace(TOOL, ended=Ended.FAILED, result=None, whole=False),
        ),
        models=(replace(MODEL, request_digest=""), replace(MODEL, answer=None, whole=False)),
    )
    needed = (
        "the body of POST /chat was cut at 4,096 bytes",
        "the body of POST /chat was left out",
        "a request has no method or no path",
        "a result of tool refund was left out",
        "a result of tool refund was cut at 14 bytes",
    )
    assert recording.faults(models=False) == needed
    assert recording.faults(models=True) == (
        *needed,
        "the request of a call of model claude was left out",
        "an answer of model claude was left out",
    )


def test_an_answer_that_was_cut_and_a_redaction_do_not_stop_a_replay():
    request = replace(REQUEST, answer=b"x", answer_whole=False, redacted=True)
    assert replace(RECORDING, requests=(request,)).faults(models=True) == ()
    assert replace(RECORDING, requests=()).faults(models=True) == ("no request was recorded",)
