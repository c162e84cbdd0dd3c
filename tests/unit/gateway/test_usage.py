from __future__ import annotations

from typing import Any

import pytest

from tests.provider_answers import events, whole
from turnout.domain.errors import RouteFailed
from turnout.gateway.protocols.answers import read_answer
from turnout.gateway.protocols.endpoints import Endpoint
from turnout.gateway.protocols.streams import READERS, Kind
from turnout.gateway.protocols.usage import Usage, read_usage
from turnout.gateway.sse import EventSplitter

STREAMED = [Endpoint.CHAT, Endpoint.RESPONSES, Endpoint.MESSAGES]


@pytest.mark.parametrize("endpoint", [*STREAMED, Endpoint.EMBEDDINGS])
def test_a_whole_answer_tells_what_it_took(endpoint: Endpoint) -> None:
    said = read_answer(endpoint, whole(endpoint, {"model": "m", "input": "x"}, 5))
    assert said.model == "m"
    assert said.usage is not None
    assert said.usage.tokens_in == 11
    assert said.usage.tokens_out == (0 if endpoint is Endpoint.EMBEDDINGS else 5)
    assert said.usage.cached == (0 if endpoint is Endpoint.EMBEDDINGS else 3)


@pytest.mark.parametrize("endpoint", STREAMED)
def test_a_stream_tells_what_it_took_and_where_it_ends(endpoint: Endpoint) -> None:
    reader, splitter = READERS[endpoint](), EventSplitter()
    body = {"model": "m", "stream_options": {"include_usage": True}}
    kinds = [reader.read(event) for event in splitter.feed(b"".join(events(endpoint, body, 5)))]
    assert kinds[0] is Kind.PREAMBLE
    assert kinds[-1] is Kind.END
    assert kinds.count(Kind.END) == 1
    assert reader.model == "m"
    assert reader.usage is not None
    assert (reader.usage.tokens_in, reader.usage.tokens_out) == (11, 5)
    assert reader.estimate_out() >= 5


@pytest.mark.parametrize(
    ("total", "reasoning", "out"), [(30, 8, 10), (763, 513, 743), (None, 513, 523), (12, 0, 10), (None, None, 10)]
)
@pytest.mark.parametrize(
    ("endpoint", "words"), [(Endpoint.CHAT, "prompt completion"), (Endpoint.RESPONSES, "input output")]
)
def test_reasoning_counts_where_a_provider_tells_of_it_beside_the_tokens_out(
    endpoint: Endpoint, words: str, total: int | None, reasoning: int | None, out: int
) -> None:
    into, outof = words.split()
    said = {f"{into}_tokens": 20, f"{outof}_tokens": 10, "total_tokens": total}
    usage = read_usage(endpoint, {**said, f"{outof}_tokens_details": {"reasoning_tokens": reasoning}})
    assert usage is not None
    assert (usage.tokens_in, usage.tokens_out, usage.reasoning) == (20, out, reasoning or 0)


@pytest.mark.parametrize("endpoint", list(Endpoint))
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"nul", b'{"error": {"message": "x"}}', b'{"type": "error"}', b'{"status": "failed"}']
)
def test_what_is_no_answer_is_a_fault_of_the_route(endpoint: Endpoint, body: bytes) -> None:
    with pytest.raises(RouteFailed):
        read_answer(endpoint, body)


@pytest.mark.parametrize("endpoint", STREAMED)
@pytest.mark.parametrize("data", [b"{", b"[]", b"7", b'{"error": {"message": "x"}}', b'{"type": "error"}', b"{}"])
def test_what_is_no_event_is_a_fault_of_the_route(endpoint: Endpoint, data: bytes) -> None:
    (event,) = EventSplitter().feed(b"data: " + data + b"\n\n")
    with pytest.raises(RouteFailed):
        READERS[endpoint]().read(event)


def test_a_chat_that_ends_before_it_began_is_a_fault() -> None:
    (event,) = EventSplitter().feed(b"data: [DONE]\n\n")
    with pytest.raises(RouteFailed):
        READERS[Endpoint.CHAT]().read(event)


def test_a_response_that_failed_is_a_fault_and_an_incomplete_one_is_whole() -> None:
    failed, incomplete = EventSplitter().feed(
        b'data: {"type": "response.failed", "response": {}}\n\ndata: {"type": "response.incomplete", "response": {}}\n\n'
    )
    with pytest.raises(RouteFailed):
        READERS[Endpoint.RESPONSES]().read(failed)
    assert READERS[Endpoint.RESPONSES]().read(incomplete) is Kind.END


def test_a_call_of_a_tool_is_content() -> None:
    (event,) = EventSplitter().feed(
        b'data: {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{\\"a\\""}}]}}]}\n\n'
    )
    reader = READERS[Endpoint.CHAT]()
    assert reader.read(event) is Kind.CONTENT
    assert reader.estimate_out() == 1


@pytest.mark.parametrize(
    "said",
    [
        None,
        {},
        [],
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": 1, "completion_tokens": -1},
        {"prompt_tokens": 1.5, "completion_tokens": 1},
        {"prompt_tokens": "1", "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
        {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}},
    ],
)
def test_usage_that_cannot_be_true_is_none(said: Any) -> None:
    assert read_usage(Endpoint.CHAT, said) is None


def test_anthropic_counts_what_was_cached_apart() -> None:
    said = {
        "input_tokens": 10,
        "cache_read_input_tokens": 20,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 25, "ephemeral_1h_input_tokens": 5},
        "output_tokens": 7,
    }
    assert read_usage(Endpoint.MESSAGES, said) == Usage(60, 20, 30, 5, 7, 0)
