"""How long a rollback takes: from the commit of the pointer to the first answer of last-good, and as a whole command.

    python -m benchmarks.rollback [--flips 40]

A real instance: server, Envoy, two warm releases of the sample agent. One caller asks about a thousand times a second on a
kept connection.
`turnout rollback` goes back, `turnout rollback --version` forward again. Three starting points are timed: the commit itself
(noted by the controller's thread right after it returned), the `pointer.changed` event (its time is taken before the
transaction begins, so that the disk's flush is in it), and the start of the command.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.live import LiveInstance, change_agent, copy_agent, live_instance, wait_until

from benchmarks import flip
from benchmarks.report import Figure, judge, on_this_machine, percentile, show_table
from benchmarks.timed_server import COMMITS

AGENT = "docs-assistant"
RING = "production"
RINGS = """
[rings.dev]

[rings.production]
warm = "1h"
"""
FORWARD = ("--no-quarantine", "--override", "the rollback was a measurement")
SHOWN_WITHIN = 10.0  # seconds
MEDIAN_LIMIT, SLOWEST_LIMIT, COMMAND_LIMIT = 5.0, 50.0, 500.0  # milliseconds


@dataclass(frozen=True, slots=True)
class Flip:
    """One rollback; milliseconds to the first answer of the target from each starting point, and the command's own time."""

    back: bool
    since_commit: float
    since_event: float
    since_start: float
    command: float


@dataclass
class Poller:
    """What the caller has seen so far: (time, release) of each change, and its counts once it ended."""

    changes: list[tuple[float, str]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def first_answer(self, release: str, after: float) -> float | None:
        """When the release answered first after a moment; None if it has not yet."""
        return next((at for at, name in list(self.changes) if name == release and at > after), None)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="time rollbacks")
    parser.add_argument("--flips", type=int, default=40, help="rollbacks to time (default 40)")
    flips = parser.parse_args().flips
    with on_this_machine(), tempfile.TemporaryDirectory(prefix="rollback-") as name:
        folder = Path(name)
        timed, counts = measure(folder, flips)
        others = measure_others(folder, flips)
    back = [item for item in timed if item.back]
    show_flips("turnout rollback", back)
    show_flips("turnout rollback --version (forward again)", [item for item in timed if not item.back])
    since_commit = [item.since_commit for item in back]
    show_others(statistics.median(since_commit), max(since_commit), len(back), others)
    return judge(
        [
            Figure("commit of the pointer → first answer, median", statistics.median(since_commit), MEDIAN_LIMIT, "ms"),
            Figure("commit of the pointer → first answer, slowest", max(since_commit), SLOWEST_LIMIT, "ms"),
            Figure(
                "the command as a whole, median", statistics.median(item.command for item in back), COMMAND_LIMIT, "ms"
            ),
            Figure(f"failed of {counts['requests']:,} requests meanwhile", counts["failed"], 0),
        ]
    )


def measure(folder: Path, flips: int) -> tuple[list[Flip], dict[str, int]]:
    """Roll back `flips` times and forward between; all flips, and the counts of the caller."""
    server = (sys.executable, "-m", "benchmarks.timed_server")
    with live_instance(folder / "state", server=server) as instance:
        source = copy_agent(folder / "agent", rings=RINGS)
        releases = []
        for note in ("once", "twice"):
            releases.append(instance.json("deploy", str(source))["digest"])
            instance.run("promote", AGENT, "--to", RING)
            change_agent(source, note)
        versions = {item["digest"]: item["version"] for item in instance.client().releases(AGENT)["releases"]}
        with polling(instance) as poller:
            wait_until(lambda: poller.first_answer(releases[1], 0) is not None, SHOWN_WITHIN)
            timed = []
            for _ in range(flips):
                timed.append(time_flip(instance, poller, releases[0], ()))
                timed.append(time_flip(instance, poller, releases[1], ("--version", versions[releases[1]], *FORWARD)))
    return timed, poller.counts


