"""Servers that die, hang, garble, and change; agents that go away."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from fastmcp import Client

from tests import mcp_servers
from tests.live import free_port, wait_until
from tests.mcp_servers import (
    STDIO_SERVER,
    Gateway,
    build_docs_server,
    build_grant,
    http_server,
    stdio_server,
    tool_gateway,
)
from tests.unit.gateway.tools.agent import call, calls, text
from turnout.domain.calls import Ended
from turnout.domain.errors import SetupFailed
from turnout.domain.grants import ToolPin
from turnout.gateway.tools.connection import Connection
from turnout.gateway.tools.upstream import Patience
from turnout.gateway.values import ToolServer

Pins = dict[str, ToolPin]
ECHO = ("echo", {"text": "still here"})


@pytest.mark.parametrize(
    ("tool", "told", "ended"),
    [
        ("die", "the session broke off", Ended.FAILED),
        ("garble", "it answered with something that is not MCP", Ended.FAILED),
        ("hang", "did not answer in time", Ended.TIMEOUT),
        ("freeze", "did not answer in time", Ended.TIMEOUT),
    ],
)
def test_a_server_that_fails_is_told_of_and_serves_the_next_call(
    rough_pins: Pins, tool: str, told: str, ended: Ended
) -> None:
    failing = dataclasses.replace(rough_pins[tool], timeout=0.5)
    with tool_gateway(build_grant(failing, rough_pins["echo"]), stdio_server()) as gateway:
        first, second = calls(gateway, (tool, {}), ECHO)

    assert first.is_error
    assert told in text(first)
    assert text(second) == "still here"
    assert [record.ended for record in gateway.calls] == [ended, Ended.DONE]


def test_a_server_that_hangs_does_not_hold_up_another(docs: ToolServer, docs_pins: Pins, rough_pins: Pins) -> None:
    frozen = dataclasses.replace(rough_pins["freeze"], timeout=5.0)
    with tool_gateway(build_grant(frozen, docs_pins["search"]), docs, stdio_server()) as gateway:

        async def run() -> float:
            async with Client(gateway.transport()) as client, asyncio.TaskGroup() as group:
                waiting = group.create_task(client.call_tool_mcp("freeze", {}))
                await client.call_tool_mcp("search", {"query": "x"})
                began = time.monotonic()
                await client.call_tool_mcp("search", {"query": "x"})
                took = time.monotonic() - began
                waiting.cancel()
                return took

        took = asyncio.run(run())

    assert took < 2


def test_a_command_that_cannot_be_started_is_tried_again_after_a_pause(rough_pins: Pins) -> None:
    missing = ToolServer("rough", command=("/nonexistent/server",))
    with tool_gateway(build_grant(rough_pins["echo"]), missing) as gateway:
        first, second = calls(gateway, ECHO, ECHO)
        gateway.servers["rough"] = stdio_server()
        third = call(gateway, *ECHO)

    assert "its command cannot be started: No such file" in text(first)
    assert "it is tried again in" in text(second)
    assert text(third) == "still here"


def test_where_a_secret_is_kept_is_told_to_the_log_alone(
    rough_pins: Pins, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(_: str) -> str:
        raise SetupFailed("file:/run/secrets/tools: this file cannot be read")

    monkeypatch.setattr(mcp_servers, "resolve", resolve)
    with tool_gateway(build_grant(rough_pins["echo"]), stdio_server(TOKEN="t")) as gateway:
        results = calls(gateway, ECHO, ECHO)

    assert ["a secret of it cannot be read" in text(result) for result in results] == [True, True]
    assert "/run/secrets" not in str(results) + str(gateway.calls)
    assert "/run/secrets" in caplog.text


def test_a_server_that_nobody_runs_is_told_of(docs_pins: Pins) -> None:
    nobody = ToolServer("docs", url="http://127.0.0.1:9/mcp", headers={"Authorization": "literal:Bearer hunter2"})
    with tool_gateway(build_grant(docs_pins["search"]), nobody) as gateway:
        result = call(gateway, "search", {"query": "x"})

    assert text(result) == 'the tool server "docs" cannot be used: nobody answers at its address'
    assert gateway.calls[0].ended is Ended.FAILED


def test_a_server_that_was_restarted_is_found_again(docs_pins: Pins) -> None:
    port = free_port()
    docs = ToolServer("docs", url=f"http://127.0.0.1:{port}/mcp")
    wanted = ("search", {"query": "x"})
    with tool_gateway(build_grant(docs_pins["search"]), docs) as gateway:
        with http_server(build_docs_server(), port):
            before = call(gateway, *wanted)
        away = call(gateway, *wanted)
        with http_server(build_docs_server(), port):
            wait_until(lambda: not call(gateway, *wanted).is_error, 10)

    assert not before.is_error
    assert away.is_error
    assert 'tool server "docs"' in text(away)


@pytest.mark.parametrize("side_effects", [True, False])
def test_only_a_call_without_side_effects_is_made_again(rough_pins: Pins, tmp_path: Path, side_effects: bool) -> None:
    log = tmp_path / "messages"
    pin = dataclasses.replace(rough_pins["die"], side_effects=side_effects)
    with tool_gateway(build_grant(pin), stdio_server(MCP_LOG=str(log))) as gateway:
        result = call(gateway, "die")

    assert result.is_error
    assert log.read_text().count('"tools/call"') == (1 if side_effects else 2)


def test_a_server_that_the_configuration_names_no_longer_is_ended(rough_pins: Pins, docs: ToolServer) -> None:
    with tool_gateway(build_grant(rough_pins["echo"]), stdio_server()) as gateway:
        call(gateway, *ECHO)
        started = [child for child in psutil.Process().children() if str(STDIO_SERVER) in _command(child)]
        del gateway.servers["rough"]
        gone = call(gateway, *ECHO)
        psutil.wait_procs(started, 10)

    assert len(started) == 1
    assert not started[0].is_running()
    assert text(gone) == 'the instance has no tool server "rough"'


def _command(process: psutil.Process) -> list[str]:
    """How a process was started; nothing for one of an earlier test that has ended and was not cleared away yet."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_program_that_speaks_no_mcp_is_told_of(rough_pins: Pins) -> None:
    program = ToolServer("rough", command=(sys.executable, "-c", "print('hello'); import time; time.sleep(60)"))
    with tool_gateway(build_grant(rough_pins["echo"]), program, patience=Patience(connect=1.0)) as gateway:
        result = call(gateway, *ECHO)

    assert "it did not answer in 1 s" in text(result)


