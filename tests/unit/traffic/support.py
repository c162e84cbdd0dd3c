"""What the tests of the traffic need: releases, agents that answer, and callers."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from turnout.domain.models import Backend, Digest, RingRoute, Routes
from turnout.traffic.envoy import EnvoyRouter

STABLE = Digest("sha256:" + "a" * 64)
CANDIDATE = Digest("sha256:" + "b" * 64)
OTHER = Digest("sha256:" + "c" * 64)
HOST = "127.0.0.1"

T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def until(look: Callable[[], T], seconds: float = 5.0) -> T:
    """Poll until what is looked for is there."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.005)
    return found


def ring_route(
    *weights: tuple[Digest, int], agent: str = "support", ring: str = "production", **addresses: str
) -> RingRoute:
    """A ring with the releases `stable=`, `candidate=`, `other=` at these addresses (comma-separated; "" for none)."""
    digests = {"stable": STABLE, "candidate": CANDIDATE, "other": OTHER}
    backends = [
        Backend(digests[name], tuple(filter(None, value.split(","))), pinnable=name != "other")
        for name, value in addresses.items()
    ]
    return RingRoute(agent, ring, weights, tuple(sorted(backends, key=lambda backend: backend.digest)))


def routes(*rings: RingRoute) -> Routes:
    return Routes(tuple(sorted(rings, key=lambda ring: (ring.agent, ring.ring))))


# --- an agent --------------------------------------------------------------------------------------------------------


class Upstream:
    """An agent that answers with what it was asked, claims a false release, and streams what it is told to.

    `GET /sse` opens a stream that `emit()` writes to and `finish()` ends.
    """

    def __init__(self, name: str, idle_timeout: float | None = None) -> None:
        self.name = name
        self._idle_timeout = idle_timeout
        self._streams: list[asyncio.StreamWriter] = []
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._converse, HOST, 0, backlog=1024))
        self.address = f"{HOST}:{self._server.sockets[0].getsockname()[1]}"

    @property
    def streams(self) -> int:
        return len(self._streams)

    def emit(self, text: str) -> None:
        data = f"data: {text}\n\n".encode()
        for writer in self._streams:
            self._loop.call_soon_threadsafe(writer.write, b"%x\r\n%s\r\n" % (len(data), data))

    def finish(self) -> None:
        for writer in self._streams:
            self._loop.call_soon_threadsafe(writer.write, b"0\r\n\r\n")
        self._streams.clear()

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            for writer in list(self._open):
                writer.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._call(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Coroutine[None, None, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with suppress(asyncio.IncompleteReadError, TimeoutError, OSError):
            while True:
                async with asyncio.timeout(self._idle_timeout):
                    head = await reader.readuntil(b"\r\n\r\n")
                first, *rest = head.decode("latin-1").split("\r\n")
                headers = dict(line.split(": ", 1) for line in rest if line)
                await reader.readexactly(int(headers.get("content-length", "0")))
                self._answer(first.split(" ")[1], headers, writer)
        self._open.discard(writer)
        writer.close()

    def _answer(self, path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        lies = b"x-turnout-release: sha256:lie\r\nx-turnout-release: lie\r\nx-turnout-task: lie\r\n"
        if path == "/sse":
            self._streams.append(writer)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            return
        body = json.dumps({"name": self.name, "path": path, "headers": headers}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n%s" % (lies, len(body), body))


# --- a caller --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        return dict(json.loads(self.body))


def ask(port: int, path: str = "/support/production/", **headers: str) -> Reply:
    """One request; an underscore in a header's name stands for a hyphen."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return Reply(response.status, dict(response.headers.items()), response.read())
    finally:
        connection.close()


def releases_of(port: int, tasks: list[str], path: str = "/support/production/") -> dict[str, str]:
    """Task → the release that answered, over one connection, a hundred requests under way at a time."""
    found: dict[str, str] = {}
    with socket.create_connection((HOST, port), timeout=10) as connection, connection.makefile("rb") as answers:
        for start in range(0, len(tasks), 100):
            batch = tasks[start : start + 100]
            head = f"GET {path} HTTP/1.1\r\nhost: x\r\nx-turnout-task: "
            connection.sendall("".join(f"{head}{task}\r\n\r\n" for task in batch).encode())
            for _ in batch:
                headers = {}
                while (line := answers.readline().strip()) != b"":
                    name, _, value = line.partition(b": ")
                    headers[name] = value.decode()
                answers.read(int(headers[b"content-length"]))
                found[headers[b"x-turnout-task"]] = headers[b"x-turnout-release"]
    return found


@contextmanager
def running_router(folder: Path, port: int | None = None) -> Iterator[tuple[EnvoyRouter, int]]:
    port = port or free_port()
    router = EnvoyRouter(folder, HOST, port)
    router.start()
    try:
        yield router, port
    finally:
        router.shutdown(grace=0)
