"""How long a flip of a ring's pointer takes until callers see it, beside other proxies that are installed here.

    python benchmarks/flip.py [--flips 40]

Two agents answer with their names. A caller asks without pause over a kept connection. A flip is timed from the call that
changes the route to the end of the first response of the other agent. `late` counts the responses of the former agent to
requests that began after the call had returned. nginx is reloaded with a changed file; HAProxy's map is set over its
socket. Exit code 1 when a request failed on Envoy.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import multiprocessing
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from turnout.domain.models import FULL_WEIGHT, Backend, Digest, RingRoute, Routes
from turnout.traffic.envoy import EnvoyRouter

HOST = "127.0.0.1"
AGENTS = (b"A", b"B")
PATIENCE = 5.0  # seconds in which a flip must show

Flip = Callable[[int], None]  # makes the agent with this number the one that answers


@dataclass(frozen=True)
class Answer:
    """One request of the caller. `agent` is None when it failed. Times are seconds of the monotonic clock."""

    began: float
    ended: float
    agent: int | None


@dataclass(frozen=True)
class Result:
    """What one proxy did; durations in milliseconds."""

    proxy: str
    shown: list[float]
    requests: int
    failed: int
    late: int


def main() -> int:
    """Measure each proxy that is here and print the table."""
    parser = argparse.ArgumentParser(description="time the flip of a ring's pointer")
    parser.add_argument("--flips", type=int, default=40, help="how many flips to time on each proxy (default 40)")
    flips = parser.parse_args().flips
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flip-")))
        ports = [stack.enter_context(agent(name)) for name in AGENTS]
        results = [measure("Envoy (turnout)", envoy(folder, ports), flips)]
        for name, program, proxy in (("HAProxy map", "haproxy", haproxy), ("nginx reload", "nginx", nginx)):
            if shutil.which(program) is None:
                print(f"{name}: {program} is not installed, left out")
                continue
            results.append(measure(name, proxy(folder, ports), flips))
    print_table(results)
    return 1 if results[0].failed else 0


def print_table(results: list[Result]) -> None:
    """Medians, slowest flips, and each median as a multiple of the first."""
    base = statistics.median(results[0].shown)
    print(
        f"{'proxy':<16} {'flips':>5} {'median ms':>9} {'max ms':>8} {'ratio':>7} {'requests':>8} {'failed':>6} {'late':>5}"
    )
    for result in results:
        median = statistics.median(result.shown)
        print(
            f"{result.proxy:<16} {len(result.shown):>5} {median:>9.2f} {max(result.shown):>8.2f} {median / base:>6.2f}x"
            f" {result.requests:>8} {result.failed:>6} {result.late:>5}"
        )


def measure(name: str, proxy: Iterator[tuple[int, Flip]], flips: int) -> Result:
    """Flip back and forth while a caller asks."""
    with contextmanager(lambda: proxy)() as (port, flip), caller(port) as (seen, finish):
        calls = []
        for number in range(flips + 1):
            target = number % 2
            began = time.monotonic()
            flip(target)
            calls.append((began, time.monotonic(), target))
            _await(lambda target=target: seen.value == target, f"{name}: a flip has not shown")  # type: ignore[misc]
            time.sleep(random.uniform(0.01, 0.04))
        answers = [answer for answer in finish() if answer.began > calls[0][1]]
    timed = calls[1:]  # the first one warms up
    shown = [
        min(answer.ended for answer in answers if answer.agent == target and answer.ended > began) - began
        for began, _, target in timed
    ]
    ends = [began for began, _, _ in calls[2:]] + [float("inf")]
    late = sum(
        answer.agent == 1 - target
        for (_, returned, target), end in zip(timed, ends, strict=True)
        for answer in answers
        if returned < answer.began and answer.ended < end
    )
    failed = sum(answer.agent is None for answer in answers)
    return Result(name, [1_000 * duration for duration in shown], len(answers), failed, late)


# --- the proxies: each gives its port and how to flip it -------------------------------------------------------------


def envoy(folder: Path, ports: list[int]) -> Iterator[tuple[int, Flip]]:
    """turnout's router, as the controller uses it."""
    port = free_port()
    digests = [Digest("sha256:" + letter * 64) for letter in "ab"]
    backends = tuple(
        Backend(digest, (f"{HOST}:{agent_port}",)) for digest, agent_port in zip(digests, ports, strict=True)
    )
    router = EnvoyRouter(folder / "envoy", HOST, port)
    router.start()
    try:
        yield (
            port,
            lambda target: router.apply(
                Routes((RingRoute("agent", "ring", ((digests[target], FULL_WEIGHT),), backends),))
            ),
        )
    finally:
        router.shutdown(grace=0)


