"""What is served beside a release that runs apart: the gateway of its own, and a proxy that lets nothing through."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import uvicorn

from turnout.gateway.serve import build_server, listen
from turnout.runtimes.folder import HOST
from turnout.sandbox_calls import SandboxGateway


@dataclass(slots=True)
class Refusals:
    """Who was asked for beyond the sandbox: `host:port`, in order, each once."""

    port: int
    hosts: list[str] = field(default_factory=list)

    def note(self, line: bytes) -> None:
        """Keep the target of a request line."""
        parts = line.decode("latin-1").split()
        target = parts[1] if len(parts) > 1 else "?"
        host = target.split("//", 1)[-1].split("/", 1)[0][:200]
        if host not in self.hosts and len(self.hosts) < 100:
            self.hosts.append(host)


@contextmanager
def refusing_proxy() -> Iterator[Refusals]:
    """A proxy that lets nothing through and remembers what was wanted."""
    listener = listen(HOST, 0)
    refused = Refusals(listener.getsockname()[1])
    answer = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError, asyncio.LimitOverrunError):
            refused.note(await asyncio.wait_for(reader.readline(), 5.0))
            writer.write(answer)
            await writer.drain()
        writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(refuse, sock=listener))
    thread = threading.Thread(target=loop.run_forever, name="sandbox-proxy", daemon=True)
    thread.start()
    try:
        yield refused
    finally:
        asyncio.run_coroutine_threadsafe(_close(server), loop).result(5.0)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _close(server: asyncio.Server) -> None:
    server.close()
    await server.wait_closed()


@contextmanager
def served(gateway: SandboxGateway | None) -> Iterator[tuple[int, ...]]:
    """The applications of a gateway on ports of their own."""
    apps = {} if gateway is None else {"models": gateway.models, "tools": gateway.tools}
    running: list[tuple[uvicorn.Server, threading.Thread, socket.socket]] = []
    try:
        for kind, app in apps.items():
            if app is None:
                continue
            assert gateway is not None  # noqa: S101  # it has applications
            listener = listen(HOST, 0)
            gateway.ports[kind] = listener.getsockname()[1]
            server = build_server(app, drain=1, fast=kind == "models")
            thread = threading.Thread(target=_serve, args=(server, listener), name=f"sandbox-{kind}", daemon=True)
            thread.start()
            running.append((server, thread, listener))
        for server, thread, _ in running:
            while not server.started and thread.is_alive():
                time.sleep(0.005)
        yield tuple(listener.getsockname()[1] for _, _, listener in running)
    finally:
        for server, thread, listener in running:
            server.should_exit = True
            thread.join(10.0)
            listener.close()


def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    asyncio.run(server.serve([listener]))
