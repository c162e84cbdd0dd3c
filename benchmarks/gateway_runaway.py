"""An agent that calls a model in a tight loop: what one task of it spends, and how soon its ring is back on last-good.

A real instance: server, Envoy, gateway, agents. In each round a release that loops becomes active, and gets one task. The
time begins when the call was over that took its task past the limit of the breaker, as the journal has it; it ends when the
first answer of last-good has arrived at a caller that asks again and again.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.e2e.gateway_world import PROVIDER_KEY, fake_provider, write_config, write_model_agent
from tests.e2e.test_gateway import World
from tests.e2e.workshop import deploy, push_agent
from tests.live import free_port, live_instance, wait_until

from benchmarks.report import Figure, show_table

AGENT = "runaway"
CALL = 0.000_075  # dollars for the tokens of one answer of the provider
TRIPS_ABOVE, BUDGET = 20.5 * CALL, 0.25  # dollars; a call holds two thousand times what it takes
RINGS = f"""[rings.dev]

[[rings.dev.budgets]]
scope = "task"
limit = {BUDGET}

[[rings.dev.breakers]]
scope = "run"
metric = "cost"
above = {TRIPS_ABOVE:.7f}
"""
LOOPS = """
def ask(baggage, once=ask):
    while True:  # whatever it is told
        once(baggage)
"""
BACK_WITHIN = 3_000.0  # milliseconds


@dataclass(frozen=True, slots=True)
class Round:
    """One release that ran in circles."""

    calls: int
    refused: int
    dollars: float
    back: float  # milliseconds


def measure_runaway(rounds: int) -> list[Round]:
    """Rounds on one instance."""
    with tempfile.TemporaryDirectory(prefix="runaway-", ignore_cleanup_errors=True) as name, world(Path(name)) as live:
        folder = Path(name) / "agent"
        good = live.deploy(folder, AGENT, rings=RINGS)["TURNOUT_RELEASE"]
        return [run_round(live, folder, good, number) for number in range(rounds)]


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """An instance with a gateway before a provider."""
    port = free_port()
    flags = ("--gateway-port", str(port), "--tool-port", str(free_port()))
    with fake_provider() as provider:
        write_config(folder / "state" / "gateway.toml", provider.url)
        with live_instance(folder / "state", flags=flags, env={"PROVIDER_KEY": PROVIDER_KEY}) as instance:
            yield World(instance, provider, port)


def run_round(live: World, folder: Path, good: str, number: int) -> Round:
    """A release that loops, until the ring is back on the good one."""
    write_model_agent(folder, AGENT, note=f"loops {number}", rings=RINGS, smoke=False)  # that would never end
    agent = folder / "agent.py"
    head, _, serve = agent.read_text().partition("http.server.ThreadingHTTPServer((")
    agent.write_text(f"{head}{LOOPS}\nhttp.server.ThreadingHTTPServer(({serve}")
    deploy(live.instance, AGENT, push_agent(live.instance, folder))
    wait_until(lambda: answered_by(live) != good, 20)

    task = f"circle-{number}"
    looping = threading.Thread(target=visit, args=(live, task), daemon=True)
    looping.start()
    wait_until(lambda: answered_by(live) == good, 30, lambda: "the ring does not come back")
    back = time.time()
    calls = settled_calls(live, task)
    spent, crossed = 0.0, None
    for call in calls:
        spent += call["cost"] or 0.0
        if crossed is None and spent > TRIPS_ABOVE:
            crossed = datetime.fromisoformat(call["at"]).timestamp() + call["duration"]
    assert crossed is not None, calls
    refused = sum(call["ended"] == "refused" for call in calls)
    return Round(len(calls) - refused, refused, spent, (back - crossed) * 1e3)


def visit(live: World, task: str) -> None:
    """The task that never ends, until its agent is stopped."""
    try:
        live.visit(AGENT, "/ask", task)
    except OSError:
        return


def answered_by(live: World) -> str:
    """The release that answers a caller now."""
    return str(live.visit(AGENT, "/environment")[1].get("TURNOUT_RELEASE"))


def settled_calls(live: World, task: str) -> list[dict[str, Any]]:
    """All calls of a task, oldest first, once no more of them arrive."""
    found: list[dict[str, Any]] = []
    while True:
        now = live.instance.json("lineage", task)["model_calls"]
        if found and len(now) == len(found):
            return sorted(now, key=lambda call: call["at"])
        found = now
        time.sleep(1.0)


def show_runaway(rounds: Sequence[Round]) -> None:
    """A line for each round."""
    rows = [
        (f"{index}", str(item.calls), str(item.refused), f"{item.dollars:.5f}", f"{item.back:.0f}")
        for index, item in enumerate(rounds)
    ]
    show_table(("runaway loop", "calls", "refused", "dollars", "back after ms"), rows)


def runaway_figures(rounds: Sequence[Round]) -> list[Figure]:
    """What has to hold in every round."""
    return [
        Figure(
            "runaway loop: most that one task spent of its budget",
            100 * max(r.dollars for r in rounds) / BUDGET,
            100,
            "%",
        ),
        Figure(
            "runaway loop: from the trip to last-good's first answer, slowest",
            max(r.back for r in rounds),
            BACK_WITHIN,
            "ms",
        ),
        Figure("runaway loop: the same, median", statistics.median(r.back for r in rounds), BACK_WITHIN, "ms"),
    ]
