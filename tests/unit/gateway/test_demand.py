from __future__ import annotations

import json
from typing import Any

import pytest

from turnout.domain.errors import CallRefused
from turnout.gateway.json_object import parse_object
from turnout.gateway.protocols.demand import (
    TOKENS_OF_IMAGE,
    UNBOUNDED_INPUT,
    Demand,
    limit_to_set,
    read_demand,
)
from turnout.gateway.protocols.endpoints import Endpoint


def _read(endpoint: Endpoint, **body: Any) -> Demand:
    raw = json.dumps({"model": "m", **body}).encode()
    return read_demand(endpoint, parse_object(raw), len(raw))


def test_the_bytes_of_a_text_bound_its_tokens() -> None:
    demand = _read(Endpoint.CHAT, messages=[{"role": "user", "content": "x" * 1000}], max_tokens=50, n=3)
    assert 1000 < demand.most_in(128_000) < 1300
    assert demand.most_out(16_384) == 150


def test_without_a_limit_the_route_gives_it() -> None:
    demand = _read(Endpoint.MESSAGES, messages=[])
    assert demand.most_out(16_384) == 16_384
    assert limit_to_set(Endpoint.MESSAGES, demand, "ignored") == "max_tokens"
    assert limit_to_set(Endpoint.CHAT, demand, "max_completion_tokens") == "max_completion_tokens"
    assert limit_to_set(Endpoint.RESPONSES, demand, "ignored") == "max_output_tokens"


def test_the_larger_of_two_limits_counts_and_none_is_added() -> None:
    demand = _read(Endpoint.CHAT, messages=[], max_tokens=5, max_completion_tokens=9)
    assert demand.limit == 9
    assert limit_to_set(Endpoint.CHAT, demand, "max_tokens") is None


def test_a_limit_that_the_route_does_not_know_is_set_as_it_knows_it() -> None:
    new, old = _read(Endpoint.CHAT, messages=[], max_completion_tokens=9), _read(Endpoint.CHAT, max_tokens=9)
    assert limit_to_set(Endpoint.CHAT, new, "max_tokens") == "max_tokens"
    assert limit_to_set(Endpoint.CHAT, new, "max_completion_tokens") is None
    assert limit_to_set(Endpoint.CHAT, old, "max_completion_tokens") is None


def test_embeddings_put_nothing_out() -> None:
    demand = _read(Endpoint.EMBEDDINGS, input=["a", "b"])
    assert demand.most_out(16_384) == 0
    assert limit_to_set(Endpoint.EMBEDDINGS, demand, "max_tokens") is None


def test_a_picture_may_be_many_tokens() -> None:
    parts = [
        {"type": "text", "text": "what is it"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,x"}},
    ]
    demand = _read(Endpoint.CHAT, messages=[{"role": "user", "content": parts}])
    assert demand.most_in(None) > TOKENS_OF_IMAGE
    nested = [{"type": "tool_result", "tool_use_id": "1", "content": [{"type": "image", "source": {}}]}]
    assert _read(Endpoint.MESSAGES, messages=[{"role": "user", "content": nested}]).images == 1


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (Endpoint.RESPONSES, {"input": "hi", "previous_response_id": "resp_1"}),
        (Endpoint.RESPONSES, {"input": [{"type": "input_file", "file_id": "f"}]}),
        (Endpoint.RESPONSES, {"input": "hi", "tools": [{"type": "web_search"}]}),
        (Endpoint.RESPONSES, {"input": [{"type": "item_reference", "id": "x"}]}),
        (Endpoint.RESPONSES, {"input": [{"id": "msg_1"}]}),
        (Endpoint.CHAT, {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}),
        (Endpoint.MESSAGES, {"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]}),
        (Endpoint.MESSAGES, {"messages": [], "tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
    ],
)
def test_content_that_is_not_in_the_body_is_bounded_by_the_window_alone(
    endpoint: Endpoint, body: dict[str, Any]
) -> None:
    demand = _read(endpoint, **body)
    assert demand.most_in(200_000) == 200_000
    assert demand.most_in(None) == UNBOUNDED_INPUT


def test_tools_of_the_agent_are_in_the_body() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}, {"name": "g", "input_schema": {}}]
    assert _read(Endpoint.CHAT, messages=[], tools=tools).most_in(128_000) < 2_000


@pytest.mark.parametrize("limit", [-1, 0, 1.5, "5", True, 10**12])
def test_a_limit_that_limits_nothing_is_refused(limit: object) -> None:
    with pytest.raises(CallRefused, match="max_tokens"):
        _read(Endpoint.CHAT, messages=[], max_tokens=limit)


def test_a_background_response_is_refused() -> None:
    with pytest.raises(CallRefused, match="background"):
        _read(Endpoint.RESPONSES, input="hi", background=True)
