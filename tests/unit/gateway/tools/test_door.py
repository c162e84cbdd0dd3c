"""Requests that are not let in, and what an agent may not do with those that are."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.datastructures import Headers

from tests.live import wait_until
from tests.mcp_servers import KEY, Gateway, build_grant, key_digest, stdio_server, tool_gateway
from tests.unit.gateway.tools.agent import calls, listed, text
from turnout.domain.calls import Ended
from turnout.domain.grants import ToolPin
from turnout.gateway.tools import inbound
from turnout.gateway.tools.inbound import Inbound
from turnout.gateway.values import ToolServer

Pins = dict[str, ToolPin]
ACCEPT = {"Accept": "application/json, text/event-stream"}


def ask(gateway: Gateway, body: Any, headers: dict[str, str] | None = None, **how: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **ACCEPT, "Authorization": f"Bearer {KEY}", **(headers or {})}
    return httpx.post(gateway.url, content=content, headers=sent, timeout=20, **how)


def message(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wrong", f"Basic {KEY}", KEY, "Bearer tk_é"])
def test_nobody_without_a_key_is_let_in(docs: ToolServer, docs_pins: Pins, authorization: str) -> None:
    with tool_gateway(build_grant(docs_pins["search"]), docs) as gateway:
        sent = httpx.Headers([(b"Authorization", authorization.encode())])
        answer = httpx.post(gateway.url, json=message("tools/list"), headers=sent)

    assert answer.status_code == 401
    assert answer.headers["x-should-retry"] == "false"
    assert "search" not in answer.text
    assert gateway.calls == []


def test_a_key_counts_no_more_once_its_release_is_gone(docs: ToolServer, docs_pins: Pins) -> None:
    with tool_gateway(build_grant(docs_pins["search"]), docs) as gateway:
        before = ask(gateway, message("tools/list")).status_code
        gateway.grants.clear()
        after = ask(gateway, message("tools/list")).status_code

    assert (before, after) == (200, 401)


def test_each_key_sees_the_tools_of_its_release(docs: ToolServer, docs_pins: Pins) -> None:
    with tool_gateway(build_grant(docs_pins["search"]), docs) as gateway:
        other = build_grant(docs_pins["delete"], key=key_digest("tk_other"), version="v2.0.0")
        gateway.grants[other.key] = other
        seen = [[tool.name for tool in listed(gateway, key)] for key in (KEY, "tk_other")]
        refused = calls(gateway, ("search", {"query": "x"}), key="tk_other")[0]

    assert seen == [["search"], ["delete"]]
    assert text(refused) == 'the tool "search" is not in the tool manifest of release v2.0.0'


def test_web_pages_are_not_let_in(docs_pins: Pins) -> None:
    with tool_gateway(build_grant(docs_pins["search"])) as gateway:
        answer = ask(gateway, message("tools/list"), {"Origin": "http://evil.example"})

    assert answer.status_code == 403


def test_a_body_that_is_too_large_is_refused(docs_pins: Pins) -> None:
    with tool_gateway(build_grant(docs_pins["search"])) as gateway:
        answer = ask(gateway, message("tools/call", name="search", arguments={"query": "x" * (1 << 20)}))

    assert answer.status_code == 413


def test_an_upload_that_does_not_end_is_given_up(docs_pins: Pins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbound, "UPLOAD_PATIENCE", 0.2)
    with tool_gateway(build_grant(docs_pins["search"])) as gateway:
        url = urlsplit(gateway.url)
        with socket.create_connection((str(url.hostname), int(url.port or 0)), timeout=5) as slow:
            head = f"POST /mcp HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 100\r\n\r\n"
            slow.sendall(head.encode() + b"{")
            assert b" 408 " in slow.recv(4096)


def test_baggage_in_two_headers_names_a_task(docs_pins: Pins) -> None:
    headers = Headers(raw=[(b"baggage", b"a=b"), (b"baggage", b"turnout.task=t-2")])
    assert Inbound(build_grant(docs_pins["search"]), headers, ("", ""), {}).task_of({}) == "t-2"


@pytest.mark.parametrize("task", ["t" * 257, "a\tb"])
def test_a_task_that_is_no_name_is_refused(docs_pins: Pins, task: str) -> None:
    with tool_gateway(build_grant(docs_pins["search"])) as gateway:
        answer = ask(gateway, message("tools/list"), {"x-turnout-task": task})

    assert answer.status_code == 400


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"5", b"null", b"[" * 100_000, b'{"method": "notifications/cancelled"}', b"\xff"]
)
def test_bodies_that_are_no_messages_get_an_error_and_harm_nobody(
    docs: ToolServer, docs_pins: Pins, body: bytes
) -> None:
    with tool_gateway(build_grant(docs_pins["search"]), docs) as gateway:
        answer = ask(gateway, body)
        after = calls(gateway, ("search", {"query": "x"}))[0]

    assert 400 <= answer.status_code < 500
    assert not after.is_error


@pytest.mark.parametrize("method", ["resources/list", "prompts/list"])
def test_nothing_but_tools_is_passed_on(docs: ToolServer, docs_pins: Pins, method: str) -> None:
    with tool_gateway(build_grant(docs_pins["search"]), docs) as gateway:
        answer = ask(gateway, message(method), {"MCP-Protocol-Version": "2025-06-18"})

    assert answer.status_code == 200
    assert list(answer.json()["result"].values()) == [[]]


def test_nobody_cancels_the_calls_of_another(rough_pins: Pins, tmp_path: Path) -> None:
    """Two clients of one release count their requests alike; only the mark of the client tells them apart."""
    log = tmp_path / "messages"
    old = {"MCP-Protocol-Version": "2025-06-18"}
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    with tool_gateway(build_grant(rough_pins["hang"]), stdio_server(MCP_LOG=str(log))) as gateway:
        mine, other = ({**old, "mcp-session-id": ask(gateway, _hello()).headers["mcp-session-id"]} for _ in range(2))
        with ThreadPoolExecutor(1) as threads:
            hanging = threads.submit(ask, gateway, message("tools/call", name="hang", arguments={}), mine)
            wait_until(lambda: log.exists() and "tools/call" in log.read_text(), 10)
            ask(gateway, cancel, other)
            still_runs = not hanging.done() and not gateway.calls
            ask(gateway, cancel, mine)
            answer = hanging.result(10)

    assert still_runs
    assert answer.json()["result"]["isError"]
    assert [record.ended for record in gateway.calls] == [Ended.CANCELLED]


def _hello() -> dict[str, Any]:
    client = {"name": "tests", "version": "1"}
    return message("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=client)
