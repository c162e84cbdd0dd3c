"""A gateway's application on a socket."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from turnout.gateway.asgi import Application

_NEW_OBJECTS = 20_000  # more than were freed, from which the collector looks at them
DRAIN = 600  # seconds for calls under way when the process is told to end


def serve(app: Application, listener: socket.socket, *, drain: int = DRAIN) -> None:
    """Answer until SIGTERM, then let the calls under way come to their ends."""
    build_server(app, drain=drain).run([listener])


def build_server(app: Application, *, drain: int = DRAIN, fast: bool = True) -> uvicorn.Server:
    """The server, of which `run()` and `serve()` take sockets that listen.

    `fast` is for applications that start no programs: uvloop leaves those unclosed when they are killed.
    """
    # A stream that broke off is ended without its mark on purpose; the server takes that for a fault and says so each time.
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: "without completing response" not in record.getMessage()
    )
    config = uvicorn.Config(
        app,
        http=_Protocol,
        loop="uvloop" if fast else "asyncio",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=2048,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=drain,
        h11_max_incomplete_event_size=64 * 1024,
    )
    return uvicorn.Server(config)


class _HeadWithBody:
    """A transport that sends the head of an answer together with what follows it at once: one write, one packet."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1."):
            self._head = data
            self._loop.call_soon(self._flush)  # whatever follows
            return
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head and not self._transport.is_closing():
            self._transport.write(self._head)
        self._head = b""


class _Protocol(HttpToolsProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", _HeadWithBody(transport, asyncio.get_running_loop())))


def ease_collector() -> None:
    """Let the collector of cycles leave aside what is there now, and look less often at what comes: calls leave few.

    By default it looks several times a call, and now and then through everything that was ever imported.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 50)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Nobody else can bind its port as long as somebody has it. Raises OSError."""
    # With the protocol named, asyncio sends small answers at once instead of waiting for more to send.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
