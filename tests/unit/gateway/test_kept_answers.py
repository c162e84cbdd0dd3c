"""What the gateway keeps of what models answer, for rings that record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model_gateway import LiveGateway, ask, config, grant, model_gateway, question
from tests.provider import Provider, provider
from tests.unit.gateway.calls import model_call
from turnout.domain.call_lines import call_from_line, call_to_line
from turnout.domain.calls import Ended, ModelCall
from turnout.domain.models import Capture
from turnout.gateway.journal import Journal
from turnout.gateway.journal_files import JournalFiles
from turnout.gateway.json_object import parse_object
from turnout.gateway.kept_answer import KeptAnswer, request_digest


@pytest.fixture
def upstream() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture
def live(upstream: Provider) -> Iterator[LiveGateway]:
    with model_gateway(config([upstream.url]), grant(record_models=True, capture=Capture(100_000))) as running:
        yield running


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("endpoint", ["chat/completions", "responses", "messages"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_answer_is_kept_as_the_agent_got_it(live: LiveGateway, endpoint: str, stream: bool) -> None:
    answer = ask(live, endpoint, stream=stream)
    call = live.journal.last()
    assert answer.status == 200
    assert call.answer == answer.body.decode()
    assert call.answer_digest == sha(answer.body)
    assert call.content_type.split(";")[0] == ("text/event-stream" if stream else "application/json")
    assert call.request_digest == request_digest(parse_object(json.dumps(question(endpoint)).encode()))


def test_nothing_is_kept_where_the_ring_does_not_record(live: LiveGateway) -> None:
    live.grant = grant(capture=Capture(100_000))
    ask(live)
    call = live.journal.last()
    assert (call.request_digest, call.answer, call.answer_digest, call.content_type) == ("", None, "", "")


def test_an_answer_that_is_too_large_is_left_out_but_its_digest(live: LiveGateway) -> None:
    live.grant = grant(record_models=True, capture=Capture(200))
    answer = ask(live, stream=True)
    call = live.journal.last()
    assert call.answer is None
    assert call.answer_digest == sha(answer.body)


def test_what_the_ring_calls_secret_is_not_kept(live: LiveGateway) -> None:
    live.grant = grant(record_models=True, capture=Capture(100_000, redact=(r'"role"\s*:\s*"\w+"',)))
    answer = ask(live)
    call = live.journal.last()
    assert b'"role"' in answer.body
    assert call.answer is not None
    assert "[redacted]" in call.answer
    assert '"role"' not in call.answer


def test_a_stream_that_was_begun_again_is_kept_once(live: LiveGateway, upstream: Provider) -> None:
    answer = ask(live, stream=True, headers={"x-fault": "cut_midway"})
    call = live.journal.last()
    assert not answer.whole
    assert call.ended is Ended.CUT or call.ended is Ended.FAILED
    assert call.answer is not None
    assert answer.body.startswith(call.answer.encode()), "but for the last words, which are the gateway's own"


def test_a_refusal_of_the_provider_is_kept(live: LiveGateway) -> None:
    answer = ask(live, headers={"x-fault": "bad_request"})
    assert answer.status == 400
    assert live.journal.last().answer == answer.body.decode()


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":[{"content":"hi","role":"user"}],  "model":"m"}',
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true}}',
        b'{"user":"u-1","metadata":{"a":"b"},"model":"m","messages":[{"role":"user","content":"\\u0068i"}]}',
    ],
)
def test_requests_that_ask_the_same_have_one_digest(body: bytes) -> None:
    same = parse_object(b'{"model":"m","messages":[{"role":"user","content":"hi"}]}')
    other = parse_object(b'{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":0}')
    assert request_digest(parse_object(body)) == request_digest(same)
    assert request_digest(parse_object(body)) != request_digest(other)


def test_half_a_surrogate_pair_in_a_request_is_no_obstacle() -> None:
    kept = KeptAnswer(Capture(10))
    kept.add(b"\xff\x00", b"text/plain")
    fields = kept.fields(parse_object(b'{"model":"\\ud800"}'))
    assert len(fields["request_digest"]) == 64
    assert fields["answer"] == "\ufffd\0"


def test_the_line_of_a_call_holds_what_is_kept() -> None:
    call = model_call(
        request_digest="a" * 64, answer='{"é": 1}', answer_digest="b" * 64, content_type="application/json"
    )
    assert call_from_line(call_to_line(call).strip()) == call


def test_an_answer_that_makes_a_line_too_long_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "model-0")
    journal.write(model_call(answer='"' * 600_000, answer_digest="b" * 64))
    journal.close()
    files = JournalFiles(tmp_path)
    (line,) = files.read(files.names()[0], None).lines
    call = call_from_line(line)
    assert isinstance(call, ModelCall)
    assert (call.answer, call.answer_digest) == (None, "b" * 64)
