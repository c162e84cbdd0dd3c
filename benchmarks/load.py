"""Whether callers notice anything: a steady load through everything that turnout does to a ring.

    python -m benchmarks.load [--rate 220] [--requests 20000]

A real instance under load on two rings: deploy to dev, promotion to staging and to production, `kill -9` of the server
within the canary and its restart, all canary steps, activation, 20 rollbacks and forward again after each, with another
`kill -9` and restart in the middle. Afterwards every answer is compared with the history of the pointers: the release that
answered must have been routed to at some moment of the request. A pointer's time is taken before it is committed, and the
proxy follows some milliseconds later; SLACK is what is allowed for that. The streams are slowed to about half a second, so
that they cross the flips.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from tests.live import LiveInstance, change_agent, copy_agent, live_instance, wait_until

from benchmarks.callers import Call
from benchmarks.report import Figure, judge, on_this_machine, percentile, show_table
from turnout.domain.models import FULL_WEIGHT

AGENT = "docs-assistant"
RING = "production"
SHARES = {RING: 0.85, "dev": 0.15}  # of the requests
STREAMED = 0.1
ROLLBACKS = 20
FORWARD = ("--no-quarantine", "--override", "the rollback was a measurement")
SLACK = 0.05  # seconds
LEAST_RATE, LEAST_REQUESTS = 200, 20_000
RINGS = """
[rings.dev]

[rings.staging]

[rings.production]
replicas = 2
approvals = 1
warm = "1h"
canary = [{ weight = 10, time = "4s", tasks = 50 }, { weight = 50, time = "4s", tasks = 50 }]
"""
PACED = '''"""The agent, with a pause after each event of a stream."""

import time

import server


class Paced:
    """A file that rests after each flush."""

    def __init__(self, file):
        self.write = file.write
        self._flush = file.flush

    def flush(self):
        self._flush()
        time.sleep(0.15)


class Handler(server.Handler):
    """Streams slowly."""

    def _send_events(self, answer, headers):
        plain, self.wfile = self.wfile, Paced(self.wfile)
        try:
            super()._send_events(answer, headers)
        finally:
            self.wfile = plain


server.Handler = Handler
server.main()
'''


@dataclass(frozen=True, slots=True)
class Routed:
    """What a ring routed to from a moment on: the releases with a weight."""

    since: float
    releases: frozenset[str]


def main() -> int:
    """Run the load, walk, judge."""
    parser = argparse.ArgumentParser(description="load through everything")
    parser.add_argument("--rate", type=float, default=220.0, help="requests a second (default 220)")
    parser.add_argument("--requests", type=int, default=LEAST_REQUESTS, help="requests at least (default 20,000)")
    arguments = parser.parse_args()
    with (
        on_this_machine(),
        tempfile.TemporaryDirectory(prefix="load-") as name,
        live_instance(Path(name) / "state") as instance,
    ):
        folder = prepare(instance, Path(name))
        walk: list[tuple[str, float, float]] = []
        record = Path(name) / "calls.jsonl"
        with calling(instance, record, arguments.rate):
            began = time.time()
            for label, step in plan_walk(instance, folder):
                started = time.time()
                step()
                walk.append((label, started - began, time.time() - started))
            time.sleep(max(2.0, began + 1.01 * arguments.requests / arguments.rate - time.time()))
        calls = [Call(**json.loads(line)) for line in record.read_text().splitlines()]
        history = {ring: fetch_history(instance, ring) for ring in SHARES}
        versions = {item["digest"]: item["version"] for item in instance.client().releases(AGENT)["releases"]}
    show_walk(walk)
    show_releases(calls, versions)
    show_latencies(calls)
    return judge_calls(calls, history, arguments.requests)


def prepare(instance: LiveInstance, folder: Path) -> Path:
    """The first release in all rings; the agent's folder, changed for the second."""
    source = copy_agent(folder / "agent", rings=RINGS)
    (source / "paced.py").write_text(PACED)
    manifest = source / "turnout.toml"
    manifest.write_text(manifest.read_text().replace('"server.py"', '"paced.py"'))
    instance.run("deploy", str(source))
    instance.run("promote", AGENT, "--to", "staging")
    promote_to_production(instance, approver=instance.json("tokens", "create", "bob", "--role", "approver")["token"])
    wait_until(lambda: instance.ring(AGENT, RING)["stable"] is not None, 60)
    change_agent(source, "The second release.")
    return source


def promote_to_production(instance: LiveInstance, approver: str) -> None:
    """Ask for it, and let somebody else approve."""
    instance.run("promote", AGENT, "--to", RING)
    instance.run("approve", AGENT, "--ring", RING, token=approver)