@pytest.mark.parametrize("how", ["another description", "remove"])
def test_a_tool_that_changes_in_mid_session_is_refused_from_then_on(rough_pins: Pins, how: str) -> None:
    with tool_gateway(build_grant(rough_pins["echo"], rough_pins["change"]), stdio_server()) as gateway:
        before, _, after, again = calls(gateway, ECHO, ("change", {"text": how}), ECHO, ECHO)

    assert not before.is_error
    assert "is not the one that was pinned" in text(after)
    assert again.is_error
    assert rough_pins["echo"].schema in text(after)


def test_a_tool_that_changes_without_a_word_is_refused_after_the_next_look(rough_pins: Pins) -> None:
    grant = build_grant(rough_pins["echo"], rough_pins["change"])
    with tool_gateway(grant, stdio_server(), patience=Patience(refresh=0)) as gateway:
        before, _, after = calls(gateway, ECHO, ("change", {"text": "silently"}), ECHO)

    assert not before.is_error
    assert "is not the one that was pinned" in text(after)


def test_a_look_that_was_given_up_leaves_the_list_suspect() -> None:
    async def look() -> bool:
        connection = Connection(stdio_server())
        await connection.open(lambda _: "", None, 15)
        try:
            connection.suspect()
            looking = asyncio.create_task(connection.look(5))
            await asyncio.sleep(0)
            looking.cancel()
            await asyncio.wait({looking})
            suspect = connection.stale
            await connection.look(5)
            return suspect and not connection.stale
        finally:
            await connection.close()

    assert asyncio.run(look())


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_cancelled_call_is_cancelled_at_the_server(rough_pins: Pins, tmp_path: Path, mode: Any) -> None:
    log = tmp_path / "messages"
    with tool_gateway(build_grant(rough_pins["hang"]), stdio_server(MCP_LOG=str(log))) as gateway:

        async def run() -> None:
            async with Client(gateway.transport(), mode=mode) as client:
                with anyio.move_on_after(1):
                    await client.call_tool_mcp("hang", {})
                await asyncio.to_thread(wait_until, lambda: bool(gateway.calls), 5)

        asyncio.run(run())
        wait_until(lambda: _cancelled(log), 5)

    assert [record.ended for record in gateway.calls] == [Ended.CANCELLED]


def test_an_agent_that_is_gone_ends_its_call(rough_pins: Pins) -> None:
    with tool_gateway(build_grant(rough_pins["hang"]), stdio_server()) as gateway:
        _ask_and_leave(gateway)
        wait_until(lambda: bool(gateway.calls), 5)

    assert gateway.calls[0].ended is Ended.CANCELLED


def _cancelled(log: Path) -> bool:
    messages = [json.loads(line) for line in log.read_text().splitlines()]
    called = [message["id"] for message in messages if message["method"] == "tools/call"]
    cancelled = [m["params"]["requestId"] for m in messages if m["method"] == "notifications/cancelled"]
    return bool(called) and called == cancelled


def _ask_and_leave(gateway: Gateway) -> None:
    import httpx

    from tests.mcp_servers import KEY

    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "hang", "arguments": {}}}
    headers = {"Authorization": f"Bearer {KEY}", "Accept": "application/json, text/event-stream"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(gateway.url, json=message, headers=headers, timeout=1.5)
