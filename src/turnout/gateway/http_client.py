"""Requests to providers over connections that are kept. HTTP/1.1, TLS by the trust of this machine."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohappyeyeballs

from turnout.domain.errors import RouteFailed
from turnout.gateway.addresses import Addresses
from turnout.gateway.connection import ClosedUnanswered, Connection, Response

KEPT = 30.0  # seconds that a connection with nothing to do is kept
_NEXT_ADDRESS = 0.25  # seconds until the next address of a provider is tried as well (RFC 8305)
_SMALL = 64 * 1024  # bytes of a body that are copied behind the head, to be sent as one
_UNFIT = re.compile(rb"[\x00\r\n]").search


class Target(NamedTuple):
    """Where a request goes. `host` as the header tells it."""

    name: str
    port: int
    tls: bool
    host: bytes
    path: bytes


class HttpClient:
    """The connections of one process. Used from one event loop."""

    def __init__(self, kept: float = KEPT) -> None:
        self._kept = kept
        self._open: set[Connection] = set()
        self._idle: dict[tuple[str, int, bool], list[Connection]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = None
        self._addresses = Addresses()

    async def post(self, url: str, headers: Mapping[bytes, bytes], body: bytes, connect_timeout: float) -> Response:
        """Send a request, and give the head of its answer, which whoever gets it closes. Raises `RouteFailed`.

        `url` is one that the configuration took; a request that a kept connection lost unanswered is sent once more.
        """
        target = parse_target(url)
        request = _written(target, headers, body)
        origin = target[:3]
        kept = self._take(origin)
        if kept is not None:
            with suppress(ClosedUnanswered):  # the provider closed it meanwhile
                return await kept.ask(request)
        connection = await self._dial(target, connect_timeout)
        try:
            return await connection.ask(request)
        except ClosedUnanswered:
            raise RouteFailed("the connection was closed without an answer", sent=True) from None

    def close(self) -> None:
        """End all connections."""
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in tuple(self._open):
            connection.abort()

    def _take(self, origin: tuple[str, int, bool]) -> Connection | None:
        """The one that was used last: of those that are not needed all the rest is closed in time."""
        idle, now = self._idle.get(origin), asyncio.get_running_loop().time()
        while idle:
            connection = idle.pop()
            if connection.usable and now - connection.rested < self._kept:
                return connection
            connection.abort()
        return None

    async def _dial(self, target: Target, timeout: float) -> Connection:
        loop = asyncio.get_running_loop()
        origin = target[:3]
        connection = Connection(lambda rested: self._keep(origin, rested), self._open.discard)
        try:
            async with asyncio.timeout(timeout):
                tls, name = self._trust(target), target.name if target.tls else None
                found = await self._addresses.find(target.name, target.port)
                sock = await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=_NEXT_ADDRESS)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # From here on the socket is the transport's, which closes it whatever happens.
                await loop.create_connection(lambda: connection, sock=sock, ssl=tls, server_hostname=name)
        except TimeoutError:  # it may be elsewhere by now
            self._addresses.forget(target.name, target.port)
            raise RouteFailed("no connection in time", timeout=True) from None
        except ssl.SSLCertVerificationError:
            raise RouteFailed("no connection: the certificate of the provider is not trusted") from None
        except (OSError, ValueError):  # the text of the error stays here: it may name addresses
            self._addresses.forget(target.name, target.port)
            raise RouteFailed("no connection") from None
        self._open.add(connection)
        return connection

    def _trust(self, target: Target) -> ssl.SSLContext | None:
        if not target.tls:
            return None
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    def _keep(self, origin: tuple[str, int, bool], connection: Connection) -> None:
        self._idle.setdefault(origin, []).append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._kept, self._close_old)

    def _close_old(self) -> None:
        now, self._sweep = asyncio.get_running_loop().time(), None
        for origin, idle in tuple(self._idle.items()):
            fresh = [connection for connection in idle if connection.usable and now - connection.rested < self._kept]
            for connection in idle:
                if connection not in fresh:
                    connection.abort()
            if fresh:
                self._idle[origin] = fresh
            else:
                del self._idle[origin]
        if self._idle:
            self._sweep = asyncio.get_running_loop().call_later(self._kept, self._close_old)


@lru_cache(maxsize=1_000)
def parse_target(url: str) -> Target:
    """Of an absolute URL without user, query and fragment, in ASCII."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    name = parts.hostname or ""
    return Target(name, parts.port or (443 if tls else 80), tls, parts.netloc.encode(), (parts.path or "/").encode())


def _written(target: Target, headers: Mapping[bytes, bytes], body: bytes) -> list[bytes]:
    """The request. Raises `RouteFailed` for a header that would be read as more than one."""
    lines = [b"POST %b HTTP/1.1\r\nhost: %b\r\ncontent-length: %d" % (target.path, target.host, len(body))]
    for name, value in headers.items():
        if _UNFIT(value):
            raise RouteFailed(f"the header {name.decode('latin-1')} cannot be sent: it holds a line break")
        lines.append(b"%b: %b" % (name, value))
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    return [head + body] if len(body) <= _SMALL else [head, body]