def plan_walk(instance: LiveInstance, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """What happens under load, step by step, each with its name."""
    first = instance.ring(AGENT, RING)["stable"]
    approver = instance.json("tokens", "create", "eve", "--role", "approver")["token"]
    yield "deploy v2 to dev", lambda: instance.run("deploy", str(folder))
    yield "promote to staging", lambda: instance.run("promote", AGENT, "--to", "staging")
    yield "promote to production, approve", lambda: promote_to_production(instance, approver)
    yield "canary at 10 %", lambda: wait_until(lambda: instance.ring(AGENT, RING)["weight"] == 10, 60)
    yield "kill -9 of the server, restart", lambda: crash(instance)
    yield "canary at 50 %", lambda: wait_until(lambda: instance.ring(AGENT, RING)["weight"] == 50, 60)
    yield "active", lambda: wait_until(lambda: instance.ring(AGENT, RING)["stable"] != first, 60)
    second = instance.ring(AGENT, RING)["stable"]
    yield f"{ROLLBACKS // 2} rollbacks, and forward again", lambda: flip(instance, second, ROLLBACKS // 2)
    yield "kill -9 of the server, restart", lambda: crash(instance)
    yield (
        f"{ROLLBACKS - ROLLBACKS // 2} rollbacks, and forward again",
        lambda: flip(instance, second, ROLLBACKS - ROLLBACKS // 2),
    )


def crash(instance: LiveInstance) -> None:
    """kill -9 of the server; a second later it is started again."""
    instance.kill()
    time.sleep(1)
    instance.start()


def flip(instance: LiveInstance, release: str, times: int) -> None:
    """Roll back, and forward again to the release."""
    for _ in range(times):
        instance.run("rollback", AGENT, "--ring", RING)
        instance.run("rollback", AGENT, "--ring", RING, "--version", release, *FORWARD)


def fetch_history(instance: LiveInstance, ring: str) -> list[Routed]:
    """What the ring's pointer said, oldest first."""
    client, history, after = instance.client(), [], 0
    while events := client.events(agent=AGENT, ring=ring, after=after, limit=1000)["events"]:
        after = events[-1]["seq"]
        for event in events:
            if event["type"] == "pointer.changed":
                at = datetime.fromisoformat(event["at"]).timestamp()
                history.append(Routed(at, _routed_releases(event["data"])))
    return history


def judge_calls(calls: list[Call], history: dict[str, list[Routed]], requests: int) -> int:
    """The figures; failures and strays are printed one by one, up to a few."""
    failed = [call for call in calls if call.failure]
    answered = [call for call in calls if not call.failure]
    strays = [call for call in answered if not was_routed(call, history[call.ring], SLACK)]
    late = [lateness(call, history[call.ring]) for call in answered if not was_routed(call, history[call.ring], 0.0)]
    for call in [*failed[:10], *strays[:10]]:
        print(f"  {call}")
    span = max(call.ended for call in calls) - min(call.began for call in calls)
    flips = sum(len(changes) for changes in history.values())
    print(
        f"{flips} changes of pointers in all. {len(late)} requests began after a pointer's time and were still answered by"
        f" the release before it; the latest of them {1000 * max(late, default=0):.0f} ms after it"
        f" (allowed: {1000 * SLACK:.0f} ms).\n"
    )
    return judge(
        [
            Figure("requests", len(calls), requests, at_least=True),
            Figure("requests a second", len(calls) / span, LEAST_RATE, at_least=True),
            Figure("streams", sum(call.streamed for call in calls), 1, at_least=True),
            Figure("failed requests", len(failed), 0),
            Figure("answered by a release that was not routed to", len(strays), 0),
        ]
    )


def was_routed(call: Call, history: list[Routed], slack: float) -> bool:
    """Whether the release that answered had a weight at some moment from `slack` before the request to its end."""
    ends = [item.since for item in history[1:]] + [float("inf")]
    return any(
        call.release in item.releases
        for item, end in zip(history, ends, strict=True)
        if item.since <= call.ended and end >= call.began - slack
    )


def lateness(call: Call, history: list[Routed]) -> float:
    """How long before the request began its release had left the traffic, in seconds; infinite if it never had any."""
    left = [
        later.since
        for item, later in pairwise(history)
        if call.release in item.releases - later.releases and later.since <= call.began
    ]
    return call.began - max(left) if left else float("inf")


def show_walk(walk: list[tuple[str, float, float]]) -> None:
    """What happened when."""
    rows = [(label, f"{at:.1f}", f"{took:.1f}") for label, at, took in walk]
    show_table(("under load", "at s", "took s"), rows)


def show_releases(calls: list[Call], versions: dict[str, str]) -> None:
    """Who answered how many requests."""
    counted = Counter((call.ring, versions.get(call.release, "none")) for call in calls)
    streamed = Counter((call.ring, versions.get(call.release, "none")) for call in calls if call.streamed)
    failed = Counter((call.ring, versions.get(call.release, "none")) for call in calls if call.failure)
    rows = [
        (f"{ring} {version}", f"{count:,}", f"{streamed[ring, version]:,}", str(failed[ring, version]))
        for (ring, version), count in sorted(counted.items())
    ]
    show_table(("answered by", "requests", "streams", "failed"), rows)


def show_latencies(calls: list[Call]) -> None:
    """From the moment that a request was due to the end of its answer."""
    rows = []
    for name, streamed in (("plain", False), ("streamed", True)):
        took = [1000 * (call.ended - call.due) for call in calls if call.streamed is streamed]
        values = (statistics.median(took), percentile(took, 0.99), max(took))
        rows.append((name, f"{len(took):,}", *(f"{value:.0f}" for value in values)))
    show_table(("latency", "requests", "median ms", "p99 ms", "slowest ms"), rows)


@contextmanager
def calling(instance: LiveInstance, record: Path, rate: float) -> Iterator[None]:
    """The load, while the block runs; then the record is complete."""
    command = [sys.executable, "-m", "benchmarks.callers", "--port", str(instance.traffic_port), "--agent", AGENT]
    command += ["--rate", str(rate), "--streamed", str(STREAMED), "--record", str(record)]
    for ring, share in SHARES.items():
        command += ["--ring", f"{ring}={share}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        try:
            yield
        finally:
            process.stdin.close()
            process.wait(60)


def _routed_releases(pointer: dict[str, object]) -> frozenset[str]:
    stable, candidate, weight = pointer["stable"], pointer["candidate"], pointer["weight"]
    assert isinstance(weight, int)
    routed = set()
    if candidate is not None and weight > 0:
        routed.add(str(candidate))
    if stable is not None and (candidate is None or weight < FULL_WEIGHT):
        routed.add(str(stable))
    return frozenset(routed)


if __name__ == "__main__":
    sys.exit(main())
