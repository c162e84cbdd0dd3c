"""Providers that go wrong, behind a gateway on a real port."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from tests.model_gateway import (
    KEY,
    OPENAI_MODEL,
    PROVIDER_KEY,
    LiveGateway,
    ask,
    config,
    grant,
    is_error,
    is_whole,
    model_gateway,
)
from tests.provider import FAULTS, Provider, deaf_port, provider, refused_port
from turnout.domain.calls import Ended
from turnout.domain.errors import RouteFailed
from turnout.domain.grants import ModelPin
from turnout.domain.route_health import HEALTHY, RouteState, state_of
from turnout.gateway import relay
from turnout.gateway.failover import Candidate, Journey, RouteBoard
from turnout.gateway.values import GatewayConfig, Route

REFUSED = DEAF = ""  # URLs
DEADLINE = 0.7
SLACK = 0.8
TIMES: Any = {
    "connect_timeout": 0.15,
    "first_byte_timeout": 0.2,
    "idle_timeout": 0.2,
    "deadline": DEADLINE,
}
_marks = count()
ENDPOINTS = ("chat/completions", "responses", "messages", "embeddings")
MENDED = {"usage_missing", "usage_negative", "usage_absurd"}  # the answer itself is good


@dataclass(frozen=True)
class Pair:
    """A gateway, and two providers: one that has the fault that a request asks for, and one that has none."""

    live: LiveGateway
    bad: Provider
    good: Provider

    def arrange(self, fault: str, routes: int) -> dict[str, str]:
        """Routes of which nothing is known yet, the bad one first. Returns the headers that bring the fault about."""
        url = {"refused": REFUSED, "deaf": DEAF}.get(fault) or self.bad.url
        urls = [url, self.good.url][:routes]
        self.live.config = config(urls, mark=f"{next(_marks)}-r", **TIMES)
        return {"x-fault": fault}


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with provider() as bad, provider(sound=True) as good, model_gateway(config([bad.url]), grant()) as live:
        yield Pair(live, bad, good)


@pytest.fixture(scope="module", autouse=True)
def unreachable() -> Iterator[None]:
    global REFUSED, DEAF
    with refused_port() as REFUSED, deaf_port() as DEAF:
        yield


@pytest.mark.parametrize("routes", [1, 2])
@pytest.mark.parametrize("fault", [*FAULTS, "refused", "deaf"])
def test_every_fault_ends_as_a_whole_answer_or_as_an_error_in_time(pair: Pair, fault: str, routes: int) -> None:
    headers = pair.arrange(fault, routes)
    for endpoint, stream in [("chat/completions", True), ("messages", True), ("chat/completions", False)]:
        number = len(pair.live.journal.calls) + 1
        answer = ask(pair.live, endpoint, stream=stream, headers=headers)
        assert is_whole(endpoint, answer, stream=stream) or is_error(endpoint, answer)
        assert answer.seconds < DEADLINE + SLACK
        assert PROVIDER_KEY.encode() not in answer.body
        call = pair.live.journal.last(number)
        assert (call.ended is Ended.DONE) == (answer.status == 200 and answer.whole)
        assert PROVIDER_KEY not in repr(call)
        if fault in MENDED:
            assert call.estimated
            assert call.tokens_in > 0
            assert 0 < call.tokens_out < 60


@pytest.mark.parametrize(
    "fault", ["rate_limited", "error_500", "silent", "closed", "wrong_key", "wrong_type", "refused", "deaf"]
)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_before_the_first_byte_another_route_answers(pair: Pair, fault: str, endpoint: str) -> None:
    headers, number = pair.arrange(fault, 2), len(pair.live.journal.calls) + 1
    answer = ask(pair.live, endpoint, headers=headers)
    assert is_whole(endpoint, answer, stream=False)
    call = pair.live.journal.last(number)
    assert call.route.endswith("-r1")
    assert [attempt.route[-2:] for attempt in call.attempts] == ["r0", "r1"]
    assert call.attempts[0].error
    assert not call.attempts[1].error


def test_a_fallback_answers_when_every_route_of_the_pin_fails() -> None:
    with provider("error_500") as bad, provider() as good:
        pins = (ModelPin("openai", OPENAI_MODEL), ModelPin("local", "gemma"))
        given = config([bad.url], **TIMES)
        both = {**given.providers, "local": config([good.url]).providers["local"]}
        changed = GatewayConfig(providers=both)
        with model_gateway(changed, grant(models=pins[:1], fallbacks=pins[1:])) as live:
            answer = ask(live)
            assert answer.status == 200
            assert good.requests[-1].body["model"] == "gemma"
            assert live.journal.last().route == "local/r0"
        with model_gateway(changed, grant(models=pins)) as live:  # listed, but not as a fallback
            assert ask(live).status == 502


@pytest.mark.parametrize("endpoint", ["chat/completions", "messages"])
def test_a_stream_that_does_not_say_why_it_ends_broke_off_unless_the_route_never_says_so(endpoint: str) -> None:
    with provider("unfinished") as upstream, model_gateway(config([upstream.url]), grant()) as live:
        answer = ask(live, endpoint, stream=True)
        assert is_error(endpoint, answer)
        call = live.journal.last()
        assert call.ended in (Ended.CUT, Ended.FAILED)
        assert call.error == "the stream ended without saying why the answer ends"
        live.config = config([upstream.url], finish_reasons=False)
        assert is_whole(endpoint, ask(live, endpoint, stream=True), stream=True)
        assert live.journal.last(2).ended is Ended.DONE


def test_a_provider_that_only_pings_is_silent_in_the_end() -> None:
    with provider("pings") as upstream, model_gateway(config([upstream.url], idle_timeout=0.1), grant()) as live:
        answer = ask(live, stream=True)
        assert is_error("chat/completions", answer)
        assert 0.5 < answer.seconds < 3
        assert live.journal.last().error == "nothing but pings for too long"


def test_a_stream_ends_soon_after_its_release_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "LOOK_SECONDS", 0.1)
    with provider() as upstream, model_gateway(config([upstream.url]), grant()) as live:
        timer = threading.Timer(0.3, lambda: setattr(live, "grant", grant(stopped="the breaker tripped")))
        timer.start()
        answer = ask(live, stream=True, headers={"x-pace": "0.05", "x-words": "100"})
        timer.join()
        assert is_error("chat/completions", answer)
        assert b"release_stopped" in answer.body
        assert answer.seconds < 3
        call = live.journal.last()
        assert (call.ended, call.error) == (Ended.CANCELLED, "calls of this release are stopped: the breaker tripped")
        assert call.tokens_out > 0


def test_two_pins_of_one_model_of_a_route_are_two_candidates() -> None:
    route = Route("openai", "r0", "http://127.0.0.1/v1")
    new, old = (Candidate(ModelPin("openai", name), route, "deployment", None) for name in ("new", "old"))
    assert new.key != old.key


def test_what_is_known_of_a_fault_holds_no_call_in_memory() -> None:
    async def run() -> None:
        candidate = Candidate(ModelPin("openai", "m"), Route("openai", "r0", "http://127.0.0.1/v1"), "m", None)
        journey = Journey([candidate], RouteBoard(), asyncio.get_running_loop().time() + 10)
        told: list[weakref.ref[Any]] = []

        async def fail(_: Candidate) -> None:
            body = {1, 2, 3}  # stands for what a call holds
            told.append(weakref.ref(body))
            raise RouteFailed("no", answered=500)

        with pytest.raises(RouteFailed) as raised:
            await journey.run(fail)
        assert raised.value is not journey.faults[0]
        del raised
        assert told[0]() is None

    gc.disable()  # what only the collector could free would stay for long
    try:
        asyncio.run(run())
    finally:
        gc.enable()


def test_a_long_pause_that_one_call_brought_about_does_not_keep_others_away() -> None:
    board, route = RouteBoard(), "openai/r0/m"
    board.fail(route, 0.0, RouteFailed("too often", answered=429, retry_after=3_600.0))
    assert board.healths[route].rest_until == 60.0


@pytest.mark.parametrize("status", [408, 409, 425])
def test_a_status_that_says_nothing_of_the_route_opens_no_breaker(status: int) -> None:
    board, route = RouteBoard(), "openai/r0/m"
    for _ in range(20):
        board.fail(route, 0.0, RouteFailed(f"status {status}", answered=status))
    assert state_of(board.healths.get(route, HEALTHY), 0.0) is RouteState.CLOSED


def test_an_open_route_is_left_alone_and_tried_again_later() -> None:
    with provider("error_500") as bad, provider() as good, model_gateway(config([bad.url, good.url]), grant()) as live:
        for _ in range(10):
            assert ask(live).status == 200
        assert len(bad.requests) == 3
        assert len(good.requests) == 10


def test_whoever_asks_is_told_of_routes_that_go_down_and_come_back() -> None:
    told: list[tuple[str, str | None]] = []
    board, fault = RouteBoard(lambda key, why: told.append((key, why))), RouteFailed("status 500", answered=500)
    for at in range(4):
        board.fail("r", float(at), fault)
    board.succeed("s", 5.0)
    board.fail("r", 100.0, fault)  # a trial that failed: it is down already
    board.succeed("r", 200.0)
    board.succeed("r", 201.0)
    assert told == [("r", "status 500"), ("r", None)]


def test_a_short_pause_is_waited_for_where_there_is_no_other_route() -> None:
    with provider() as only, model_gateway(config([only.url]), grant()) as live:
        only.schedule = ["rate_limited"]
        answer = ask(live)
        assert answer.status == 200
        assert 0.9 < answer.seconds < 5
        assert [attempt.status for attempt in live.journal.last().attempts] == [429, 200]


def test_without_time_for_a_pause_it_is_told_to_the_agent() -> None:
    with provider("rate_limited") as only, model_gateway(config([only.url], deadline=0.8), grant()) as live:
        answer = ask(live)
        assert answer.status == 429
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["x-should-retry"] == "true"
        assert answer.seconds < 0.7
        again = ask(live)
        assert again.status == 429
        assert len(only.requests) == 1  # it rests


def test_retries_carry_the_same_idempotency_key() -> None:
    with provider("error_500") as bad, provider() as good, model_gateway(config([bad.url, good.url]), grant()) as live:
        ask(live)
        made = bad.requests[0].headers["idempotency-key"]
        assert made
        assert good.requests[0].headers["idempotency-key"] == made
        ask(live, headers={"idempotency-key": "mine"})
        ask(live, headers={"idempotency-key": "mine"})
        live.grant = grant(agent="another")
        ask(live, headers={"idempotency-key": "mine"})
        sent = [request.headers["idempotency-key"] for request in good.requests[1:]]
        assert bad.requests[1].headers["idempotency-key"] == sent[0] == sent[1]
        assert sent[2] != sent[0], "agents share the account of the instance"


@pytest.mark.parametrize("endpoint", ["chat/completions", "messages"])
def test_a_stream_begins_again_elsewhere_only_where_that_is_allowed_and_not_seen(endpoint: str) -> None:
    with provider("cut_midway") as bad, provider() as good:
        # The first piece alone comes in time: a preamble. Then the connection is cut.
        headers = {"x-break": "1", "x-pace": "0.05"}
        both = config([bad.url, good.url])
        with model_gateway(both, grant()) as live:
            assert is_error(endpoint, ask(live, endpoint, stream=True, headers=headers))
            assert live.journal.last().ended is Ended.CUT
        with model_gateway(both, grant(restart_streams=True)) as live:
            answer = ask(live, endpoint, stream=True, headers=headers)
            assert is_whole(endpoint, answer, stream=True)
            assert answer.body.count(b'"role": "assistant"') == 1
            call = live.journal.last()
            assert (call.ended, call.route[-2:], call.estimated) == (Ended.DONE, "r1", True)
            headers["x-break"] = "4"
            assert is_error(endpoint, ask(live, endpoint, stream=True, headers=headers))


def test_a_refusal_of_the_provider_is_passed_on_without_its_key() -> None:
    with provider("bad_request") as only, model_gateway(config([only.url]), grant()) as live:
        answer = ask(live)
        assert answer.status == 400
        assert answer.json["error"]["message"] == "temperature is out of range (your key: Bearer ***)"
        assert answer.json["error"]["type"] == "provider_error"
        call = live.journal.last()
        assert (call.status, call.ended, call.nanos) == (400, Ended.FAILED, 0)


def test_what_the_provider_says_of_its_key_is_not_told() -> None:
    with provider("wrong_key") as only, model_gateway(config([only.url]), grant()) as live:
        answer = ask(live)
        assert answer.status == 502
        assert b"Incorrect" not in answer.body
        assert KEY.encode() not in answer.body


def test_a_key_that_cannot_be_read_is_a_broken_route(caplog: pytest.LogCaptureFixture) -> None:
    with provider() as good:
        without, sound = config([good.url], key="env:MISSING", mark="without"), config([good.url])
        both = (*without.providers["openai"], *sound.providers["openai"])
        with model_gateway(GatewayConfig(providers={"openai": both}), grant()) as live:
            assert ask(live).status == 200
            assert live.journal.last().attempts[0].error.startswith("the key of the route cannot be read")
        assert "MISSING" not in repr(live.journal.last()), "where it is kept is for the log alone"
        assert "env:MISSING is not set" in caplog.text
