"""Agents that do not work: each deployment ends with the reason, and the release that serves goes on serving."""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.callers import SteadyCaller, ask
from tests.e2e.tiny_agent import write_agent
from tests.e2e.workshop import await_ring, deploy, push_tiny
from tests.live import LiveInstance

BEHAVIOURS = ("sick", "exit", "hang", "flood")
LOG_LIMIT = 3 * (10 << 20)  # files × bytes that are kept of what a replica prints


@dataclass(frozen=True)
class Outcome:
    """What `turnout deploy` of the second release said, and who had served meanwhile."""

    ended: subprocess.CompletedProcess[str]
    first: str
    caller: SteadyCaller


@pytest.fixture(scope="module")
def outcomes(instance: LiveInstance, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Every kind of bad agent, deployed at the same time over a good one of its own. What does not install is `lock`."""
    kinds = (*BEHAVIOURS, "lock")
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in kinds}
    first = {}
    for kind, folder in folders.items():
        first[kind] = deploy(instance, kind, push_tiny(instance, folder, agent=kind, smoke=True))["digest"]
        behaviour = "" if kind == "lock" else kind
        lock = "--no-index\nno-such-package==1.0\n" if kind == "lock" else None
        patience = "6s" if kind == "sick" else "60s"  # only the sick one needs all of it
        write_agent(folder, "two", agent=kind, behaviour=behaviour, smoke=True, start_timeout=patience, lock=lock)
    with ExitStack() as stack, ThreadPoolExecutor(len(kinds)) as pool:
        callers = {kind: stack.enter_context(SteadyCaller(instance, f"/{kind}/dev/", pause=0.1)) for kind in kinds}
        ended = pool.map(lambda kind: instance.run("deploy", str(folders[kind]), check=False), kinds)
        return {kind: Outcome(end, first[kind], callers[kind]) for kind, end in zip(kinds, ended, strict=True)}


@pytest.mark.parametrize(
    ("kind", "state", "reason"),
    [
        ("sick", "failed", "not ready within 6 s: replica 0: GET /ping answered 503"),
        ("exit", "failed", "replica 0 keeps ending: exit code 1 after 4 starts"),
        ("exit", "failed", "the index of this agent is missing"),
        ("hang", "rolled_back", "smoke task 'answers': GET /smoke was not answered within 1 s"),
        ("lock", "failed", "no-such-package"),
        ("lock", "failed", "the environment could not be built"),
    ],
)
def test_a_bad_agent_fails_with_the_reason_while_the_good_one_serves(
    instance: LiveInstance, outcomes: dict[str, Outcome], kind: str, state: str, reason: str
) -> None:
    outcome = outcomes[kind]
    assert outcome.ended.returncode == 8
    assert reason in outcome.ended.stdout
    assert f"{kind} v2 in dev: {state}" in outcome.ended.stdout
    outcome.caller.check()
    assert outcome.caller.releases.keys() == {outcome.first}
    ring = await_ring(instance, kind, "dev", lambda ring: len(ring["replicas"]) == 1)
    assert (ring["stable"], ring["replicas"][0]["digest"]) == (outcome.first, outcome.first)


def test_an_agent_that_floods_its_log_is_deployed_and_its_log_is_bounded(
    instance: LiveInstance, outcomes: dict[str, Outcome]
) -> None:
    outcome = outcomes["flood"]
    assert outcome.ended.returncode == 0, outcome.ended
    outcome.caller.check()
    digest = str(instance.ring("flood", "dev")["stable"])
    folder = instance.state / "runtime" / "replicas" / f"flood.dev.{digest.removeprefix('sha256:')[:12]}.0"
    sizes = [path.stat().st_size for path in folder.glob("agent.log*")]
    assert LOG_LIMIT / 2 < sum(sizes) <= LOG_LIMIT
    shown = instance.run("logs", "flood", "--ring", "dev", "-n", "5").stdout.splitlines()
    assert "xxx" in shown[-1]


def test_a_replica_that_is_killed_is_started_again_later_every_time(instance: LiveInstance, tmp_path: Path) -> None:
    deploy(instance, "killed", push_tiny(instance, tmp_path, agent="killed", rings="[rings.dev]\nreplicas = 2\n"))
    pids = {ask(instance, "/killed/dev/").fields["pid"] for _ in range(20)}
    assert len(pids) == 2
    victim = min(pids)
    with SteadyCaller(instance, "/killed/dev/") as caller:
        for restarts in (1, 2):
            with caller.between:
                process = psutil.Process(victim)
                process.kill()
                process.wait(10)
                time.sleep(0.1)  # until the proxy has read of the end; a request right then would be lost with it
            ring = await_ring(instance, "killed", "dev", partial(_was_restarted, times=restarts))
            assert len(ring["replicas"]) == 2
            new = {ask(instance, "/killed/dev/").fields["pid"] for _ in range(20)} - pids
            (victim,) = new
            pids |= new
        caller.check()


def _was_restarted(ring: Any, *, times: int) -> bool:
    """Whether one replica of a ring is ready after so many restarts."""
    return [(item["restarts"], item["state"]) for item in ring["replicas"]].count((times, "ready")) == 1