def time_flip(instance: LiveInstance, poller: Poller, target: str, options: tuple[str, ...]) -> Flip:
    """One rollback by the command line, as another process would do it."""
    time.sleep(random.uniform(0.1, 0.4))  # so that flips keep no step with what the server does by the clock
    began = time.time()
    instance.run("rollback", AGENT, "--ring", RING, *options)
    ended = time.time()
    wait_until(lambda: poller.first_answer(target, began) is not None, SHOWN_WITHIN)
    shown = poller.first_answer(target, began)
    assert shown is not None
    committed = float((instance.state / COMMITS).read_text().split()[-1])
    since = [1000 * (shown - start) for start in (committed, last_pointer_change(instance), began)]
    return Flip(not options, since[0], since[1], since[2], 1000 * (ended - began))


def last_pointer_change(instance: LiveInstance) -> float:
    """The time of the newest `pointer.changed` event of the ring."""
    found = instance.client().events(agent=AGENT, ring=RING, newest_first=True, limit=50)["events"]
    newest = next(event for event in found if event["type"] == "pointer.changed")
    return datetime.fromisoformat(newest["at"]).timestamp()


def measure_others(folder: Path, flips: int) -> list[flip.Result]:
    """The other proxies that are installed, flipped on their own in the same run: no store, no controller, no commit."""
    with ExitStack() as stack:
        ports = [stack.enter_context(flip.agent(name)) for name in flip.AGENTS]
        proxies = [("turnout's Envoy alone", "envoy", flip.envoy)]
        proxies += [("HAProxy runtime map", "haproxy", flip.haproxy), ("nginx reload", "nginx", flip.nginx)]
        return [
            flip.measure(name, proxy(folder, ports), flips)
            for name, program, proxy in proxies
            if program == "envoy" or shutil.which(program)
        ]


@contextmanager
def polling(instance: LiveInstance) -> Iterator[Poller]:
    """The caller, while the block runs."""
    command = [sys.executable, "-m", "benchmarks.poller", "--port", str(instance.traffic_port)]
    command += ["--path", f"/{AGENT}/{RING}/ping", "--pause", "0.0005"]
    poller = Poller()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        reader = threading.Thread(target=_read, args=(process.stdout, poller))
        reader.start()
        try:
            yield poller
        finally:
            process.stdin.close()
            reader.join()


def show_flips(name: str, flips: list[Flip]) -> None:
    """One table: a row for each starting point."""
    columns = {
        "commit → first answer": [item.since_commit for item in flips],
        "pointer.changed event → first answer": [item.since_event for item in flips],
        "start of the command → first answer": [item.since_start for item in flips],
        "the command as a whole": [item.command for item in flips],
    }
    rows = [
        (label, str(len(values)), *(f"{value:.1f}" for value in _summary(values))) for label, values in columns.items()
    ]
    show_table((name, "n", "median ms", "p95 ms", "slowest ms"), rows)


def show_others(median: float, slowest: float, count: int, others: list[flip.Result]) -> None:
    """The proxies beside the whole of turnout. Ratios are to its median."""
    rows = [("turnout, commit → first answer", str(count), f"{median:.1f}", f"{slowest:.1f}", "1.00", "", "")]
    for other in others:
        middle = statistics.median(other.shown)
        rows.append(
            (
                other.proxy,
                str(len(other.shown)),
                f"{middle:.1f}",
                f"{max(other.shown):.1f}",
                f"{middle / median:.2f}",
                str(other.failed),
                str(other.late),
            )
        )
    show_table(("side by side", "n", "median ms", "slowest ms", "ratio", "failed", "late"), rows)


def _summary(values: list[float]) -> tuple[float, float, float]:
    return statistics.median(values), percentile(values, 0.95), max(values)


def _read(lines: Any, poller: Poller) -> None:
    for line in lines:
        said = json.loads(line)
        if "release" in said:
            poller.changes.append((said["at"], said["release"]))
        else:
            poller.counts = said


if __name__ == "__main__":
    sys.exit(main())