def haproxy(folder: Path, ports: list[int]) -> Iterator[tuple[int, Flip]]:
    """A map from the ring to a backend, set over the stats socket."""
    port, path = free_port(), folder / "haproxy.sock"
    rings = folder / "rings.map"
    rings.write_text("ring agent0\n")
    servers = "".join(f"backend agent{number}\n server s {HOST}:{ports[number]}\n" for number in (0, 1))
    config = folder / "haproxy.cfg"
    config.write_text(
        f"global\n stats socket {path} mode 600 level admin\n"
        "defaults\n mode http\n timeout connect 2s\n timeout client 60s\n timeout server 60s\n"
        f"frontend traffic\n bind {HOST}:{port}\n use_backend %[str(ring),map({rings})]\n{servers}"
    )

    def flip(target: int) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(f"set map {rings} ring agent{target}\n".encode())
            connection.recv(4096)

    with running(["haproxy", "-db", "-f", str(config)], port):
        yield port, flip


def nginx(folder: Path, ports: list[int]) -> Iterator[tuple[int, Flip]]:
    """An included file that names the upstream, and a reload."""
    port, active = free_port(), folder / "active.conf"
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n"
        "events { worker_connections 512; }\n"
        f"http {{ access_log off; include {active};\n"
        f" server {{ listen {HOST}:{port}; location / {{ proxy_pass http://active; proxy_http_version 1.1;"
        ' proxy_set_header connection ""; } } }\n'
    )

    def write(target: int) -> None:
        fresh = active.with_suffix(".new")
        fresh.write_text(f"upstream active {{ server {HOST}:{ports[target]}; keepalive 8; }}\n")
        fresh.replace(active)

    write(0)
    with running(["nginx", "-c", str(config), "-e", str(folder / "nginx.log")], port) as process:

        def flip(target: int) -> None:
            write(target)
            process.send_signal(signal.SIGHUP)

        yield port, flip


@contextmanager
def running(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A proxy in the foreground, ended at the end."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _await(lambda: answers_at(port), f"{command[0]} does not answer")
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()


# --- the agents and the caller, each a process -----------------------------------------------------------------------


@contextmanager
def agent(name: bytes) -> Iterator[int]:
    """An agent that answers every request with its name; its port."""
    port = free_port()
    process = multiprocessing.Process(target=_serve, args=(name, port), daemon=True)
    process.start()
    try:
        _await(lambda: answers_at(port), "an agent does not answer")
        yield port
    finally:
        process.kill()
        process.join()


@contextmanager
def caller(port: int) -> Iterator[tuple[Synchronized[int], Callable[[], list[Answer]]]]:
    """Asks without pause. Gives the number of the agent that answered last, and what ends it with all answers."""
    seen = multiprocessing.Value(ctypes.c_int, -1)
    receiving, sending = multiprocessing.Pipe(duplex=True)
    process = multiprocessing.Process(target=_ask, args=(port, seen, sending), daemon=True)
    process.start()

    def finish() -> list[Answer]:
        receiving.send("enough")
        return list(receiving.recv())

    try:
        yield seen, finish
    finally:
        process.kill()
        process.join()


def _serve(name: bytes, port: int) -> None:
    class Conversation(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            assert isinstance(self.transport, asyncio.WriteTransport)
            self.transport.write(data.count(b"\r\n\r\n") * (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n" + name))

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Conversation, HOST, port)
        await server.serve_forever()

    asyncio.run(serve())


def _ask(port: int, seen: Synchronized[int], channel: Connection) -> None:
    answers: list[Answer] = []
    connection: socket.socket | None = None
    while not channel.poll():
        began, found, stays = time.monotonic(), None, False
        with suppress(OSError, ValueError):
            connection = connection or socket.create_connection((HOST, port), timeout=5)
            connection.sendall(b"GET /agent/ring/ HTTP/1.1\r\nhost: ring\r\n\r\n")
            head, body = _receive(connection)
            found = AGENTS.index(body)
            stays = b"\r\nconnection: close" not in head
        answers.append(Answer(began, time.monotonic(), found))
        if found is not None:
            seen.value = found
        if not stays and connection is not None:
            connection.close()
            connection = None
    channel.send(answers)


def _receive(connection: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of a response that carries its length."""
    received = b""
    while True:
        chunk = connection.recv(65_536)
        if not chunk:
            raise ConnectionResetError("closed before the response was complete")
        received += chunk
        head, end, body = received.partition(b"\r\n\r\n")
        if not end:
            continue
        head = head.lower()
        if not head.startswith(b"http/1.1 200"):
            raise ValueError(f"refused: {head!r}")
        if b"content-length: 1" not in head or body:
            return head, body


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def answers_at(port: int) -> bool:
    """Whether something listens there."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _await(look: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not look():
        if time.monotonic() > deadline:
            raise TimeoutError(complaint)
        time.sleep(0.001)


if __name__ == "__main__":
    sys.exit(main())
