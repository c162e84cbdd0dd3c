"""What an agent can do through the tool gateway, and what is written down of it."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import rfc8785

from tests.live import wait_until
from tests.mcp_servers import Gateway, build_grant, resolve, stdio_server, tool_gateway
from tests.unit.gateway.tools.agent import call, calls, listed, text
from turnout.domain.budget import Amount, Budget, BudgetScope, Refusal, Unit
from turnout.domain.calls import Ended
from turnout.domain.grants import ToolPin
from turnout.domain.models import Capture
from turnout.gateway.tools import calls as tool_calls
from turnout.gateway.tools import recording
from turnout.gateway.tools.calls import ToolCalls
from turnout.gateway.tools.connection import _hidden, _without
from turnout.gateway.tools.upstream import Upstreams
from turnout.gateway.values import ToolServer

Pins = dict[str, ToolPin]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_pinned_tool_answers_as_its_server_does(docs: ToolServer, docs_pins: Pins, mode: str) -> None:
    with tool_gateway(build_grant(docs_pins["search"]), docs) as gateway:
        result = calls(gateway, ("search", {"query": "x"}), mode=mode)[0]

    assert not result.is_error
    assert result.structured_content == {"query": "x", "found": ["a", "a", "a"]}
    assert [record.ended for record in gateway.calls] == [Ended.DONE]


def test_only_tools_of_the_manifest_are_listed_with_their_pinned_descriptions(
    docs: ToolServer, docs_pins: Pins
) -> None:
    search = docs_pins["search"]
    pinned = dataclasses.replace(search, description={**search.description, "description": "As it was."})
    with tool_gateway(build_grant(pinned), docs) as gateway:
        tools = listed(gateway)

    assert [(tool.name, tool.description) for tool in tools] == [("search", "As it was.")]
    assert tools[0].input_schema == search.description["inputSchema"]


def test_a_tool_that_is_not_in_the_manifest_is_refused(docs: ToolServer, docs_pins: Pins) -> None:
    with tool_gateway(build_grant(docs_pins["search"]), docs) as gateway:
        result = call(gateway, "delete", {"path": "a"})

    assert result.is_error
    assert text(result) == 'the tool "delete" is not in the tool manifest of release v1.0.0'
    assert gateway.calls[0].ended is Ended.REFUSED


def test_a_tool_with_another_digest_is_refused_and_both_are_written_down(docs: ToolServer, docs_pins: Pins) -> None:
    old = dataclasses.replace(docs_pins["search"], schema="b" * 64)
    with tool_gateway(build_grant(old), docs) as gateway:
        result = call(gateway, "search", {"query": "x"})

    found = docs_pins["search"].schema
    assert result.is_error
    assert "b" * 64 in text(result)
    assert found in text(result)
    assert [(record.schema, record.found) for record in gateway.calls] == [("b" * 64, found)]


def test_a_tool_without_a_pin_is_listed_but_not_called(docs: ToolServer, docs_pins: Pins) -> None:
    loose = ToolPin("", "search", description=docs_pins["search"].description)
    with tool_gateway(build_grant(loose), docs) as gateway:
        names = [tool.name for tool in listed(gateway)]
        result = call(gateway, "search", {"query": "x"})

    assert names == ["search"]
    assert "names no server" in text(result)


def test_a_server_that_the_instance_does_not_know_is_named(docs_pins: Pins) -> None:
    with tool_gateway(build_grant(docs_pins["search"])) as gateway:
        result = call(gateway, "search", {"query": "x"})

    assert text(result) == 'the instance has no tool server "docs"'


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, '"query" is a required property'),
        ({"query": 5}, "query: the value is not of type"),
        ({"query": "x", "limit": "many"}, "limit: the value is not of type"),
        ({"query": "secret-words"}, "query: does not match the pattern [a-z ]+"),
        ({"query": "x", "limit": 5}, "limit: no rule allows this argument"),
    ],
)
def test_arguments_have_to_fit_the_pinned_schema_and_the_rules(
    docs: ToolServer, docs_pins: Pins, arguments: dict[str, Any], told: str
) -> None:
    ruled = dataclasses.replace(docs_pins["search"], rules={"query": {"pattern": "[a-z ]+"}})
    with tool_gateway(build_grant(ruled), docs) as gateway:
        result = call(gateway, "search", arguments)

    assert result.is_error
    assert told in text(result)
    assert "secret-words" not in gateway.calls[0].error


@pytest.mark.parametrize("value", ["\ud800", float("nan"), float("inf")])
def test_what_has_no_json_form_never_gets_to_the_session_that_all_share(
    docs: ToolServer, docs_pins: Pins, value: object
) -> None:
    with tool_gateway(build_grant(docs_pins["search"]), docs) as gateway:
        made = ToolCalls(Upstreams(lambda: gateway.servers, resolve), gateway.accounts, gateway)
        answer = asyncio.run(made.call(build_grant(docs_pins["search"]), None, "search", {"query": value}))

    assert answer.result is None
    assert "not JSON that can be passed on" in gateway.calls[-1].error


def test_a_tool_that_changes_between_the_look_and_the_call_is_not_called(docs_pins: Pins) -> None:
    pin = dataclasses.replace(docs_pins["search"], rules=None)

    class Session:
        is_open, stale, looked_at = True, False, 0.0

        def __init__(self) -> None:
            self.digests = {pin.name: pin.schema}
            self.called = 0

        async def call(self, *_: object) -> dict[str, Any]:
            self.called += 1
            return {"content": []}

    class Budgets:
        async def reserve(self, *_: object) -> None:
            session.digests = {pin.name: "changed"}

        def settle(self, _call: str, spent: Amount) -> None:
            settled.append(spent)

    session, settled, gateway = Session(), list[Amount](), Gateway()
    upstreams = Upstreams(lambda: {"docs": ToolServer("docs", url="http://127.0.0.1:9/mcp")}, resolve)

    async def run() -> bool:
        upstream = upstreams.find("docs")
        assert upstream is not None
        session.looked_at = asyncio.get_running_loop().time() + 60
        upstream._connection = session  # type: ignore[assignment]
        grant = dataclasses.replace(build_grant(pin), budgets=(Budget(BudgetScope.RING, 5, Unit.CALLS, 60.0),))
        answer = await ToolCalls(upstreams, Budgets(), gateway).call(grant, None, pin.name, {"query": "x"})
        upstream._connection = None
        return answer.result is None

    assert asyncio.run(run())
    assert session.called == 0
    assert (gateway.calls[0].ended, gateway.calls[0].found) == (Ended.REFUSED, "changed")
    assert [spent.calls for spent in settled] == [0]


def test_a_stopped_release_calls_nothing(docs: ToolServer, docs_pins: Pins) -> None:
    with tool_gateway(build_grant(docs_pins["search"], stopped="its costs ran away"), docs) as gateway:
        result = call(gateway, "search", {"query": "x"})

    assert text(result) == "release v1.0.0 was stopped in production: its costs ran away"
    assert gateway.calls[0].ended is Ended.REFUSED


def test_a_call_is_held_and_settled_on_its_budgets(docs: ToolServer, docs_pins: Pins) -> None:
    budget = Budget(BudgetScope.DEPLOYMENT, 10, Unit.CALLS)
    with tool_gateway(build_grant(docs_pins["search"], budgets=(budget,)), docs) as gateway:
        call(gateway, "search", {"query": "x"})

    assert gateway.accounts.held == {}
    assert gateway.accounts.settled == [(gateway.calls[0].id, Amount(calls=1))]


def test_a_call_beyond_its_budget_is_refused_with_the_account(docs: ToolServer, docs_pins: Pins) -> None:
    budget = Budget(BudgetScope.DEPLOYMENT, 10, Unit.CALLS, 60.0)
    with tool_gateway(build_grant(docs_pins["search"], budgets=(budget,)), docs) as gateway:
        gateway.accounts.refusal = Refusal(budget, "deployment/support/calls/60s", 1, 9, 1, 12.0)
        result = call(gateway, "search", {"query": "x"})

    expected = (
        "budget_exceeded: 10 of 10 calls in 60 s are taken (deployment/support/calls/60s); there is room again in 12 s"
    )
    assert text(result) == expected
    assert gateway.accounts.settled == []


def test_a_record_has_digests_and_what_the_ring_captures(docs: ToolServer, docs_pins: Pins) -> None:
    arguments = {"path": "a/b?token=hunter2"}
    capture = Capture(size=40, redact=("token=[a-z0-9]+",))
    with tool_gateway(build_grant(docs_pins["delete"], capture=capture), docs) as gateway:
        call(gateway, "delete", arguments)
    record = gateway.calls[0]

    assert record.arguments == '{"path":"a/b?[redacted]"}'
    assert record.arguments_digest == hashlib.sha256(rfc8785.dumps(arguments)).hexdigest()
    assert record.result is not None
    assert len(record.result) <= 40
    assert "hunter2" not in record.result
    assert (record.server, record.tool, record.schema) == ("docs", "delete", docs_pins["delete"].schema)
    assert 0 < record.duration < 10


def test_a_record_that_takes_long_to_close_holds_up_nobody(docs_pins: Pins, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on = threading.Event(), threading.Event()

    def redact(_: bytes, capture: Capture) -> None:
        if capture.redact:
            began.set()
            assert go_on.wait(10)

    monkeypatch.setattr(recording, "_redactor", SimpleNamespace(redact=redact))
    grant = build_grant(docs_pins["search"], capture=Capture(size=40, redact=("x",)))
    gateway = Gateway()

    async def make() -> None:
        made = ToolCalls(Upstreams(lambda: {}, resolve), gateway.accounts, gateway)
        slow = asyncio.create_task(made.call(grant, None, "unknown", {}))
        while not began.is_set():
            await asyncio.sleep(0.01)
        plain = await made.call(replace(grant, capture=Capture()), None, "other", {})
        assert (plain.result, [item.tool for item in gateway.calls]) == (None, ["other"])
        slow.cancel()
        go_on.set()
        await asyncio.wait({slow})

    asyncio.run(make())
    wait_until(lambda: [item.tool for item in gateway.calls] == ["other", "unknown"], 5)


def test_a_result_that_is_too_large_is_a_fault(
    docs: ToolServer, docs_pins: Pins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool_calls, "LARGEST_RESULT", 10)
    with tool_gateway(build_grant(docs_pins["search"]), docs) as gateway:
        result = call(gateway, "search", {"query": "x"})

    assert "is larger than 10 bytes" in text(result)
    assert gateway.calls[0].ended is Ended.FAILED


def test_nothing_is_captured_unless_the_ring_asks_for_it(docs: ToolServer, docs_pins: Pins) -> None:
    with tool_gateway(build_grant(docs_pins["search"]), docs) as gateway:
        call(gateway, "search", {"query": "x"})

    assert (gateway.calls[0].arguments, gateway.calls[0].result) == (None, None)


@pytest.mark.parametrize(
    ("headers", "task"),
    [
        ({"x-turnout-task": "t-1"}, "t-1"),
        ({"baggage": "a=b,turnout.task=t%202;x=y"}, "t 2"),
        ({"x-turnout-task": "t-1", "baggage": "turnout.task=t-2"}, "t-1"),
        ({}, None),
    ],
)
def test_a_call_is_recorded_under_its_task(
    docs: ToolServer, docs_pins: Pins, headers: dict[str, str], task: str | None
) -> None:
    with tool_gateway(build_grant(docs_pins["search"]), docs) as gateway:
        calls(gateway, ("search", {"query": "x"}), **headers)

    assert gateway.calls[0].task == task


def test_secrets_of_a_server_reach_it_and_nobody_else(rough_pins: Pins) -> None:
    server = stdio_server(TOKEN="hunter2")
    with tool_gateway(build_grant(rough_pins["environment"]), server) as gateway:
        given, other = calls(gateway, ("environment", {"text": "TOKEN"}), ("environment", {"text": "PYTHONPATH"}))

    assert text(given) == "hunter2"
    assert text(other) == ""
    assert "hunter2" not in json.dumps([dataclasses.asdict(record) for record in gateway.calls])


def test_a_server_that_repeats_its_secret_hands_it_to_nobody(rough_pins: Pins) -> None:
    server = stdio_server(TOKEN="Bearer hunter2-hunter2")
    capture = Capture(size=1_000)
    with tool_gateway(build_grant(rough_pins["environment"], capture=capture), server) as gateway:
        given = call(gateway, "environment", {"text": "TOKEN"})

    assert text(given) == "***"
    assert "hunter2" not in json.dumps([dataclasses.asdict(record) for record in gateway.calls])
    assert _without("no hunter2-hunter2 here", _hidden({"Authorization": "Bearer hunter2-hunter2"})) == "no *** here"


def test_an_error_of_the_tool_itself_is_passed_on(rough_pins: Pins) -> None:
    with tool_gateway(build_grant(rough_pins["fail"]), stdio_server()) as gateway:
        result = call(gateway, "fail")

    assert result.is_error
    assert (gateway.calls[0].ended, gateway.calls[0].failed) == (Ended.DONE, True)
