"""How long a bad release still gets callers: from the report that decides to the first request that is routed back.

    python -m benchmarks.verdict [--rounds 20]

A real instance with a ring whose rollouts are judged by reports. In each round a new release gets half of the callers, and
every task of it is reported as failed, one at a time. One caller whose task the candidate has asks again and again on a kept
connection. What counts begins when the report that decides is about to be sent, and ends when the head of the first answer
of stable has arrived at that caller. The event that the judge writes is timed too: it says where the time goes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.e2e.callers import Caller
from tests.e2e.tiny_agent import write_agent
from tests.e2e.workshop import deploy, push_agent
from tests.live import LiveInstance, live_instance, wait_until

from benchmarks.report import Figure, judge, on_this_machine, percentile, show_table
from turnout.domain.errors import NotFound, TurnoutError

AGENT, RING = "judged", "dev"
RINGS = """
[rings.dev]
canary = [{ weight = 50 }]
warm = "1s"

[rings.dev.judge]
ramp = "evidence"
"""
MEDIAN_LIMIT, SLOWEST_LIMIT = 250.0, 2_000.0  # milliseconds
PATIENCE = 2.5  # seconds that each report has to be followed by a flip, before the next is sent
MOST_REPORTS = 60


@dataclass(frozen=True, slots=True)
class Round:
    """One release that was taken back. Times in milliseconds since the report that decided."""

    reports: int
    decided: float
    routed_back: float


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        description="from the report that decides to the first request that is routed back"
    )
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    with on_this_machine(), tempfile.TemporaryDirectory(prefix="verdict-") as name:
        folder = Path(name)
        with live_instance(folder / "state") as instance:
            deploy(instance, AGENT, push(instance, folder, "stable"))
            measured = [measure(instance, folder, number) for number in range(rounds)]
    back = [item.routed_back for item in measured]
    rows = [
        (
            what,
            str(len(times)),
            *(f"{value:.1f}" for value in (statistics.median(times), percentile(times, 0.95), max(times))),
        )
        for what, times in (
            ("report → verdict (its event)", [item.decided for item in measured]),
            ("report → first answer of stable", back),
        )
    ]
    show_table(("from the report that decides", "n", "median ms", "p95 ms", "slowest ms"), rows)
    print(f"reports until it was decided: {sorted(item.reports for item in measured)}\n")
    return judge(
        [
            Figure("report → first answer of stable, median", statistics.median(back), MEDIAN_LIMIT, "ms"),
            Figure("report → first answer of stable, slowest", max(back), SLOWEST_LIMIT, "ms"),
        ]
    )


def spread(times: list[float]) -> tuple[float, float, float]:
    """Median, 95th percentile, slowest."""
    return statistics.median(times), percentile(times, 0.95), max(times)


def measure(instance: LiveInstance, folder: Path, number: int) -> Round:
    """One release: in, reported as failing, out."""
    digest = push(instance, folder, f"candidate {number}")
    started = instance.client().deploy(AGENT, RING, {"release": digest})
    wait_until(lambda: instance.ring(AGENT, RING)["candidate"] == digest, 60)
    tasks = tasks_of(instance, digest, MOST_REPORTS)
    with polling(instance, tasks[-1]) as seen:
        wait_until(lambda: seen.releases[-1:] == [digest], 20)
        for count, task in enumerate(tasks[:-1], start=1):
            began = time.time()
            instance.client().report(task, {"success": False})
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline and seen.releases[-1] == digest:
                time.sleep(0.001)
            if seen.releases[-1] != digest:
                return Round(
                    count, 1_000 * (decided_at(instance, started["id"]) - began), 1_000 * (seen.at[-1] - began)
                )
    raise AssertionError("the release was not taken back")


def push(instance: LiveInstance, folder: Path, note: str) -> str:
    """A release whose tasks are judged by reports."""
    write_agent(folder / "agent", note, agent=AGENT, rings=RINGS)
    manifest = folder / "agent" / "turnout.toml"
    manifest.write_text(manifest.read_text().replace("[health]", '[outcomes]\nsuccess = "report"\n\n[health]'))
    return push_agent(instance, folder / "agent")


def tasks_of(instance: LiveInstance, digest: str, number: int) -> list[str]:
    """So many tasks that the candidate got, with as many of the stable release beside them; all of them are recorded."""
    mine: list[str] = []
    with Caller(instance) as caller:
        while len(mine) < number:
            task = uuid.uuid4().hex
            answer = caller.ask(f"/{AGENT}/{RING}/", {"x-turnout-task": task})
            if answer.release == digest:
                mine.append(task)
            else:
                instance.client().report(task, {"success": True})
    wait_until(lambda: is_recorded(instance, mine[-1]), 20)
    return mine


def is_recorded(instance: LiveInstance, task: str) -> bool:
    """Whether the instance knows a task."""
    try:
        return bool(instance.client().lineage(task))
    except TurnoutError as error:
        if error.code != NotFound.code:
            raise
        return False


def decided_at(instance: LiveInstance, deployment: str) -> float:
    """When the judge's verdict was written."""
    found: list[Any] = []

    def told() -> bool:
        events = instance.client().events(deployment=deployment, limit=500)["events"]
        found[:] = [event for event in events if event["type"] == "rollout.judged"]
        return bool(found)

    wait_until(told, 20)
    return datetime.fromisoformat(found[0]["at"]).timestamp()


class Seen:
    """The releases that a caller met, and when."""

    def __init__(self) -> None:
        self.releases: list[str] = []
        self.at: list[float] = []


@contextmanager
def polling(instance: LiveInstance, task: str) -> Iterator[Seen]:
    """A caller in a process of its own that goes on asking for a task."""
    command = [sys.executable, "-m", "benchmarks.poller", "--port", str(instance.traffic_port), "--task", task]
    command += ["--path", f"/{AGENT}/{RING}/", "--pause", "0.002"]
    poller = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    seen = Seen()
    reader = threading.Thread(target=read, args=(poller, seen), daemon=True)
    reader.start()
    try:
        yield seen
    finally:
        assert poller.stdin is not None
        poller.stdin.close()
        reader.join(20)
        poller.wait(20)


def read(poller: subprocess.Popen[str], seen: Seen) -> None:
    """What the caller tells, as it comes."""
    assert poller.stdout is not None
    for line in poller.stdout:
        told = json.loads(line)
        if "release" in told:
            seen.at.append(told["at"])
            seen.releases.append(told["release"])


if __name__ == "__main__":
    sys.exit(main())
