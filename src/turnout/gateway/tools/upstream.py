"""One MCP server as the gateway sees it: connected when it is first needed, and again with growing pauses when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from turnout.gateway.tools.connection import Broken, Changed, Connection, NoSecret, Resolve, Slow, Unreachable
from turnout.gateway.values import ToolServer

_FIRST_PAUSE = 0.25  # seconds after a connection failed
_LONGEST_PAUSE = 15.0


@dataclass(frozen=True, slots=True)
class Patience:
    """Times of an upstream, in seconds."""

    connect: float = 15.0  # until a server that is started has to answer
    look: float = 10.0  # until it has to list its tools
    refresh: float = (
        5.0  # no call goes to a server whose tools were looked at longer ago; 0: looked at before each call
    )


class Upstream:
    """A server by its configuration. Its calls run side by side; what goes wrong with it stays with it."""

    def __init__(self, server: ToolServer, resolve: Resolve, patience: Patience, log_file: Path | None = None) -> None:
        self.server = server
        self._resolve = resolve
        self._patience = patience
        self._log_file = log_file
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()
        self._pause = _FIRST_PAUSE
        self._again_at = 0.0
        self._fault = Unreachable("it was not tried yet")
        self._closing: set[asyncio.Task[None]] = set()

    async def digest(self, tool: str) -> str | None:
        """The digest of a tool as the server has it now, or had it a moment ago; None without it. Raises `Unreachable`."""
        connection = await self._current()
        return connection.digests.get(tool)

    async def tools(self) -> Mapping[str, Mapping[str, Any]]:
        """The descriptions of all tools of the server, by name. Raises `Unreachable`."""
        return (await self._current()).tools

    async def call(
        self, tool: str, arguments: Mapping[str, Any], seconds: float, *, pinned: str, again: bool = False
    ) -> dict[str, Any]:
        """What the tool answers, as it came. Raises `Unreachable`, and `Changed` where it is not the pinned one any more.

        A call that reached nobody is made again on a new session; one that may have, where `again` says that this does
        no harm.
        """
        connection = _unchanged(await self._current(), tool, pinned)
        try:
            return await connection.call(tool, arguments, seconds)
        except Slow:
            connection.suspect()  # it may hang: the next call looks first
            raise
        except Broken as error:
            self._drop(connection)
            if error.sent and not again:
                raise
        return await _unchanged(await self._current(), tool, pinned).call(tool, arguments, seconds)

    async def close(self) -> None:
        """End the session and the server's process, if it was started here."""
        if self._connection is not None:
            self._drop(self._connection)
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _current(self) -> Connection:
        """A session whose tools were looked at just now."""
        connection = self._connection
        if connection is not None and self._is_fresh(connection):
            return connection
        async with self._lock:
            connection = self._connection
            if connection is not None and connection.is_open:
                if self._is_fresh(connection):
                    return connection
                try:
                    await connection.look(self._patience.look)
                    return connection
                except Unreachable:
                    pass  # it died or hangs: a new session will tell
            if connection is not None:
                self._drop(connection)
            return await self._connected()

    def _is_fresh(self, connection: Connection) -> bool:
        age = asyncio.get_running_loop().time() - connection.looked_at
        return connection.is_open and not connection.stale and age < self._patience.refresh

    async def _connected(self) -> Connection:
        now = asyncio.get_running_loop().time
        if now() < self._again_at:
            kind = NoSecret if isinstance(self._fault, NoSecret) else Unreachable
            raise kind(f"{self._fault}; it is tried again in {self._again_at - now():.1f} s")
        connection = Connection(self.server)
        try:
            await connection.open(self._resolve, self._log_file, self._patience.connect)
        except Unreachable as error:
            self._fault = error
            self._again_at = now() + self._pause
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            raise
        self._pause, self._again_at = _FIRST_PAUSE, 0.0
        self._connection = connection
        return connection

    def _drop(self, connection: Connection) -> None:
        if self._connection is connection:
            self._connection = None
        task = asyncio.create_task(connection.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class Upstreams:
    """All servers of the configuration, which can change while calls are made: what is gone, or changed, is closed."""

    def __init__(
        self,
        servers: Callable[[], Mapping[str, ToolServer]],
        resolve: Resolve,
        patience: Patience = Patience(),
        logs: Path | None = None,
    ) -> None:
        self._servers = servers
        self._resolve = resolve
        self._patience = patience
        self._logs = logs
        self._upstreams: dict[str, Upstream] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def find(self, name: str) -> Upstream | None:
        """The server of that name; None where the configuration has none."""
        servers = self._servers()
        for other, known in tuple(self._upstreams.items()):
            if servers.get(other) != known.server:
                self._drop(other)
        server = servers.get(name)
        if server is not None and name not in self._upstreams:
            log_file = self._logs / f"{quote(name, safe='')}.log" if self._logs else None
            self._upstreams[name] = Upstream(server, self._resolve, self._patience, log_file)
        return self._upstreams.get(name)

    async def close(self) -> None:
        """Close all of them."""
        upstreams, self._upstreams = list(self._upstreams.values()), {}
        await asyncio.gather(*(upstream.close() for upstream in upstreams), *self._closing, return_exceptions=True)

    def _drop(self, name: str) -> None:
        task = asyncio.create_task(self._upstreams.pop(name).close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _unchanged(connection: Connection, tool: str, pinned: str) -> Connection:
    """The connection that a call is sent on has to know the tool as pinned: a server may have come back with another."""
    found = connection.digests.get(tool)
    if found != pinned:
        raise Changed(found)
    return connection
