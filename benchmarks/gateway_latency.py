"""What the model gateway adds to a call, and the memory of many open streams; beside LiteLLM's proxy, where it installs.

    python -m benchmarks.gateway_latency [--seconds 5] [--rounds 3] [--without-peer]

One process of the gateway, started as the server starts it, and one loopback provider. Direct calls and calls through the
gateway take turns; what is added is the difference of their medians, and of their 99th percentiles. Saturated: as many
calls as are answered in a second of processor time of the gateway's process, when every connection calls again at once;
on a machine with few cores the callers and the provider need theirs as well, so the wall clock shows less. The gateway
holds and settles budgets in its ledger and writes its journal. LiteLLM's proxy runs in an environment of its own with one
worker, and answers by the same provider.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import uvloop
from tests.live import free_port, wait_until
from tests.model_gateway import PROVIDER_KEY, grant

from benchmarks.gateway_caller import HOST, Target, open_streams, saturated, steady
from benchmarks.gateway_http import started
from benchmarks.gateway_peer import litellm
from benchmarks.report import Figure, judge, on_this_machine, percentile, show_table
from turnout.domain.budget import NANOS, Budget, BudgetScope

RATE = 100.0  # calls a second
STREAM_RATE = 25.0
PEER_RATE = 20.0
CONNECTIONS = 32
STREAMS = 2_000
MEBI = 1 << 20
BUDGETS = (Budget(BudgetScope.RING, 10**9 * NANOS), Budget(BudgetScope.TASK, 10**9 * NANOS))
GATEWAY = """
[[providers.openai.routes]]
name = "r0"
url = "http://{host}:{port}/v1"
key = "env:PROVIDER_KEY"
deadline = 600.0
"""


@dataclass(frozen=True, slots=True)
class Process:
    """A server that runs."""

    port: int
    pid: int

    def cpu(self) -> float:
        """Seconds of processor time so far, of it and its children."""
        own = psutil.Process(self.pid)
        return sum(sum(each.cpu_times()[:2]) for each in (own, *own.children(recursive=True)))

    def memory(self) -> float:
        """MiB."""
        return float(psutil.Process(self.pid).memory_info().rss) / MEBI


@dataclass(frozen=True, slots=True)
class Added:
    """Milliseconds of direct calls, and of those through a gateway."""

    direct: Sequence[float]
    through: Sequence[float]

    def at(self, share: float) -> float:
        """The difference of the two at a percentile."""
        return percentile(self.through, share) - percentile(self.direct, share)


@dataclass(frozen=True, slots=True)
class Capacity:
    """Calls a second, by the wall clock and by the processor time of the gateway."""

    wall: float
    core: float


def main() -> int:
    """Measure and print. Returns the exit code."""
    parser = argparse.ArgumentParser(description="what the model gateway adds to a call")
    parser.add_argument("--seconds", type=float, default=5, help="of each turn (default 5)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each kind (default 3)")
    parser.add_argument("--without-peer", action="store_true", help="do not measure LiteLLM's proxy")
    options = parser.parse_args()
    with on_this_machine():
        figures = measure(options.seconds, options.rounds, peer=not options.without_peer)
    return judge(figures)


def measure(seconds: float = 5, rounds: int = 3, *, peer: bool = True) -> list[Figure]:
    """A gateway whose calls no budget applies to, one with two budgets in its ledger, and LiteLLM's proxy."""
    allow_many_files()
    with (
        tempfile.TemporaryDirectory(prefix="gateway-") as name,
        provider_process() as provider,
    ):
        folder = Path(name)
        with gateway_process(provider, folder / "plain") as gateway:
            figures = measure_gateway(gateway, provider, seconds, rounds)
            if peer:
                figures += measure_peer(gateway, provider, folder, seconds)
        with gateway_process(provider, folder / "bounded", budgets=BUDGETS) as gateway:
            print("with two budgets, in SQLite:")
            figures += [
                replace(figure, name=f"{figure.name}, with two budgets")
                for figure in measure_gateway(gateway, provider, seconds, rounds)
            ]
    return figures


def measure_gateway(gateway: Process, provider: Process, seconds: float, rounds: int) -> list[Figure]:
    """The figures of the gateway alone."""
    through, direct = Target(gateway.port), Target(provider.port)
    warm_up(through)
    whole = measure_added(through, direct, RATE, seconds, rounds)
    first = measure_added(through, direct, STREAM_RATE, seconds, rounds, stream=True)
    rows = [("whole answer", whole), ("first chunk", first)]
    show_table(
        ("milliseconds", "direct p50", "through p50", "added p50", "added p99"),
        [(name, *(f"{value:.2f}" for value in _row(added))) for name, added in rows],
    )
    capacity = measure_capacity(gateway, through, seconds * 2)
    print(
        f"saturated: {capacity.wall:,.0f} calls/s by the wall clock, {capacity.core:,.0f} in a second of processor time"
    )
    before = gateway.memory()
    memory = measure_memory(gateway, through)
    print(f"memory: {before:.0f} MiB before, {memory:.0f} MiB with {STREAMS:,} open streams\n", flush=True)
    return [
        Figure(f"added by one process at {RATE:.0f} calls/s, median", whole.at(0.5), 1.5, "ms"),
        Figure(f"added by one process at {RATE:.0f} calls/s, p99", whole.at(0.99), 6, "ms"),
        Figure("calls in a second of one core", capacity.core, 1_000, "/s", at_least=True),
        Figure("added to the first chunk, median", first.at(0.5), 2, "ms"),
        Figure(f"memory of one process with {STREAMS:,} open streams", memory, 600, "MiB"),
    ]


