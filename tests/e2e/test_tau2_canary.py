"""A canary of the tau2 agent, on the tasks of tau2: one that errs is taken back, and callers go on with the stable one."""

from __future__ import annotations

import itertools
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.workshop import await_state, deploy, push_agent
from tests.live import LiveInstance, live_instance, wait_until
from tests.tau2_world import Tau2Server, tau2_server, tau2_tasks, write_tau2_agent

RINGS = """
[rings.dev]
canary = [{ weight = 50 }]

[rings.dev.judge]
ramp = "evidence"
ages = ["1s", "2s", "4s"]
limit = "1h"
"""


@dataclass
class World:
    instance: LiveInstance
    server: Tau2Server

    def do(self, task: str) -> str:
        """Let whatever the ring routes to do a task: the release that answered."""
        body = json.dumps({"task": task}).encode()
        url = f"{self.instance.traffic}/tau2/dev/invocations"
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:
            assert json.load(answer)["done"]
            return str(answer.headers["x-turnout-release"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    state = tmp_path_factory.mktemp("tau2-canary")
    with tau2_server() as server:
        (state / "gateway.toml").write_text(server.config())
        with live_instance(state) as instance:
            yield World(instance, server)


def test_a_release_that_errs_on_tau2_is_taken_back_and_the_stable_one_goes_on(world: World, tmp_path: Path) -> None:
    instance = world.instance
    good = push_agent(instance, write_tau2_agent(tmp_path / "agent", rings=RINGS, suite=False))
    deploy(instance, "tau2", good)
    bad = push_agent(instance, write_tau2_agent(tmp_path / "agent", error_rate=0.6, rings=RINGS, suite=False))
    started = instance.client().deploy("tau2", "dev", {"release": bad})
    wait_until(lambda: instance.ring("tau2", "dev")["candidate"] == bad, 30)

    tasks = itertools.cycle(task.id for task in tau2_tasks() if len(task.actions) < 4)
    answered = set()
    for number, task in enumerate(tasks):
        answered.add(world.do(task))
        if number % 5 == 0 and instance.ring("tau2", "dev")["candidate"] is None:
            break
        assert number < 1_000, instance.json("rollout", "status", "tau2", "--ring", "dev")

    await_state(instance, started["id"], {"rolled_back"})
    reason = instance.client().deployment(started["id"])["transitions"][-2]["reason"]
    assert "the judge says fail: failure" in reason
    assert len(answered) == 2
    assert len({world.do(task.id) for task in tau2_tasks()[:5]}) == 1
    assert world.server.counts.document()["writes"] > 0
