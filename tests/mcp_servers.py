"""Real MCP servers, over HTTP and stdio, and a tool gateway before them, for tests and benchmarks."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastmcp import FastMCP
from fastmcp.client.transports import StreamableHttpTransport
from starlette.types import ASGIApp

from tests.live import free_port, wait_until
from turnout.domain.budget import Amount, Budget, Refusal, Spender
from turnout.domain.calls import Call, ToolCall
from turnout.domain.grants import Grant, ToolPin
from turnout.gateway.tools.app import build_tool_app
from turnout.gateway.tools.calls import ToolCalls
from turnout.gateway.tools.upstream import Patience, Upstream, Upstreams
from turnout.gateway.values import ToolServer
from turnout.manifest.tool_manifest import tool_digest

KEY = "tk_a-key-of-the-tests"
STDIO_SERVER = Path(__file__).parent / "mcp_stdio_server.py"
QUICK = Patience(connect=10.0, look=1.0, refresh=5.0)


def stdio_server(name: str = "rough", **env: str) -> ToolServer:
    """The server that misbehaves on request. `env`: values, as `literal:…` references."""
    references = {key: f"literal:{value}" for key, value in env.items()}
    return ToolServer(name, command=(sys.executable, str(STDIO_SERVER)), env=references)


def resolve(reference: str) -> str:
    """Secrets of the tests are written as they are."""
    return reference.removeprefix("literal:")


def key_digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@contextmanager
def serving(app: ASGIApp, port: int | None = None) -> Iterator[str]:
    """An ASGI application on a port of this machine: its base URL."""
    port = port or free_port()
    # The loop of asyncio: under uvloop, programs that an application starts are left unclosed when they are killed.
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, log_level="error", lifespan="on", ws="none", loop="asyncio"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, 15)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(15)


@contextmanager
def http_server(server: FastMCP[Any], port: int | None = None) -> Iterator[str]:
    """A FastMCP server on a port: the URL of its endpoint."""
    with serving(server.http_app(path="/mcp"), port) as url:
        yield f"{url}/mcp"


def build_docs_server() -> FastMCP[Any]:
    """A well-behaved server with two tools."""
    server: FastMCP[Any] = FastMCP("docs")

    @server.tool
    def search(query: str, limit: int = 10) -> dict[str, Any]:
        """Search the documents."""
        return {"query": query, "found": ["a"] * min(limit, 3)}

    @server.tool
    def delete(path: str) -> str:
        """Delete a document."""
        return f"deleted {path}"

    return server


def pins_of(server: ToolServer, only: Sequence[str] | None = None) -> tuple[ToolPin, ...]:
    """The tools of a server as they are now."""

    async def look() -> Mapping[str, Mapping[str, Any]]:
        upstream = Upstream(server, resolve, QUICK)
        try:
            return await upstream.tools()
        finally:
            await upstream.close()

    tools = asyncio.run(look())
    return tuple(
        ToolPin(server.name, name, tool_digest(tool), tool, timeout=10.0)
        for name, tool in tools.items()
        if only is None or name in only
    )


def build_grant(*pins: ToolPin, **changes: Any) -> Grant:
    values: dict[str, Any] = {
        "key": key_digest(KEY),
        "agent": "support",
        "ring": "production",
        "release": "sha256:" + "a" * 64,
        "version": "v1.0.0",
        "tools": pins,
    }
    return Grant(**{**values, **changes})


@dataclass
class Accounts:
    """Accounts that refuse what they are told to, and count."""

    refusal: Refusal | None = None
    held: dict[str, Amount] = field(default_factory=dict)
    settled: list[tuple[str, Amount]] = field(default_factory=list)

    async def reserve(self, call: str, spender: Spender, budgets: Sequence[Budget], most: Amount) -> Refusal | None:
        if self.refusal is None:
            self.held[call] = most
        return self.refusal

    def settle(self, call: str, spent: Amount) -> None:
        del self.held[call]
        self.settled.append((call, spent))


@dataclass
class Gateway:
    """A gateway that runs. Grants, servers and accounts may be changed while it does."""

    url: str = ""
    grants: dict[str, Grant] = field(default_factory=dict)
    servers: dict[str, ToolServer] = field(default_factory=dict)
    calls: list[ToolCall] = field(default_factory=list)
    accounts: Accounts = field(default_factory=Accounts)

    def find(self, key: str) -> Grant | None:
        return self.grants.get(key_digest(key))

    def write(self, call: Call) -> None:
        assert isinstance(call, ToolCall)
        self.calls.append(call)

    def transport(self, key: str = KEY, **headers: str) -> StreamableHttpTransport:
        return StreamableHttpTransport(self.url, headers={"Authorization": f"Bearer {key}", **headers})


@contextmanager
def tool_gateway(
    grant: Grant | None = None,
    *servers: ToolServer,
    patience: Patience = QUICK,
    logs: Path | None = None,
    wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app,
) -> Iterator[Gateway]:
    """A tool gateway on a port, with one grant for `KEY`."""
    gateway = Gateway(servers={server.name: server for server in servers})
    if grant is not None:
        gateway.grants[grant.key] = grant
    upstreams = Upstreams(lambda: gateway.servers, resolve, patience, logs)
    app = build_tool_app(gateway, ToolCalls(upstreams, gateway.accounts, gateway), upstreams)
    with serving(wrap(app)) as url:
        gateway.url = f"{url}/mcp"
        yield gateway