def measure_peer(gateway: Process, provider: Process, folder: Path, seconds: float) -> list[Figure]:
    """LiteLLM's proxy beside the gateway, in the same run: both at the same rate, then both saturated."""
    with litellm(folder, f"http://{HOST}:{provider.port}/v1") as peer:
        if peer is None:
            return []
        other, ours, direct = peer.target, Target(gateway.port), Target(provider.port)
        warm_up(other)
        mine = measure_added(ours, direct, PEER_RATE, seconds, 1)
        theirs = measure_added(other, direct, PEER_RATE, seconds, 1)
        process = Process(other.port, peer.pid)
        of_mine = measure_capacity(gateway, ours, seconds)
        of_theirs = measure_capacity(process, other, seconds)
    show_table(
        ("beside LiteLLM's proxy", "turnout", "LiteLLM", "ratio"),
        [
            _beside(f"added median at {PEER_RATE:.0f}/s, ms", mine.at(0.5), theirs.at(0.5)),
            _beside("calls in a second of a core", of_mine.core, of_theirs.core, more=True),
            _beside("calls a second, wall clock", of_mine.wall, of_theirs.wall, more=True),
        ],
    )
    return [
        Figure("added latency of LiteLLM's proxy to ours", theirs.at(0.5) / mine.at(0.5), 10, "×", at_least=True),
        Figure("saturated calls of ours to LiteLLM's proxy", of_mine.core / of_theirs.core, 10, "×", at_least=True),
    ]


def measure_added(
    through: Target, direct: Target, rate: float, seconds: float, rounds: int, *, stream: bool = False
) -> Added:
    """Direct calls and those through a gateway take turns."""
    taken: dict[Target, list[float]] = {direct: [], through: []}
    for _ in range(rounds):
        for target in (direct, through):
            taken[target] += uvloop.run(steady(target, rate, seconds, stream=stream))
    return Added([1_000 * value for value in taken[direct]], [1_000 * value for value in taken[through]])


def measure_capacity(process: Process, target: Target, seconds: float) -> Capacity:
    """Calls a second when every connection calls again at once."""
    began, used = time.monotonic(), process.cpu()
    rate = uvloop.run(saturated(target, CONNECTIONS, seconds))
    took = time.monotonic() - began
    return Capacity(rate, rate * took / (process.cpu() - used))


def measure_memory(gateway: Process, target: Target) -> float:
    """MiB while many streams are open."""

    async def measure() -> float:
        lines = await open_streams(target, STREAMS, pace=2.0, words=60)
        used = gateway.memory()
        for line in lines:
            line.writer.close()
        return used

    return uvloop.run(measure())


def warm_up(target: Target) -> None:
    """What is slow once is not measured."""
    uvloop.run(steady(target, 50, 1))
    uvloop.run(steady(target, 20, 1, stream=True))


def allow_many_files() -> None:
    """As many as the machine allows: each stream has two ends here."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def provider_process() -> Iterator[Process]:
    """The provider of the tests in a process of its own."""
    port = free_port()
    with server_process([sys.executable, "-m", "tests.provider", "--port", str(port)], port) as running:
        yield running


@contextmanager
def gateway_process(provider: Process, state: Path, budgets: tuple[Budget, ...] = ()) -> Iterator[Process]:
    """One process of the gateway, with its ledger and its journal in the folder."""
    os.environ["PROVIDER_KEY"] = PROVIDER_KEY
    config = GATEWAY.format(host=HOST, port=provider.port)
    with started(state, config, grant(budgets=budgets)) as (port, [process]):
        yield Process(port, process.pid)


@contextmanager
def server_process(command: Sequence[str], port: int, patience: float = 30) -> Iterator[Process]:
    """A server once it answers, ended at the end."""
    with subprocess.Popen(command) as process:
        try:
            wait_until(
                lambda: process.poll() is not None or _listens(port), patience, lambda: f"{command} does not answer"
            )
            if process.poll() is not None:
                raise RuntimeError(f"{command} ended with {process.returncode}")
            yield Process(port, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _row(added: Added) -> tuple[float, float, float, float]:
    return statistics.median(added.direct), statistics.median(added.through), added.at(0.5), added.at(0.99)


def _beside(name: str, ours: float, theirs: float, *, more: bool = False) -> tuple[str, str, str, str]:
    ratio = ours / theirs if more else theirs / ours
    return name, f"{ours:,.2f}", f"{theirs:,.2f}", f"{ratio:.1f}×"


if __name__ == "__main__":
    sys.exit(main())
