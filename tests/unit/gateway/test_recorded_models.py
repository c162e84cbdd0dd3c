"""Models in a replay: the recorded bytes, or a refusal in the protocol of the provider."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.mcp_servers import build_grant, key_digest
from tests.unit.domain.recorded import recorded_model, recording
from turnout.domain.calls import Ended, ModelCall
from turnout.domain.grants import Grant, ModelPin
from turnout.gateway.asgi import Message, Receive, Scope, Send
from turnout.gateway.json_object import parse_object
from turnout.gateway.kept_answer import request_digest
from turnout.gateway.protocols.endpoints import Endpoint
from turnout.gateway.recorded_models import RecordedModels, follow
from turnout.gateway.requests import read_request
from turnout.playback import Playback

KEY = "tk_of-the-tests"
ASKED = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
EVENTS = 'data: {"choices":[]}\n\ndata: [DONE]\n\n'


class OneKey:
    def find(self, key: str) -> Grant | None:
        pin = ModelPin("openai", "gpt-4o")
        return build_grant(key=key_digest(KEY), models=(pin, ModelPin("anthropic", "haiku"))) if key == KEY else None


def digest_of(body: dict[str, Any]) -> str:
    return request_digest(parse_object(json.dumps(body).encode()))


def ask(
    app: Any, body: dict[str, Any], path: str = "/v1/chat/completions", key: str = KEY, **headers: str
) -> tuple[int, dict[str, str], str]:
    """(status, headers, body) of one request."""
    sent: list[Message] = []
    pairs = {"authorization": f"Bearer {key}", **headers}.items()
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in pairs],
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": json.dumps(body).encode()}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answered, b"".join(part.get("body", b"") for part in sent[1:]).decode()


def playing(*models: Any) -> tuple[RecordedModels, Playback]:
    playback = Playback()
    playback.begin(recording(models=models))
    return RecordedModels(OneKey(), playback, lambda: 5.0), playback


def test_requests_that_ask_for_something_else_have_another_digest() -> None:
    def digest(**changes: Any) -> str:
        return request_digest(read_request(Endpoint.CHAT, json.dumps({**ASKED, **changes}).encode()).body)

    other = [{"role": "user", "content": "bye"}]
    assert digest() == digest(stream=True, user="somebody") == digest_of(ASKED)
    assert len({digest(), digest(messages=other), digest(temperature=1), digest(model="gpt-5")}) == 4


def test_a_recorded_request_gets_the_recorded_bytes_and_costs_what_it_cost() -> None:
    app, playback = playing(recorded_model('{"id": "x"}', digest_of(ASKED)))

    status, headers, body = ask(app, {**ASKED, "user": "somebody"}, **{"x-turnout-task": "t1"})
    played = playback.end("t1")

    assert (status, headers["content-type"], body) == (200, "application/json", '{"id": "x"}')
    (call,) = played.calls
    assert isinstance(call, ModelCall)
    assert (call.nanos, call.tokens_in, call.tokens_out, call.provider) == (10_000_000, 10, 5, "openai")
    assert played.divergences == ()


def test_a_stream_is_answered_as_a_stream() -> None:
    app, _ = playing(recorded_model(EVENTS, digest_of(ASKED), content_type="text/event-stream"))

    status, headers, body = ask(app, {**ASKED, "stream": True})

    assert (status, headers["content-type"], body) == (200, "text/event-stream", EVENTS)


@pytest.mark.parametrize("stream", [True, False])
def test_an_unrecorded_request_is_a_divergence_in_the_protocol_of_openai(stream: bool) -> None:
    app, playback = playing(recorded_model("{}", digest_of(ASKED)))

    status, headers, body = ask(app, {**ASKED, "temperature": 1, "stream": stream})
    played = playback.end("t1")

    assert (status, headers["x-should-retry"], json.loads(body)["error"]["code"]) == (409, "false", "not_recorded")
    assert [(item.kind, item.name) for item in played.divergences] == [("model", "gpt-4o")]
    assert [call.ended for call in played.calls] == [Ended.REFUSED]


def test_an_unrecorded_request_is_a_divergence_in_the_protocol_of_anthropic() -> None:
    app, _ = playing()

    body = {"model": "haiku", "max_tokens": 5, "messages": ASKED["messages"]}
    status, _, answer = ask(app, body, "/v1/messages")

    assert (status, json.loads(answer)["type"]) == (409, "error")


def test_a_request_more_than_was_recorded_is_a_divergence() -> None:
    app, playback = playing(recorded_model("{}", digest_of(ASKED)))

    assert [ask(app, ASKED)[0] for _ in range(2)] == [200, 409]
    assert len(playback.end("t1").divergences) == 1


def test_a_call_that_failed_then_fails_again() -> None:
    failed = recorded_model(digest=digest_of(ASKED), answer=None, ended=Ended.FAILED, status=503)
    app, playback = playing(failed)

    assert ask(app, ASKED)[0] == 503
    assert playback.end("t1").divergences == ()


@pytest.mark.parametrize(("key", "model", "status"), [("wrong", "gpt-4o", 401), (KEY, "gpt-5", 403)])
def test_keys_and_models_are_checked_as_ever(key: str, model: str, status: int) -> None:
    app, playback = playing()

    assert ask(app, {**ASKED, "model": model}, key=key)[0] == status
    assert playback.end("t1").divergences == ()


def test_models_are_listed_and_the_application_lives() -> None:
    app, _ = playing()
    heard: list[str] = []
    told = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> Message:
        return {"type": next(told)}

    async def send(message: Message) -> None:
        heard.append(message["type"])

    asyncio.run(app({"type": "lifespan"}, receive, send))

    assert heard == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert ask(app, {}, "/v1/nowhere")[0] == 404


def test_calls_of_real_models_belong_to_the_only_task_under_way() -> None:
    seen: list[Any] = []

    async def live(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(dict(scope["headers"]).get(b"x-turnout-task"))
        await send({"type": "http.response.start", "status": 200, "headers": []})

    playback = Playback()
    playback.begin(recording())
    app = follow(live, playback)
    ask(app, {})
    ask(app, {}, **{"x-turnout-task": "other"})

    assert seen == [b"t1", b"other"]
