"""The tool gateway: what a call through it takes more than one made directly, and whether every wrong call is refused.

    python -m benchmarks.gateway_tools [--calls 400] [--seeds 20] [--steps 100]

Tool server, gateway and agent are processes of their own on this machine; direct calls and calls through the gateway take
turns in the same run, by the same client, for a server over HTTP and one on stdio. The refusals are those of
`tests/tool_worlds.py`: a server whose tools change at random, called by all kinds of names.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import uvicorn
from fastmcp import Client
from fastmcp.client.transports import ClientTransport, StdioTransport, StreamableHttpTransport
from starlette.types import ASGIApp
from tests.live import REPOSITORY, free_port, wait_until
from tests.mcp_servers import (
    KEY,
    STDIO_SERVER,
    Gateway,
    build_docs_server,
    build_grant,
    pins_of,
    resolve,
    stdio_server,
    tool_gateway,
)
from tests.tool_worlds import World

from benchmarks.report import Figure, judge, on_this_machine, percentile, show_table
from turnout.domain.grants import ToolPin
from turnout.gateway.tools.app import build_tool_app
from turnout.gateway.tools.calls import ToolCalls
from turnout.gateway.tools.upstream import Patience, Upstreams
from turnout.gateway.values import ToolServer

ADDED_MS = 5.0  # median
WARM_UP = 30  # calls of each kind


@dataclass(frozen=True)
class Latency:
    """Seconds of calls that were made directly, and of as many through the gateway."""

    server: str
    direct: list[float]
    through: list[float]
    cpu: float  # seconds of the gateway's process, for a call

    @property
    def added(self) -> float:
        """Median through the gateway less the median of direct calls, in milliseconds."""
        return (statistics.median(self.through) - statistics.median(self.direct)) * 1_000


@dataclass(frozen=True)
class Refusals:
    """Calls of a run over random changes."""

    calls: int
    must: int  # be refused
    refused: int  # of those
    leaked: int  # reached the server though they had to be refused
    wrongly: int  # refused though they were in order


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="the tool gateway")
    parser.add_argument("--calls", type=int, default=400, help="direct calls, and as many through the gateway")
    parser.add_argument("--seeds", type=int, default=20, help="of servers that change at random")
    parser.add_argument("--steps", type=int, default=100, help="changes and calls for each")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(json.loads(given.serve))
        return 0
    with on_this_machine():
        found = measure(given.calls, given.seeds, given.steps)
    return judge(found)


def measure(calls: int = 400, seeds: int = 20, steps: int = 100) -> list[Figure]:
    """Both parts, with their tables."""
    latencies, refusals = measure_latency(calls), measure_refusals(seeds, steps)
    show(latencies, refusals)
    return figures(latencies, refusals)


def figures(latencies: Sequence[Latency], refusals: Refusals) -> list[Figure]:
    """What was measured against its limits."""
    share = 100.0 * refusals.refused / refusals.must
    return [
        *(Figure(f"median added by the gateway, {one.server}", one.added, ADDED_MS, "ms") for one in latencies),
        Figure("calls of unlisted or changed tools that were refused", share, 100.0, "%", at_least=True),
        Figure("of them, that reached a server", refusals.leaked, 0),
        Figure("calls in order that were refused", refusals.wrongly, 0),
    ]


def show(latencies: Sequence[Latency], refusals: Refusals) -> None:
    """The tables of a run."""
    rows = []
    for one in latencies:
        for name, times in (("directly", one.direct), ("through the gateway", one.through)):
            numbers = (statistics.median(times), percentile(times, 0.9), percentile(times, 0.99))
            rows.append((f"{one.server}, {name}", *(f"{number * 1_000:.2f}" for number in numbers)))
    show_table(("one call at a time, ms", "median", "p90", "p99"), rows)
    took = [(one.server, f"{one.cpu * 1_000:.2f}") for one in latencies]
    show_table(("processor time of the gateway for a call", "ms"), took)
    counts = (refusals.calls, refusals.must, refusals.refused, refusals.leaked, refusals.wrongly)
    show_table(("calls", "had to be refused", "were", "leaked", "wrongly refused"), [tuple(map(str, counts))])


def measure_latency(calls: int) -> list[Latency]:
    """A server over HTTP and one on stdio, each called directly and through a gateway in a process of its own."""
    with process({"kind": "docs"}) as (docs_url, _):
        docs = ToolServer("docs", url=f"{docs_url}/mcp")
        rough = stdio_server()
        pins = (*pins_of(docs, only=("search",)), *pins_of(rough, only=("echo",)))
        job = {"kind": "gateway", "pins": [dataclasses.asdict(pin) for pin in pins], "docs": docs.url}
        with process(job) as (url, serving):
            gateway = StreamableHttpTransport(f"{url}/mcp", headers={"Authorization": f"Bearer {KEY}"})
            over_http = StreamableHttpTransport(f"{docs_url}/mcp")
            on_stdio = StdioTransport(sys.executable, [str(STDIO_SERVER)])
            wanted: tuple[tuple[str, ClientTransport, str, dict[str, str]], ...] = (
                ("HTTP server", over_http, "search", {"query": "refunds"}),
                ("stdio server", on_stdio, "echo", {"text": "refunds"}),
            )
            return [
                asyncio.run(compare(name, direct, gateway, tool, arguments, calls, serving))
                for name, direct, tool, arguments in wanted
            ]


async def compare(
    name: str,
    direct: ClientTransport,
    gateway: ClientTransport,
    tool: str,
    arguments: dict[str, str],
    calls: int,
    serving: psutil.Process,
) -> Latency:
    """One call directly, one through the gateway, and so on."""
    times: tuple[list[float], list[float]] = ([], [])
    async with Client(direct) as near, Client(gateway) as far:
        before = 0.0
        for number in range(WARM_UP + calls):
            before = _cpu(serving) if number == WARM_UP else before
            for client, kept in zip((near, far), times, strict=True):
                began = time.perf_counter()
                result = await client.call_tool_mcp(tool, arguments)
                took = time.perf_counter() - began
                if result.is_error:
                    raise SystemExit(f"a call failed: {result.content}")
                if number >= WARM_UP:
                    kept.append(took)
    return Latency(name, *times, (_cpu(serving) - before) / calls)


def _cpu(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def measure_refusals(seeds: int, steps: int) -> Refusals:
    """Servers that change at random, called through a gateway that looks at them before each call."""
    counts = [0, 0, 0, 0, 0]
    with tempfile.TemporaryDirectory(prefix="tool-worlds-") as name:
        for seed in range(seeds):
            one = _play(World(Path(name), 1_000 + seed), steps)
            counts = [sum(pair) for pair in zip(counts, dataclasses.astuple(one), strict=True)]
    return Refusals(*counts)


def _play(world: World, steps: int) -> Refusals:
    made = []
    with tool_gateway(build_grant(*world.pins), world.server, patience=Patience(refresh=0)) as gateway:

        async def run() -> None:
            async with Client(gateway.transport()) as client:
                for _ in range(steps):
                    step = world.step()
                    result = await client.call_tool_mcp(step.tool, {})
                    made.append((step, result.is_error))

        asyncio.run(run())
    must = [refused for step, refused in made if not step.allowed]
    allowed = [refused for step, refused in made if step.allowed]
    leaked = len(world.reached()) - (len(allowed) - sum(allowed))
    return Refusals(len(made), len(must), sum(must), leaked, sum(allowed))


# --- processes -------------------------------------------------------------------------------------------------------


@contextmanager
def process(job: Mapping[str, object]) -> Iterator[tuple[str, psutil.Process]]:
    """A process of this module that serves on a port: its base URL, and itself."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.gateway_tools", "--serve", json.dumps({**job, "port": port})]
    server = subprocess.Popen(command, cwd=REPOSITORY)
    try:
        wait_until(lambda: server.poll() is not None or _answers(port), 60)
        yield f"http://127.0.0.1:{port}", psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait(20)


def _answers(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def serve(job: Mapping[str, object]) -> None:
    """What `process` started."""
    app: ASGIApp = build_docs_server().http_app(path="/mcp") if job["kind"] == "docs" else _build_gateway(job)
    port = job["port"]
    assert isinstance(port, int)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False, ws="none")


def _build_gateway(job: Mapping[str, object]) -> ASGIApp:
    pins, url = job["pins"], job["docs"]
    assert isinstance(pins, list)
    grant = build_grant(*(ToolPin(**pin) for pin in pins))
    docs = ToolServer("docs", url=str(url))
    gateway = Gateway(grants={grant.key: grant}, servers={"docs": docs, "rough": stdio_server()})
    upstreams = Upstreams(lambda: gateway.servers, resolve)
    return build_tool_app(gateway, ToolCalls(upstreams, gateway.accounts, gateway), upstreams)


if __name__ == "__main__":
    raise SystemExit(main())
