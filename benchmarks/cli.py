"""What the command line costs before and beside its work: processor time of `turnout --help` and of `turnout status`.

    python -m benchmarks.cli [--runs 11]

User and system time of the process, so that other work on the machine matters little. Beside them in the same run, as a
scale: an interpreter that does nothing, and one that imports what the command line might have been made with.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.live import copy_agent, live_instance

from benchmarks.report import Figure, judge, on_this_machine, show_table

RINGS = """
[rings.dev]

[rings.production]
"""
HELP_LIMIT, STATUS_LIMIT = 150.0, 300.0  # milliseconds
TURNOUT = str(Path(sys.executable).with_name("turnout"))


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of one run: processor time (user and system) and by the clock on the wall."""

    cpu: float
    wall: float


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="processor time of the command line")
    parser.add_argument("--runs", type=int, default=11, help="runs of each command, of which the median counts")
    runs = parser.parse_args().runs
    with (
        on_this_machine(),
        tempfile.TemporaryDirectory(prefix="cli-") as name,
        live_instance(Path(name) / "state") as instance,
    ):
        instance.run("deploy", str(copy_agent(Path(name) / "agent", rings=RINGS)))
        env = {**os.environ, "TURNOUT_STATE": str(instance.state)}
        commands = {
            "turnout --help": [TURNOUT, "--help"],
            "turnout status": [TURNOUT, "status"],
            "turnout status --json": [TURNOUT, "status", "--json"],
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import httpx'": [sys.executable, "-c", "import httpx"],
            "python -c 'import click, urllib3'": [sys.executable, "-c", "import click, urllib3"],
        }
        costs = measure(commands, env, runs)
    show(costs)
    return judge(
        [
            Figure("turnout --help, processor time", _cpu(costs["turnout --help"]), HELP_LIMIT, "ms"),
            Figure("turnout status, processor time", _cpu(costs["turnout status"]), STATUS_LIMIT, "ms"),
        ]
    )


def measure(commands: dict[str, list[str]], env: dict[str, str], runs: int) -> dict[str, list[Cost]]:
    """Run all commands in turn, so that noise meets all of them; one unmeasured round warms the caches."""
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for number in range(runs + 1):
        for name, command in commands.items():
            cost = run(command, env)
            if number > 0:
                costs[name].append(cost)
    return costs


def run(command: list[str], env: dict[str, str]) -> Cost:
    """Run one command to its end. Raises `CalledProcessError` when it fails."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=env, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    after, ended = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(1000 * cpu, 1000 * (ended - began))


def show(costs: dict[str, list[Cost]]) -> None:
    """A row for each command; ratios are to the bare interpreter."""
    bare = _cpu(costs["python -c pass"])
    rows = [
        (
            name,
            f"{_cpu(measured):.0f}",
            f"{max(cost.cpu for cost in measured):.0f}",
            f"{statistics.median(cost.wall for cost in measured):.0f}",
            f"{_cpu(measured) / bare:.1f}",
        )
        for name, measured in costs.items()
    ]
    show_table(("command", "median cpu ms", "most cpu ms", "median wall ms", "ratio"), rows)


def _cpu(costs: list[Cost]) -> float:
    return statistics.median(cost.cpu for cost in costs)


if __name__ == "__main__":
    sys.exit(main())
