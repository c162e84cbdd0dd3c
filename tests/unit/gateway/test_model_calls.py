"""What the gateway changes of a call, whom it belongs to, what it costs, and how it ends when the agent goes away."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.live import wait_until
from tests.model_gateway import (
    HOST,
    KEY,
    LOCAL_MODEL,
    OPENAI_MODEL,
    LiveGateway,
    ask,
    config,
    grant,
    model_gateway,
    question,
)
from tests.provider import Provider, provider
from turnout.domain.budget import NANOS, Budget, BudgetScope, Unit
from turnout.domain.calls import Ended
from turnout.domain.grants import ModelPin
from turnout.gateway.failover import Candidate, Journey, RouteBoard
from turnout.gateway.values import GatewayConfig, Price, Route

BUDGET = Budget(BudgetScope.RING, NANOS)


@pytest.fixture
def upstream() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture
def live(upstream: Provider) -> Iterator[LiveGateway]:
    with model_gateway(config([upstream.url]), grant()) as running:
        yield running


def test_the_body_goes_on_byte_for_byte(live: LiveGateway, upstream: Provider) -> None:
    body = (
        b'{ "model":"%s",\n "messages": [{"role":"user","content":"\xc3\xa9 \\u00e9"}],"seed":1.50e1 }'
        % OPENAI_MODEL.encode()
    )
    assert ask(live, body=body).status == 200
    assert upstream.requests[-1].raw == body


def test_the_name_of_the_model_is_what_the_route_calls_it(upstream: Provider) -> None:
    with model_gateway(config([upstream.url], models={OPENAI_MODEL: "my-deployment"}), grant()) as live:
        assert ask(live).status == 200
        assert upstream.requests[-1].body["model"] == "my-deployment"
        call = live.journal.last()
        assert (call.model, call.answered_by, call.attempts[0].model) == (
            OPENAI_MODEL,
            "my-deployment",
            "my-deployment",
        )


def test_a_limit_is_added_only_where_a_budget_counts_and_the_caller_gave_none(
    live: LiveGateway, upstream: Provider
) -> None:
    open_end = question(max_tokens=None)
    ask(live, body=open_end)
    assert upstream.requests[-1].body == open_end
    live.grant = grant(budgets=(BUDGET,))
    ask(live, body=open_end)
    assert upstream.requests[-1].body == {**open_end, "max_completion_tokens": 16_384}
    ask(live)
    assert upstream.requests[-1].body == question()
    ask(live, "responses")
    assert upstream.requests[-1].body == {**question("responses"), "max_output_tokens": 16_384}
    live.grant = grant(budgets=(Budget(BudgetScope.RING, 100, Unit.CALLS),))
    ask(live, body=open_end)
    assert upstream.requests[-1].body == open_end


def test_the_limit_of_a_caller_is_told_to_a_route_that_knows_another_name_for_it(upstream: Provider) -> None:
    given = question(max_tokens=None, max_completion_tokens=3)
    with model_gateway(config([upstream.url], limit_parameter="max_tokens"), grant(budgets=(BUDGET,))) as live:
        ask(live, body=given)
        assert upstream.requests[-1].body == {**given, "max_tokens": 3}


def test_a_tool_of_the_provider_may_use_a_model_of_the_release(live: LiveGateway, upstream: Provider) -> None:
    given = question("responses", tools=[{"type": "image_generation", "model": "gemma"}])
    assert ask(live, "responses", body=given).status == 200
    assert upstream.requests[-1].body == given


def test_headers_of_one_connection_and_of_other_parties_stay_behind(live: LiveGateway, upstream: Provider) -> None:
    headers = {
        "connection": "x-of-this-hop",
        "x-of-this-hop": "1",
        "x-turnout-task": "t1",
        "baggage": "turnout.task=t2",
        "cookie": "session=1",
        "openai-organization": "org",
        "x-mine": "kept",
        "openai-beta": "kept",
    }
    ask(live, headers=headers)
    got = upstream.requests[-1].headers
    assert {name for name in headers if name in got} == {"x-mine", "openai-beta"}


@pytest.mark.parametrize(
    ("headers", "task"),
    [
        ({"x-turnout-task": "t1", "baggage": "turnout.task=t2"}, "t1"),
        ({"baggage": "other=1, turnout.task=a%20b%2Fc;property=1"}, "a b/c"),
        ({"baggage": "other=1"}, None),
        ({"baggage": "turnout.task=%0a"}, None),
        ({"baggage": ",;=turnout.task"}, None),
        ({}, None),
    ],
)
def test_a_call_belongs_to_the_task_that_its_headers_name(
    live: LiveGateway, headers: dict[str, str], task: str | None
) -> None:
    ask(live, headers=headers)
    call = live.journal.last()
    assert (call.task, call.agent, call.ring) == (task, "support", "production")


def test_the_worst_case_is_held_and_what_was_taken_settled(live: LiveGateway) -> None:
    live.grant = grant(budgets=(BUDGET,))
    answer = ask(live)
    call, (most,), (spent,) = live.journal.last(), live.accounts.most, live.accounts.spent
    assert most.tokens >= len(json.dumps(question())) + 50
    assert spent.nanos == call.nanos == 8 * 2_500 + 3 * 1_250 + 8 * 10_000
    assert spent.tokens == 19
    assert most.nanos > spent.nanos
    assert live.accounts.held == {}
    assert answer.headers["x-turnout-call"] == call.id


def test_a_budget_in_the_way_is_told_and_nothing_is_called(live: LiveGateway, upstream: Provider) -> None:
    live.grant = grant(budgets=(Budget(BudgetScope.TASK, 3, Unit.CALLS),))
    task = {"x-turnout-task": "t1"}
    assert [ask(live, headers=task).status for _ in range(4)] == [200, 200, 200, 429]
    refused = ask(live, headers=task)
    assert refused.json["error"]["code"] == "budget_exceeded"
    assert "task budget of 3 calls" in refused.json["error"]["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert ask(live, "messages", headers=task).json["error"]["type"] == "rate_limit_error"
    assert ask(live, headers={"x-turnout-task": "t2"}).status == 200
    assert [ask(live).status for _ in range(4)] == [200, 200, 200, 429]  # those without a task are as one
    assert len(upstream.requests) == 7
    assert live.journal.wait(11)[3].ended is Ended.REFUSED


def test_an_agent_that_tells_no_task_learns_why_all_its_calls_count_as_one(live: LiveGateway) -> None:
    live.grant = grant(budgets=(Budget(BudgetScope.TASK, 1, Unit.CALLS),))
    assert ask(live).status == 200
    live.journal.wait()
    assert "header x-turnout-task" in ask(live).json["error"]["message"]
    told = {"x-turnout-task": "one"}
    assert ask(live, headers=told).status == 200
    live.journal.wait(3)
    assert "header x-turnout-task" not in ask(live, headers=told).json["error"]["message"]


def test_a_ledger_that_is_down_stops_calls_that_have_a_budget(live: LiveGateway, upstream: Provider) -> None:
    live.accounts.down = True
    assert ask(live).status == 200
    live.grant = grant(budgets=(BUDGET,))
    refused = ask(live)
    assert (refused.status, refused.json["error"]["code"]) == (503, "ledger_unavailable")
    assert len(upstream.requests) == 1


def test_a_model_without_a_price_needs_one_under_a_budget_in_dollars(upstream: Provider) -> None:
    body = question(model=LOCAL_MODEL)
    with model_gateway(config([upstream.url]), grant()) as live:
        assert ask(live, body=body).status == 200
        assert (live.journal.last().nanos, live.journal.last().prices) == (0, "")
        live.grant = grant(budgets=(BUDGET,))
        refused = ask(live, body=body)
        assert refused.status == 403
        assert '[prices."local/gemma"]' in refused.json["error"]["message"]
        live.config = config([upstream.url], {"local/gemma": Price(1.0, 2.0)})
        assert ask(live, body=body).status == 200
        call = live.journal.wait(3)[2]
        assert call.nanos == 11 * 1_000 + 8 * 2_000
        assert call.prices.startswith("sha256:")


@pytest.mark.parametrize("fault", ["usage_missing", "usage_negative", "usage_absurd"])
@pytest.mark.parametrize("stream", [False, True])
def test_usage_that_cannot_be_believed_is_estimated_within_what_was_held(
    live: LiveGateway, fault: str, stream: bool
) -> None:
    live.grant = grant(budgets=(BUDGET,))
    assert ask(live, stream=stream, headers={"x-fault": fault}).status == 200
    call, (most,), (spent,) = live.journal.last(), live.accounts.most, live.accounts.spent
    assert call.estimated
    assert 0 < spent.nanos <= most.nanos
    assert 0 < spent.tokens <= most.tokens


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_whose_agent_goes_away_is_settled_and_read_no_further(
    live: LiveGateway, upstream: Provider, stream: bool
) -> None:
    live.grant = grant(budgets=(BUDGET,))
    fault = "silent_midway" if stream else "silent"
    with _request(live, stream=stream, headers={"x-fault": fault}) as agent:
        if stream:
            assert b"200" in agent.recv(4096)
        else:
            wait_until(lambda: bool(upstream.requests), 5, lambda: "not so: the provider has the call")
    call = live.journal.last()
    assert (call.ended, call.estimated, call.stream) == (Ended.CANCELLED, True, stream)
    assert call.tokens_in > 0
    wait_until(lambda: upstream.gone == ["chat/completions"], 5, lambda: "not so: the provider notices")
    wait_until(lambda: not live.accounts.held, 5, lambda: "not so: the hold ends")
    (most,), (spent,) = live.accounts.most, live.accounts.spent
    if stream:
        assert 0 < spent.nanos <= most.nanos
    else:  # nobody knows how much the provider goes on to write
        assert (spent.nanos, spent.tokens) == (most.nanos, most.tokens)


@pytest.mark.parametrize(
    ("endpoint", "asked", "known", "whole_hold"),
    [
        ("chat/completions", {}, False, True),  # nothing is known of the model yet
        ("chat/completions", {}, True, True),  # the provider of the tests says that it thought
        ("chat/completions", {"reasoning_effort": "low"}, True, True),
        ("responses", {"reasoning": {"effort": "low"}}, True, True),
        ("messages", {}, False, False),
        ("messages", {"thinking": {"type": "enabled", "budget_tokens": 20}}, True, True),
        ("messages", {"thinking": {"type": "disabled"}}, True, False),
    ],
)
def test_a_stream_that_breaks_off_costs_all_that_a_model_may_have_thought(
    live: LiveGateway, endpoint: str, asked: dict[str, object], known: bool, whole_hold: bool
) -> None:
    live.grant = grant(budgets=(BUDGET,))
    if known:
        assert ask(live, endpoint, stream=True).status == 200
    ask(live, endpoint, question(endpoint, stream=True, **asked), headers={"x-fault": "cut_midway"})
    call = live.journal.last(1 + known)
    assert (call.ended, call.estimated) == (Ended.CUT, True)
    if whole_hold:
        assert call.tokens_out == (16_384 if endpoint == "responses" else 50)
    else:
        assert 0 < call.tokens_out < 20


def test_a_model_is_one_that_reasons_until_an_answer_says_otherwise_and_once_one_says_so() -> None:
    candidate = Candidate(ModelPin("local", "m"), Route("local", "r", "http://127.0.0.1/v1"), "m", None)

    async def told(*reasoned: bool) -> bool:
        journey = Journey([candidate], RouteBoard(), 10.0)
        for one in reasoned:
            journey.learn(candidate, reasoned=one)
        return journey.may_reason(candidate)

    assert [asyncio.run(told(*said)) for said in [(), (False,), (True,), (False, True), (True, False)]] == [
        *(True, False, True, True, True)
    ]


def test_counting_tokens_follows_the_pin_and_costs_nothing(live: LiveGateway, upstream: Provider) -> None:
    live.grant = grant(budgets=(Budget(BudgetScope.RING, 1, Unit.TOKENS), Budget(BudgetScope.RING, 1)))
    given = question("messages", max_tokens=None)
    answer = ask(live, "messages/count_tokens", given)
    assert (answer.status, answer.json) == (200, {"input_tokens": 11})
    assert (upstream.requests[-1].endpoint, upstream.requests[-1].body) == ("messages/count_tokens", given)
    call = live.journal.last()
    assert (call.endpoint, call.ended, call.nanos, call.tokens_in) == ("messages/count_tokens", Ended.DONE, 0, 0)
    assert live.accounts.most == live.accounts.spent == []
    refused = ask(live, "messages/count_tokens", {**given, "model": "claude-of-another-release"})
    assert (refused.status, refused.json["error"]["type"]) == (403, "permission_error")
    assert ask(live, "messages/count_tokens", {**given, "stream": True}).status == 400


def test_usage_beyond_the_bound_costs_as_much_as_can_be_believed(live: LiveGateway) -> None:
    live.grant = grant(budgets=(BUDGET,))
    assert ask(live, headers={"x-fault": "usage_absurd"}).status == 200
    assert live.journal.last().estimated
    (most,), (spent,) = live.accounts.most, live.accounts.spent
    assert most.nanos / 2 < spent.nanos <= most.nanos


def test_the_name_of_a_model_that_was_made_up_is_cut_short(live: LiveGateway) -> None:
    assert ask(live, body=question(model="x" * 100_000)).status == 403
    assert len(live.journal.last().model) == 200


def test_an_agent_that_reads_nothing_does_not_hold_a_call_beyond_its_deadline(upstream: Provider) -> None:
    with model_gateway(config([upstream.url], deadline=1.0), grant(budgets=(BUDGET,))) as live:
        with _request(live, stream=True, headers={"x-words": "60000"}, buffer=4096):
            call = live.journal.last()
        assert (call.ended, call.estimated) == (Ended.TIMEOUT, True)
        assert call.duration < 8
        assert live.accounts.held == {}


def test_an_agent_that_goes_away_while_it_sends_makes_no_call(live: LiveGateway, upstream: Provider) -> None:
    with _request(live, headers={}, cut=20):
        pass
    assert ask(live).status == 200
    assert len(upstream.requests) == 1


def test_a_stream_comes_as_it_is_made(live: LiveGateway) -> None:
    with _request(live, stream=True, headers={"x-pace": "0.2"}) as agent:
        began = time.monotonic()
        assert b"chat.completion.chunk" in agent.recv(65_536) + agent.recv(65_536)
        assert time.monotonic() - began < 0.6


@pytest.mark.parametrize("stream", [False, True])
def test_connections_to_a_provider_are_used_again(live: LiveGateway, upstream: Provider, stream: bool) -> None:
    for endpoint in ("chat/completions", "messages", "responses") * 2:
        assert ask(live, endpoint, stream=stream).status == 200
    assert upstream.connections == 1


def test_a_fault_of_the_gateway_itself_is_told_in_the_protocol_of_the_agent(
    upstream: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    broken = config([upstream.url])
    route = replace(broken.providers["openai"][0], limit_parameter=object(), models=None)  # type: ignore[arg-type]
    with model_gateway(GatewayConfig(providers={"openai": (route,)}), grant(budgets=(BUDGET,))) as live:
        answer = ask(live)
        assert (answer.status, answer.json["error"]["code"]) == (500, "internal_error")
        assert live.journal.last().ended is Ended.FAILED
    assert "fault of the gateway" in caplog.text


def test_routes_of_another_protocol_do_not_count(upstream: Provider) -> None:
    only = GatewayConfig(providers={"openai": (Route("openai", "a", upstream.url),)})
    with model_gateway(only, grant()) as live:
        refused = ask(live, "messages", question("messages", model=OPENAI_MODEL))
        assert refused.status == 503
        assert "speaks the protocol of anthropic" in refused.json["error"]["message"]
        refused = ask(live, "messages")
        assert "there is no route to the provider anthropic" in refused.json["error"]["message"]


def _request(
    live: LiveGateway,
    *,
    stream: bool = False,
    headers: dict[str, str],
    cut: int | None = None,
    buffer: int | None = None,
) -> socket.socket:
    """A socket over which a request was sent; only the first `cut` bytes of its body, where given.

    `buffer`: bytes that come before they are read.
    """
    body = json.dumps(question(stream=stream)).encode()
    lines = {"host": "gateway", "authorization": f"Bearer {KEY}", "content-length": str(len(body)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    agent = socket.socket()
    if buffer is not None:
        agent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    agent.settimeout(5)
    agent.connect((HOST, live.port))
    agent.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode() + body[:cut])
    return agent
