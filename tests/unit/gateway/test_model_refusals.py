"""Requests that are wrong, or want too much."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator

import pytest

from tests.live import wait_until
from tests.model_gateway import (
    HOST,
    KEY,
    OPENAI_MODEL,
    Answer,
    LiveGateway,
    ask,
    config,
    grant,
    model_gateway,
    question,
)
from tests.provider import Provider, provider


@pytest.fixture(scope="module")
def upstream() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(scope="module")
def live(upstream: Provider) -> Iterator[LiveGateway]:
    with model_gateway(config([upstream.url]), grant(), largest_body=100_000) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_is_called(upstream: Provider) -> Iterator[None]:
    yield
    assert upstream.requests == []


@pytest.mark.parametrize("key", [None, "", "tk_wrong", "tk_" + "x" * 4000])
@pytest.mark.parametrize("endpoint", ["chat/completions", "messages"])
def test_a_wrong_key(live: LiveGateway, key: str | None, endpoint: str) -> None:
    answer = ask(live, endpoint, key=key)
    assert answer.status == 401
    assert answer.headers["x-should-retry"] == "false"
    assert "key" in answer.json["error"]["message"]
    assert (answer.json.get("type") == "error") == (endpoint == "messages")


def test_two_different_keys(live: LiveGateway) -> None:
    assert ask(live, headers={"x-api-key": "tk_other"}).status == 401


def test_a_release_that_is_stopped(live: LiveGateway) -> None:
    running, live.grant = live.grant, grant(stopped="the breaker cost tripped")
    try:
        answer = ask(live)
    finally:
        live.grant = running
    assert (answer.status, answer.json["error"]["code"]) == (403, "release_stopped")
    assert "the breaker cost tripped" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", "not a JSON object"),
        (b"nonsense", "not a JSON object"),
        (b'{"model": "gpt-4o-2024-08-06", "model": "gpt-5"}', "twice"),
        (b'{"messages": []}', "model has to be"),
        (b'{"model": 7}', "model has to be"),
        (b'{"model": "gpt-4o-2024-08-06", "Model": "gpt-5-pro"}', "could be read as 'model'"),
        (b'{"model": "gpt-4o-2024-08-06", "MAX_TOKENS": 99999}', "could be read as 'max_tokens'"),
        ('{"model": "gpt-4o-2024-08-06", "\uff4dodel": "gpt-5-pro"}'.encode(), "could be read as 'model'"),
        (b'{"model": "gpt-4o-2024-08-06", "models": ["gpt-5-pro"]}', "models can name other models"),
        (b'{"model": "gpt-4o-2024-08-06", "route": "fallback"}', "route can name other models"),
        (b'{"model": "gpt-4o-2024-08-06", "preset": "mine"}', "preset can name other models"),
        (b'{"model": "gpt-4o-2024-08-06", "Tools": []}', "could be read as 'tools'"),
        (b'{"model": "gpt-4o-2024-08-06", "tools": [{"type": "x", "Model": "m"}]}', "model of a tool"),
        (b'{"model": "gpt-4o-2024-08-06", "tools": 5}', "tools has to be"),
        (b'{"model": "gpt-4o-2024-08-06", "stream": "yes"}', "stream has to be"),
        (b'{"model": "gpt-4o-2024-08-06", "stream_options": 5}', "stream_options has to be"),
        (b'{"model": "gpt-4o-2024-08-06", "max_tokens": -1}', "max_tokens has to be"),
        (b'{"model": "gpt-4o-2024-08-06", "n": 100000}', "n has to be"),
        (b"[" * 50_000, "not a JSON object"),
        (b'{"messages": ' + b"[" * 90_000 + b"}", "nested too deeply"),
    ],
)
def test_a_body_that_makes_no_sense(live: LiveGateway, body: bytes, fault: str) -> None:
    answer = ask(live, body=body)
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
    assert fault in answer.json["error"]["message"]


def test_a_body_that_is_too_large(live: LiveGateway) -> None:
    assert ask(live, body=b"x" * 100_001).status == 413
    assert ask(live, "messages", b"x" * 100_001).json["error"]["type"] == "request_too_large"
    chunked = _send(live, "transfer-encoding: chunked\r\n", b"%x\r\n" % 100_001 + b"x" * 100_001 + b"\r\n0\r\n\r\n")
    assert chunked.status == 413


@pytest.mark.parametrize("filling", [b"{}", b"[]", b"1"])
def test_a_body_of_very_many_values_is_refused_before_it_is_read(upstream: Provider, filling: bytes) -> None:
    number = 200_001 if filling != b"1" else 2_000_001
    body = b'{"model": "%s", "messages": [' % OPENAI_MODEL.encode() + (filling + b",") * number + b"1]}"
    with model_gateway(config([upstream.url]), grant()) as live:
        answer = ask(live, body=body)
    assert answer.status == 400
    assert "too many values" in answer.json["error"]["message"]


def test_bodies_that_take_more_room_than_there_is(upstream: Provider) -> None:
    with model_gateway(config([upstream.url]), grant(), most_bodies=100_000) as live:
        with socket.create_connection((HOST, live.port), timeout=5) as slow:
            head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
            slow.sendall(f"{head}content-length: 80000\r\n\r\n".encode() + b"x" * 79_000)
            wait_until(lambda: _ask_much(live).status == 503, 5, lambda: "the room is not taken")
            answer = _ask_much(live)
            assert answer.json["error"]["type"] == "overloaded_error"
            assert answer.headers["retry-after"] == "1"
        wait_until(lambda: _ask_much(live).status == 400, 5, lambda: "the room is not given back")


def _ask_much(live: LiveGateway) -> Answer:
    return ask(live, "messages", b"{" + b" " * 40_000)


def test_a_model_that_is_not_in_the_release(live: LiveGateway) -> None:
    answer = ask(live, body=question(model="gpt-5"))
    assert (answer.status, answer.json["error"]["code"]) == (403, "model_not_allowed")
    assert "gpt-4o-2024-08-06" in answer.json["error"]["message"]


def test_a_tool_of_the_provider_that_names_another_model(live: LiveGateway) -> None:
    tools = [{"type": "image_generation", "model": "gpt-image-1"}]
    answer = ask(live, "responses", body=question("responses", tools=tools))
    assert (answer.status, answer.json["error"]["code"]) == (403, "model_not_allowed")
    assert "'gpt-image-1' of a tool" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/completions", 404),
        ("POST", "/v1/chat/completions/", 404),
        ("POST", "/v1/../v1/chat/completions", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models/x", 404),
        ("GET", "/", 404),
    ],
)
def test_a_path_that_is_not_offered(live: LiveGateway, method: str, path: str, status: int) -> None:
    connection = http.client.HTTPConnection(HOST, live.port, timeout=5)
    connection.request(method, path, headers={"authorization": f"Bearer {KEY}"})
    response = connection.getresponse()
    assert response.status == status
    assert json.loads(response.read())["error"]["message"]
    connection.close()


def test_whether_it_is_ready_needs_no_key(live: LiveGateway) -> None:
    connection = http.client.HTTPConnection(HOST, live.port, timeout=5)
    connection.request("GET", "/-/ready")
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"ready\n")
    connection.close()


BODY = json.dumps(question()).encode()
CHUNKED = b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (f"content-length: {len(BODY)}\r\ntransfer-encoding: chunked\r\n", CHUNKED),
        (f"transfer-encoding: chunked\r\ncontent-length: {len(BODY)}\r\n", CHUNKED),
        (f"content-length: {len(BODY)}\r\ncontent-length: {len(BODY) + 7}\r\n", BODY),
        ("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", CHUNKED),
        (f"content-length: +{len(BODY)}\r\n", BODY),
        (f"content-length: {len(BODY)}\r\nauthorization: Bearer tk_other\r\n", BODY),
        (f"content-length: {len(BODY)}\r\nx-turnout-task: a\r\nx-turnout-task: b\r\n", BODY),
        (f"content-length: {len(BODY)}\r\nx-turnout-task: {'a' * 300}\r\n", BODY),
        (f"content-length: {len(BODY)}\r\nx-turnout-task: a\tb\r\n", BODY),
        (f"content-length: {len(BODY)}\r\nx-turnout-task: \r\n", BODY),
        (f"content-length: {len(BODY)}\r\nx-turnout-task: a\rx-injected: 1\r\n", BODY),
        (f"content-length: {len(BODY)}\r\nx-turnout-task: \xff\xfe\r\n", BODY),
    ],
)
def test_headers_that_can_be_read_in_two_ways(live: LiveGateway, lines: str, body: bytes) -> None:
    assert _send(live, lines, body).status == 400


def _send(live: LiveGateway, lines: str, body: bytes) -> http.client.HTTPResponse:
    with socket.create_connection((HOST, live.port), timeout=5) as agent:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n{lines}\r\n"
        agent.sendall(head.encode("latin-1") + body)
        response = http.client.HTTPResponse(agent)
        response.begin()
        response.read()
        return response
