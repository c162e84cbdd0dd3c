"""The official clients against a gateway on a real port."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.model_gateway import (
    ANTHROPIC_MODEL,
    KEY,
    OPENAI_MODEL,
    PROVIDER_KEY,
    LiveGateway,
    config,
    grant,
    model_gateway,
)
from tests.provider import Provider, provider
from tests.provider_answers import text
from turnout.domain.calls import Ended

HELLO: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(scope="module")
def live(upstream: Provider) -> Iterator[LiveGateway]:
    with model_gateway(config([upstream.url]), grant()) as running:
        yield running


@pytest.fixture
def gpt(live: LiveGateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=live.openai_url, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def claude(live: LiveGateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=live.url, api_key=KEY, max_retries=0) as client:
        yield client


def test_a_chat(gpt: openai.OpenAI, upstream: Provider) -> None:
    answer = gpt.chat.completions.with_raw_response.create(model=OPENAI_MODEL, messages=HELLO)
    assert answer.headers["x-request-id"] == "req_1"
    assert answer.headers["x-turnout-route"] == "openai/r0"
    parsed = answer.parse()
    assert parsed.choices[0].message.content == text()
    assert parsed.usage is not None
    assert parsed.usage.total_tokens == 19
    request = upstream.requests[-1]
    assert request.headers["authorization"] == f"Bearer {PROVIDER_KEY}"
    assert KEY not in str(request.headers)


def test_a_streamed_chat_has_no_usage_unless_it_is_asked_for(gpt: openai.OpenAI, live: LiveGateway) -> None:
    before = len(live.journal.calls)
    for wanted in (False, True):
        more = {"stream_options": {"include_usage": True}} if wanted else {}
        chunks = list(gpt.chat.completions.create(model=OPENAI_MODEL, messages=HELLO, stream=True, **more))  # type: ignore[call-overload]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text()
        assert [chunk.usage is not None for chunk in chunks if not chunk.choices] == [True] * wanted
    for call in live.journal.wait(before + 2)[before:]:
        assert (call.ended, call.tokens_in, call.tokens_cached, call.tokens_out) == (Ended.DONE, 11, 3, 8)
        assert call.stream
        assert call.first_chunk is not None
        assert not call.estimated
        assert call.nanos == 8 * 2_500 + 3 * 1_250 + 8 * 10_000


def test_a_response(gpt: openai.OpenAI) -> None:
    assert gpt.responses.create(model=OPENAI_MODEL, input="hi").output_text == text()


def test_a_streamed_response(gpt: openai.OpenAI) -> None:
    with gpt.responses.stream(model=OPENAI_MODEL, input="hi") as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        assert "".join(deltas) == text()
        assert stream.get_final_response().output_text == text()


def test_embeddings(gpt: openai.OpenAI) -> None:
    answer = gpt.embeddings.create(model=OPENAI_MODEL, input=["a", "b"], encoding_format="float")
    assert [line.embedding for line in answer.data] == [[0.25, -0.5]] * 2


def test_the_models_are_those_of_the_release(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    assert [model.id for model in gpt.models.list()] == [OPENAI_MODEL, ANTHROPIC_MODEL, "gemma"]
    assert gpt.models.retrieve(OPENAI_MODEL).owned_by == "openai"
    assert [model.id for model in claude.models.list()] == [OPENAI_MODEL, ANTHROPIC_MODEL, "gemma"]
    with pytest.raises(openai.NotFoundError):
        gpt.models.retrieve("gpt-5")


def test_a_message(claude: anthropic.Anthropic, upstream: Provider) -> None:
    answer = claude.messages.create(model=ANTHROPIC_MODEL, max_tokens=50, messages=HELLO)
    assert [part.text for part in answer.content if part.type == "text"] == [text()]
    request = upstream.requests[-1]
    assert request.headers["x-api-key"] == PROVIDER_KEY
    assert request.headers["anthropic-version"]
    assert KEY not in str(request.headers)


def test_a_streamed_message(claude: anthropic.Anthropic, live: LiveGateway) -> None:
    before = len(live.journal.calls)
    with claude.messages.stream(model=ANTHROPIC_MODEL, max_tokens=50, messages=HELLO) as stream:
        assert stream.get_final_text() == text()
        assert stream.get_final_message().usage.output_tokens == 8
    call = live.journal.last(before + 1)
    assert (call.tokens_in, call.tokens_cached, call.tokens_out, call.estimated) == (11, 3, 8, False)


def test_refusals_are_errors_of_the_clients(live: LiveGateway, gpt: openai.OpenAI) -> None:
    stranger, message = gpt.with_options(api_key="tk_wrong"), HELLO
    with pytest.raises(openai.AuthenticationError, match="not known"):
        stranger.chat.completions.create(model=OPENAI_MODEL, messages=message)
    with pytest.raises(openai.PermissionDeniedError, match="not in this release"):
        gpt.with_options(max_retries=2).chat.completions.create(model="gpt-5", messages=message)


def test_refusals_are_errors_of_the_client_of_anthropic(claude: anthropic.Anthropic) -> None:
    stranger = claude.with_options(api_key="tk_wrong")
    with pytest.raises(anthropic.AuthenticationError, match="not known"):
        stranger.messages.create(model=ANTHROPIC_MODEL, max_tokens=5, messages=HELLO)


@pytest.mark.parametrize("fault", ["cut_midway", "silent_midway", "error_event"])
def test_a_stream_that_breaks_off_is_an_error_of_the_clients(
    fault: str, live: LiveGateway, gpt: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    live.config = config([live.config.providers["openai"][0].url], idle_timeout=0.2, first_byte_timeout=5.0)
    # The third piece and on: the agent has the beginning by then.
    headers = {"x-fault": fault, "x-pace": "0.02"}
    with pytest.raises(openai.APIError):
        list(gpt.chat.completions.create(model=OPENAI_MODEL, messages=HELLO, stream=True, extra_headers=headers))
    with pytest.raises(openai.APIError):
        list(gpt.responses.create(model=OPENAI_MODEL, input="hi", stream=True, extra_headers=headers))
    with pytest.raises(anthropic.APIError):
        list(
            claude.messages.create(
                model=ANTHROPIC_MODEL, max_tokens=50, messages=HELLO, stream=True, extra_headers=headers
            )
        )
