"""Tools in a replay: what was recorded is answered, what was not is refused, and no server is asked."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastmcp import Client, FastMCP

from tests.mcp_servers import Gateway, build_grant, http_server, pins_of, resolve, serving
from tests.unit.domain.recorded import recorded_tool, recording
from tests.unit.gateway.tools.agent import call, calls, text
from turnout.domain.calls import Ended, ToolCall
from turnout.domain.grants import ToolPin
from turnout.domain.models import Capture
from turnout.gateway.tools.app import build_tool_app
from turnout.gateway.tools.recorded import RecordedToolCalls
from turnout.gateway.tools.upstream import Upstreams
from turnout.gateway.values import ToolServer
from turnout.playback import Playback

Reached = list[str]


@contextmanager
def shop() -> Iterator[tuple[ToolServer, Reached]]:
    """A tool server that notes what reaches it."""
    server: FastMCP[Any] = FastMCP("shop")
    reached: Reached = []

    @server.tool(output_schema=None)
    def refund(order: int) -> str:
        """Pay back."""
        reached.append("refund")
        return f"paid back {order}"

    @server.tool(output_schema=None)
    def find(order: int) -> str:
        """Look an order up."""
        reached.append("find")
        return f"order {order}"

    with http_server(server) as url:
        yield ToolServer("shop", url=url), reached


@pytest.fixture(scope="module")
def live_shop() -> Iterator[tuple[ToolServer, Reached]]:
    with shop() as found:
        yield found


@pytest.fixture(scope="module")
def pins(live_shop: tuple[ToolServer, Reached]) -> dict[str, ToolPin]:
    return {pin.name: dataclasses.replace(pin, side_effects=pin.name == "refund") for pin in pins_of(live_shop[0])}


@contextmanager
def replaying(
    pins: dict[str, ToolPin], server: ToolServer, *, live_tools: bool = False
) -> Iterator[tuple[Gateway, Playback]]:
    """A tool gateway that plays recordings."""
    gateway, playback = Gateway(), Playback()
    grant = dataclasses.replace(build_grant(*pins.values()), capture=Capture(10_000))
    gateway.grants[grant.key] = grant
    upstreams = Upstreams(lambda: {server.name: server}, resolve)
    recorded = RecordedToolCalls(playback, upstreams, gateway.accounts, live_tools=live_tools)
    with serving(build_tool_app(gateway, recorded, upstreams)) as url:
        gateway.url = f"{url}/mcp"
        yield gateway, playback


def said(words: str, **more: Any) -> str:
    return json.dumps({"content": [{"type": "text", "text": words}], **more})


def test_a_recorded_call_gets_its_recorded_result_and_reaches_nothing(
    live_shop: tuple[ToolServer, Reached], pins: dict[str, ToolPin]
) -> None:
    server, reached = live_shop
    with replaying(pins, server) as (gateway, playback):
        playback.begin(recording([recorded_tool("refund", {"order": 7}, result=said("as it was"))]))
        result = call(gateway, "refund", {"order": 7}, **{"x-turnout-task": "t1"})
        played = playback.end("t1")

    assert (text(result), result.is_error, reached) == ("as it was", False, [])
    assert played.divergences == ()
    (made,) = played.calls
    assert isinstance(made, ToolCall)
    assert (made.task, made.tool, made.ended) == ("t1", "refund", Ended.DONE)
    assert json.loads(made.result or "") == json.loads(said("as it was"))


def test_an_unrecorded_call_is_a_divergence_that_says_so_and_reaches_nothing(
    live_shop: tuple[ToolServer, Reached], pins: dict[str, ToolPin]
) -> None:
    server, reached = live_shop
    with replaying(pins, server, live_tools=True) as (gateway, playback):
        playback.begin(recording([recorded_tool("refund", {"order": 7})]))
        result = call(gateway, "refund", {"order": 8})
        played = playback.end("t1")

    assert result.is_error
    assert text(result).startswith("not_recorded: this is a replay")
    assert reached == []
    assert [(item.name, item.asked) for item in played.divergences] == [("refund", '{"order": 8}')]
    assert [made.ended for made in played.calls] == [Ended.REFUSED]


def test_a_call_more_than_was_recorded_gets_the_last_result_and_is_a_divergence(
    live_shop: tuple[ToolServer, Reached], pins: dict[str, ToolPin]
) -> None:
    with replaying(pins, live_shop[0]) as (gateway, playback):
        playback.begin(recording([recorded_tool("refund", {"order": 7}, result=said("once"))]))
        results = calls(gateway, ("refund", {"order": 7}), ("refund", {"order": 7}))
        played = playback.end("t1")

    assert [text(result) for result in results] == ["once", "once"]
    assert len(played.divergences) == 1


@pytest.mark.parametrize("live", [True, False])
def test_a_reading_tool_is_asked_live_only_where_that_is_wanted(
    live_shop: tuple[ToolServer, Reached], pins: dict[str, ToolPin], live: bool
) -> None:
    server, reached = live_shop
    reached.clear()
    with replaying(pins, server, live_tools=live) as (gateway, playback):
        playback.begin(recording([recorded_tool("find", {"order": 1}, result=said("recorded"))]))
        known, unknown = calls(gateway, ("find", {"order": 1}), ("find", {"order": 2}))
        played = playback.end("t1")

    assert text(known) == "recorded"
    assert (unknown.is_error, reached, len(played.divergences)) == ((False, ["find"], 0) if live else (True, [], 1))


def test_what_failed_then_fails_again(live_shop: tuple[ToolServer, Reached], pins: dict[str, ToolPin]) -> None:
    broken = recorded_tool("refund", {"order": 1}, result=None, ended=Ended.TIMEOUT, error="no answer in time")
    refused = recorded_tool("refund", {"order": 2}, result=said("no money", isError=True), failed=True)
    with replaying(pins, live_shop[0]) as (gateway, playback):
        playback.begin(recording([broken, refused]))
        results = calls(gateway, ("refund", {"order": 1}), ("refund", {"order": 2}))
        played = playback.end("t1")

    assert [(text(result), result.is_error) for result in results] == [("no answer in time", True), ("no money", True)]
    assert [made.ended for made in played.calls] == [Ended.TIMEOUT, Ended.DONE]
    assert played.divergences == ()


def test_pins_and_schemas_are_checked_as_ever(live_shop: tuple[ToolServer, Reached], pins: dict[str, ToolPin]) -> None:
    with replaying({"find": pins["find"]}, live_shop[0]) as (gateway, playback):
        playback.begin(recording([recorded_tool("refund", {"order": 7})]))
        results = calls(gateway, ("refund", {"order": 7}), ("find", {"order": "seven"}))
        played = playback.end("t1")

    assert "not in the tool manifest" in text(results[0])
    assert "do not fit the schema" in text(results[1])
    assert played.divergences == ()


def test_a_call_that_tells_no_task_is_refused_while_several_are_under_way(
    live_shop: tuple[ToolServer, Reached], pins: dict[str, ToolPin]
) -> None:
    with replaying(pins, live_shop[0]) as (gateway, playback):
        playback.begin(recording([recorded_tool("refund", {"order": 7})]))
        playback.begin(recording([recorded_tool("refund", {"order": 7})], task="t2"))
        result = call(gateway, "refund", {"order": 7})

        assert "tells no task" in text(result)
        assert playback.end("t1").unclear
        assert playback.end("t2").unclear

    assert playback.strays == ()


def test_a_call_of_a_task_that_is_over_is_refused_as_a_stray(
    live_shop: tuple[ToolServer, Reached], pins: dict[str, ToolPin]
) -> None:
    server, reached = live_shop
    reached.clear()
    with replaying(pins, server) as (gateway, playback):
        playback.begin(recording(task="t2"))
        result = call(gateway, "refund", {"order": 7}, **{"x-turnout-task": "t1"})

    assert (result.is_error, reached) == (True, [])
    assert [item.name for item in playback.strays] == ["refund"]


def test_the_tools_of_the_release_are_listed(live_shop: tuple[ToolServer, Reached], pins: dict[str, ToolPin]) -> None:
    async def listed(gateway: Gateway) -> list[str]:
        async with Client(gateway.transport()) as client:
            return [tool.name for tool in await client.list_tools()]

    with replaying(pins, live_shop[0]) as (gateway, _):
        assert sorted(asyncio.run(listed(gateway))) == ["find", "refund"]
