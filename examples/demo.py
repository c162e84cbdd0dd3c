"""The main job on the sample agent, under live traffic, from the command line as a user would do it.

v1 goes dev → staging → production. A good v2 is promoted through the canary. A broken v3 fails its smoke task and never
becomes active. A v4 that turns bad after a while is rolled back. Then the callers' reports decide: a v5 that fails 10 % of
its tasks and a v6 that costs twice as much are taken back by the judge, an equal v7 is promoted by evidence. Exits with 0
only if all of that was observed.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from textwrap import indent
from typing import Any

from callers import Callers, Served

from turnout.client import Client
from turnout.sdk import Reporter

STARTED = time.monotonic()
AGENT = "docs-assistant"
SAMPLE = Path(__file__).parent / "docs_assistant"
BAD_AFTER = 9.0  # seconds that a replica of v4 works before it turns bad
WATCH_SECONDS = 30.0  # how long v4 may take to be noticed
JUDGED_RATE = 200.0  # requests a second while rollouts are judged
PAGE_LINES = 22

RINGS = """
[rings.dev]

[rings.staging]

[rings.production]
replicas = 2
approvals = 1
canary = [{ weight = 10, time = "2s", tasks = 15 }, { weight = 50, time = "2s", tasks = 50 }]
"""

# Answers come quickly here, and so do reports: what takes an hour in production takes seconds.
JUDGED = """
[rings.dev]

[rings.staging]

[rings.production]
replicas = 2
approvals = 1
canary = [{ weight = 20 }, { weight = 50 }]

[rings.production.judge]
ramp = "evidence"
ages = ["1s", "3s", "6s"]
ceiling = 0.05
limit = "2m"
inconclusive = "back"
"""
REPORTS_DECIDE = """
[outcomes]
success = "report"
"""

FAILS_SOME = """
import random
import assistant
import server

works = assistant.Assistant.answer

def answer(self, question, task=None):
    return works(self, question if random.random() > 0.1 else "zzzz", task)  # one answer in ten is useless

assistant.Assistant.answer = answer
server.main()
"""

TURNS_BAD = f"""
import time
import assistant
import server

works = assistant.Assistant.answer
began = time.monotonic()

def answer(self, question, task=None):
    if time.monotonic() - began > {BAD_AFTER}:
        return works(self, "zzzz", task)  # finds nothing any more: every answer is polite, quick and useless
    return works(self, question, task)

assistant.Assistant.answer = answer
server.main()
"""


def main() -> int:
    """Play it, print the report, say whether all was observed."""
    with tempfile.TemporaryDirectory(prefix="turnout-demo-") as folder, demonstration(Path(folder)) as demo:
        observed = demo.play()
        demo.report(observed, time.monotonic() - STARTED)
    return 0 if all(observed.values()) else 1


class Demonstration:
    """One run on an instance of its own."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.agent = folder / "agent"
        self.api_port, self.traffic_port = free_ports(2)
        self.deployments: list[tuple[str, str]] = []  # (what, deployment id)
        self.flip = 0.0  # seconds
        self.bad_answers = 0
        self.versions: dict[str, str] = {}  # digest → version
        self.decisions: list[
            tuple[str, str, int, float]
        ] = []  # version, what became of it, its tasks until then, seconds
        self.served: list[Served] = []

    def play(self) -> dict[str, bool]:
        """The story. Returns what was to be observed → whether it was."""
        say("turnout up")
        self.turnout("up", "-d", "--port", str(self.api_port), "--traffic-port", str(self.traffic_port))
        self.client = Client(f"http://127.0.0.1:{self.api_port}", (self.state / "admin.token").read_text().strip())
        self.approver = self.turnout("tokens", "create", "bob", "--role", "approver")["token"]
        shutil.copytree(SAMPLE, self.agent, ignore=shutil.ignore_patterns("__pycache__", ".turnout", "index"))
        manifest = self.agent / "turnout.toml"
        self.head = manifest.read_text().split("[rings.")[0] + REPORTS_DECIDE
        manifest.write_text(self.head + RINGS)

        say("v1: dev → staging → production")
        first = self.release("v1")
        observed = {"v1 went dev → staging → production": self.to_production("v1")}

        reporter = self.start_reporter()
        callers = Callers(self.traffic_port, f"/{AGENT}/production/invocations", reporter)
        callers.start()
        try:
            say("v2: a better prompt, promoted through the canary under live traffic")
            self.edit("prompts/system.md", "Sentences: 3", "Sentences: 2")
            second = self.release("v2")
            observed["v2 was promoted through the canary"] = self.to_production("v2") and self.stable() == second

            say("v3: broken, its smoke task fails")
            self.edit("prompts/system.md", "Sources: {sources}", "(no sources)")
            self.edit("turnout.toml", 'expect_text = "formatstrings"', 'expect_text = "Sources: [formatstrings]"')
            third = self.release("v3", expect=8)
            observed["v3 never became active"] = self.active_nowhere(third)

            say("v4: passes everything, and turns bad after a while")
            self.edit("prompts/system.md", "(no sources)", "Sources: {sources}")
            (self.agent / "turns_bad.py").write_text(TURNS_BAD)
            self.edit("turnout.toml", '"server.py"', '"turns_bad.py"')
            fourth = self.release("v4")
            observed["v4 became active, then turned bad"] = self.to_production("v4") and self.watch(callers, fourth)

            say("turnout rollback")
            observed["v4 was rolled back to v2"] = self.roll_back() and self.stable() == second
            time.sleep(1.5)  # a moment of traffic after the flip, for the report
            after = [item for item in callers.served() if item.began > self.flipped_at + 0.25]
            observed["every answer after the flip is v2's and good"] = bool(after) and all(
                item.release == second and item.good for item in after
            )
            observed |= self.judged(callers, second)
        finally:
            callers.stop()
            reporter.close()
            self.served = callers.served()
        observed["no request failed"] = all(item.status == 200 for item in self.served)
        observed["the same digest in every ring"] = self.same_digests(first, second)
        return observed

    def judged(self, callers: Callers, stable: str) -> dict[str, bool]:
        """The part of the story in which nobody looks at the answers but those who asked."""
        callers.rate = JUDGED_RATE
        (self.agent / "turnout.toml").write_text(self.head + JUDGED)
        observed = {}

        say("v5: fails one task in ten; nobody watches but the judge")
        (self.agent / "fails_some.py").write_text(FAILS_SOME)
        self.edit("turnout.toml", '"server.py"', '"fails_some.py"')
        self.release("v5")
        observed["v5 was taken back by the judge"] = self.judge("v5") == "rolled_back" and self.stable() == stable
        print(indent(self.explain(), "    "))

        say("v6: costs twice as much")
        self.edit("turnout.toml", '"fails_some.py"', '"server.py"')
        self.edit("turnout.toml", 'DOCS_PRICE = "0.00001"', 'DOCS_PRICE = "0.00002"')
        self.release("v6")
        observed["v6 was taken back by the judge"] = self.judge("v6") == "rolled_back" and self.stable() == stable

        say("v7: no worse than v2, and has to prove it")
        self.edit("turnout.toml", 'DOCS_PRICE = "0.00002"', 'DOCS_PRICE = "0.00001"')
        seventh = self.release("v7")
        observed["v7 was promoted by evidence"] = self.judge("v7") == "active" and self.stable() == seventh
        return observed

    def judge(self, version: str) -> str:
        """Promote a release to production and let its rollout be decided. Returns the state it came to."""
        staging = self.turnout("promote", AGENT, "--to", "staging")
        self.note(f"{version} staging", staging)
        production = self.turnout("promote", AGENT, "--to", "production")
        self.turnout("approve", AGENT, "--ring", "production", token=self.approver)
        began = 0.0
        for event in self.client.follow_deployment(production["id"]):
            if event.name == "rollout.stepped":
                began = began or time.monotonic()
                print(f"    canary step {event.data['data']['step']}: {event.data['data']['weight']:g} %")
        seconds = time.monotonic() - began
        settled = self.client.deployment(production["id"])
        self.note(f"{version} production", dict(settled))
        last = settled["transitions"][-2 if settled["state"] == "rolled_back" else -1]
        print(f"    {last['reason']}")
        verdict: Any = self.client.rollout(AGENT, "production")["verdict"]
        tasks = int(verdict["ratio"]["candidates"]) if verdict else 0
        self.decisions.append((version, settled["state"], tasks, seconds))
        return settled["state"]

    def explain(self) -> str:
        """What whoever is on call reads in the morning: the first lines of the page."""
        production = self.deployments[-1][1]
        env = {**os.environ, "TURNOUT_STATE": str(self.state)}
        command = [sys.executable, "-m", "turnout.cli.main", "why", production]
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=True)
        return "\n".join(done.stdout.splitlines()[:PAGE_LINES])

    def start_reporter(self) -> Reporter:
        """What callers report with: a token that can do nothing else."""
        token = self.turnout("tokens", "create", "callers", "--role", "reporter")["token"]
        return Reporter(f"http://127.0.0.1:{self.api_port}", token)

    # --- steps

    def release(self, version: str, *, expect: int = 0) -> str:
        """Build and deploy to dev. Returns the digest."""
        deployment = self.turnout("deploy", str(self.agent), "--tag", version, expect=expect)
        self.note(f"{version} dev", deployment)
        self.versions[deployment["digest"]] = version
        return str(deployment["digest"])

    def to_production(self, version: str) -> bool:
        """Promote to staging, then with an approval through the canary to production."""
        staging = self.turnout("promote", AGENT, "--to", "staging")
        self.note(f"{version} staging", staging)
        production = self.turnout("promote", AGENT, "--to", "production")
        self.turnout("approve", AGENT, "--ring", "production", token=self.approver)
        for event in self.client.follow_deployment(production["id"]):
            if event.name == "rollout.stepped":
                print(f"    canary step {event.data['data']['step']}: {event.data['data']['weight']:g} %")
        settled = self.client.deployment(production["id"])
        self.note(f"{version} production", dict(settled))
        return staging["state"] == "active" and settled["state"] == "active"

    def watch(self, callers: Callers, digest: str) -> bool:
        """Do what somebody on call does: look at the answers until they are bad."""
        deadline = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < deadline:
            recent = [item for item in callers.served()[-100:] if item.release == digest]
            if sum(not item.good for item in recent) >= 20:
                print("    20 of the last 100 answers cite nothing")
                return True
            time.sleep(0.1)
        return False

    def roll_back(self) -> bool:
        began = time.monotonic()
        rollback = self.turnout("rollback", AGENT, "--ring", "production", "--reason", "answers cite nothing")
        self.command_seconds = time.monotonic() - began
        self.note("rollback", rollback)
        events = self.client.events(agent=AGENT, ring="production", newest_first=True)["events"]
        changed = next(event for event in events if event["type"] == "pointer.changed")
        self.flipped_at = datetime.fromisoformat(changed["at"]).timestamp()
        return bool(rollback["state"] == "active")

    # --- looking

    def stable(self) -> str | None:
        """The digest that production's pointer names."""
        return next(ring["stable"] for ring in self.client.agent(AGENT)["rings"] if ring["ring"] == "production")

    def active_nowhere(self, digest: str) -> bool:
        """Whether a release never was active: no deployment of it reached the state, no pointer names it."""
        states = {
            transition["to"]
            for item in self.client.deployments(AGENT, None, 100)["deployments"]
            if item["digest"] == digest
            for transition in self.client.deployment(item["id"]).get("transitions", [])
        }
        named = {ring[key] for ring in self.client.agent(AGENT)["rings"] for key in ("stable", "candidate")}
        return "active" not in states and digest not in named

    def same_digests(self, *digests: str) -> bool:
        """Whether each release had one digest in all three rings."""
        found = self.client.deployments(AGENT, None, 100)["deployments"]
        return all(
            {item["ring"] for item in found if item["digest"] == digest} == {"dev", "staging", "production"}
            for digest in digests
        )

    def report(self, observed: dict[str, bool], seconds: float) -> None:
        """What happened, for a person."""
        print("\n=== states walked ===")
        for what, deployment in self.deployments:
            walked = [item["to"] for item in self.client.deployment(deployment).get("transitions", [])]
            print(f"  {what:<14} {' → '.join(walked)}")
        print("\n=== requests served in production ===")
        requests = Counter(item.release for item in self.served)
        bad = Counter(item.release for item in self.served if not item.good)
        print(f"  {'release':<10}{'requests':>9}{'bad answers':>13}")
        for digest, version in self.versions.items():
            print(f"  {version:<10}{requests[digest]:>9}{bad[digest]:>13}")
        failed = sum(item.status != 200 for item in self.served)
        print(f"  {'total':<10}{len(self.served):>9}{sum(bad.values()):>13}     failed requests: {failed}")
        back = [item.ended for item in self.served if item.began >= self.flipped_at and item.status == 200]
        flip = (min(back) - self.flipped_at) * 1000 if back else float("nan")
        print("\n=== rollback ===")
        print(f"  pointer committed → first answer of a request begun after it: {flip:.1f} ms")
        print(f"  turnout rollback, the whole command: {self.command_seconds * 1000:.0f} ms")
        print("\n=== decided by what became of tasks ===")
        print(f"  {'release':<10}{'became':>12}{'its tasks':>11}{'seconds':>9}")
        for version, became, tasks, took in self.decisions:
            print(f"  {version:<10}{became:>12}{tasks:>11}{took:>9.1f}")
        print("\n=== observed ===")
        for what, seen in observed.items():
            print(f"  {'yes' if seen else 'NO ':<4} {what}")
        print(f"\n{'all observed' if all(observed.values()) else 'NOT all observed'} in {seconds:.0f} s")

    # --- the command line

    def turnout(self, *arguments: str, expect: int = 0, token: str | None = None) -> Any:
        """Run a verb with --json against this instance; fails unless it exits with `expect`."""
        env = {**os.environ, "TURNOUT_STATE": str(self.state)}
        if token is not None:
            server = f"http://127.0.0.1:{self.api_port}"
            env |= {"TURNOUT_STATE": "/nonexistent", "TURNOUT_SERVER": server, "TURNOUT_TOKEN": token}
        command = [sys.executable, "-m", "turnout.cli.main", *arguments, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, check=False)
        if done.returncode != expect:
            raise SystemExit(f"turnout {' '.join(arguments)} → exit {done.returncode}\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def edit(self, file: str, old: str, new: str) -> None:
        """Change one place of the agent's folder, as its author would."""
        path = self.agent / file
        text = path.read_text()
        if old not in text:
            raise SystemExit(f"{file} of the sample agent does not hold {old!r}")
        path.write_text(text.replace(old, new, 1))

    def note(self, what: str, deployment: dict[str, Any]) -> None:
        """Remember a deployment for the report."""
        self.deployments.append((what, deployment["id"]))
        print(f"    {what}: {deployment['state']}")


@contextmanager
def demonstration(folder: Path) -> Iterator[Demonstration]:
    """A demonstration whose processes are ended when the block is left."""
    demo = Demonstration(folder)
    try:
        yield demo
    finally:
        if (demo.state / "instance.json").exists():
            demo.turnout("down", "--grace", "2")


def free_ports(count: int) -> list[int]:
    """Loopback ports that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    ports = [int(item.getsockname()[1]) for item in sockets]
    for item in sockets:
        item.close()
    return ports


def say(text: str) -> None:
    """A headline of the story."""
    print(f"[{time.monotonic() - STARTED:5.1f} s] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
