"""kill -9 of the server before every effect of a promotion and of a rollback: it goes on by itself, no caller notices."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.callers import SteadyCaller
from tests.e2e.processes import agent_pids
from tests.e2e.workshop import SETTLED, await_condition, deploy, push_tiny
from tests.faults.crashing_server import CRASH_AT, CRASHES
from tests.faults.witness import Witness, find_faults, replay_moves
from tests.live import LiveInstance, live_instance, wait_until
from turnout.client import Client
from turnout.domain.errors import ServerUnreachable

AGENT = "tiny"
RING = "production"
SLOW_RING = "slow"  # its canary waits
RINGS = """[rings.dev]

[rings.production]
approvals = 1
canary = [{ weight = 10 }, { weight = 50 }]
warm = "0s"
drain = "2s"
stop_grace = "2s"

[rings.slow]
canary = [{ weight = 50, time = "1h" }]
warm = "0s"
drain = "2s"
stop_grace = "2s"
"""
FEW = "*5"  # a life that routes anew what is routed, drains two replicas and stops one needs so many
ROLLBACK_EFFECTS = {"Activate", "Move", "ForgetRetired", "BeginDrain", "StopReplica", "proxy files"}
PROMOTION_EFFECTS = {
    *("Move", "Wait", "Prepare", "MarkPrepared", "StartReplica", "RunSmoke", "MarkSmokePassed"),
    *("EnterStep", "Activate", "ForgetRetired", "BeginDrain", "StopReplica"),
    *("answer", "environment", "launch", "smoke tasks", "proxy files"),
}
WITHDRAWAL_EFFECTS = {"Retreat", "Move", "ForgetRetired", "BeginDrain", "StopReplica", "proxy files"}


@pytest.fixture(scope="module")
def crashing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveInstance]:
    """An instance whose server kills itself where a test says, and is started again."""
    server = (sys.executable, "-m", "tests.faults.crashing_server", "up")
    with live_instance(tmp_path_factory.mktemp("crashing"), server=server) as started:
        yield started


@dataclass
class Author:
    """Makes releases of the agent, and deploys what must be there before something crashes."""

    instance: LiveInstance
    folder: Path
    releases: list[str] = field(default_factory=list)

    def push(self) -> str:
        """A new release, approved for the ring."""
        digest = push_tiny(self.instance, self.folder, f"number {len(self.releases)}", rings=RINGS, smoke=True)
        self.releases.append(digest)
        wish = {"approved": True, "release": digest}
        Client(self.instance.api, self._approver).decide(AGENT, RING, wish)
        return digest

    @cached_property
    def _approver(self) -> str:
        return self.instance.client().create_token("bob", "approver")["token"]


@pytest.fixture(scope="module")
def author(crashing: LiveInstance, tmp_path_factory: pytest.TempPathFactory) -> Author:
    """The author of three releases that were active in the ring one after the other."""
    author = Author(crashing, tmp_path_factory.mktemp("agent"))
    for _ in range(3):
        deploy(crashing, AGENT, author.push(), RING, override="the first ones")
    return author


@contextmanager
def watched(instance: LiveInstance, ring: str) -> Iterator[SteadyCaller]:
    """Callers of a ring and a witness; what they saw is checked at the end."""
    with SteadyCaller(instance, f"/{AGENT}/{ring}/") as caller, Witness(instance.state) as witness:
        yield caller
    caller.check()
    assert witness.faults == set()
    assert witness.looks > 0
    assert replay_moves(instance.state / "turnout.db") > 0


def test_a_crash_before_any_effect_of_a_promotion_or_rollback_is_made_good(
    crashing: LiveInstance, author: Author
) -> None:
    promoted: list[str | None] = []
    rolled_back: list[str | None] = []
    with watched(crashing, RING) as caller:
        while None not in promoted:
            number = str(len(promoted) + 1)
            promoted.append(_crash(crashing, number, RING, partial(_promote, crashing, author.push(), RING)))
            if None not in rolled_back:
                rolled_back.append(_crash(crashing, number, RING, partial(_roll_back, crashing, RING)))
        for again in range(1, len(promoted)):  # effects of other threads change places: one may have slipped through
            if set(promoted) >= PROMOTION_EFFECTS:
                break
            promoted.append(_crash(crashing, str(again), RING, partial(_promote, crashing, author.push(), RING)))
    print(f"{len(promoted) - 1} crashes in promotions, {len(rolled_back) - 1} in rollbacks, {caller.served} requests")
    assert set(promoted) >= PROMOTION_EFFECTS
    assert set(rolled_back) >= ROLLBACK_EFFECTS


def test_a_crash_before_any_effect_of_a_canarys_withdrawal_is_made_good(crashing: LiveInstance, author: Author) -> None:
    withdrawn: list[str | None] = []
    stable = deploy(crashing, AGENT, author.releases[0], SLOW_RING, override="the first one")
    with watched(crashing, SLOW_RING) as caller:
        while None not in withdrawn:
            started = _promote(crashing, author.releases[1], SLOW_RING)
            await_condition(crashing, started["id"], "canary")
            order = str(len(withdrawn) + 1)
            take_back = partial(_roll_back, crashing, SLOW_RING)
            withdrawn.append(_crash(crashing, order, SLOW_RING, take_back, final="rolled_back"))
            assert crashing.ring(AGENT, SLOW_RING)["stable"] == stable["digest"]
    print(f"{len(withdrawn) - 1} crashes in the withdrawal of a canary, {caller.served} requests")
    assert set(withdrawn) >= WITHDRAWAL_EFFECTS


def test_a_server_that_lives_for_a_few_effects_at_a_time_still_gets_there(
    crashing: LiveInstance, author: Author
) -> None:
    ring, before = crashing.ring(AGENT, RING), len(_crashes(crashing))
    target = next(digest for digest in author.releases if digest not in (ring["stable"], ring["last_good"]))
    with watched(crashing, RING):
        _crash(crashing, FEW, RING, partial(_roll_back, crashing, RING, target))
    lives = len(_crashes(crashing)) - before
    print(f"a rollback to a cold release took {lives} lives")
    assert lives >= 5
    assert crashing.ring(AGENT, RING)["stable"] == target


def _crash(
    instance: LiveInstance, order: str, ring: str, begin: Callable[[], Any], *, final: str = "active"
) -> str | None:
    """Begin something with a crash ordered, and wait until it is over and the ring is at rest.

    Returns the effect that the (last) crash came before; None when all was over and no crash had come.
    """
    before = len(_crashes(instance))
    (instance.state / CRASH_AT).write_text(order)
    started = _insist(begin)["id"]
    seen: list[Any] = [None]

    def at_rest() -> bool:
        with suppress(ServerUnreachable):
            seen[0] = (instance.client().deployment(started), instance.client().agent(AGENT)["rings"])
            return seen[0][0]["state"] in SETTLED and _are_at_rest(instance, seen[0][1])
        return False

    wait_until(at_rest, 40, lambda: f"{seen[0]}, crashes {_crashes(instance)[before:]}")
    (instance.state / CRASH_AT).unlink(missing_ok=True)
    deployment, rings = seen[0]
    assert deployment["state"] == final, deployment
    (shown,) = (item for item in rings if item["ring"] == ring)
    if final == "active":
        assert (shown["stable"], shown["active_deployment"]) == (deployment["digest"], started)
    assert find_faults(instance.state / "turnout.db") == []
    crashes = _crashes(instance)[before:]
    return crashes[-1] if crashes else None


def _insist(begin: Callable[[], Any]) -> Any:
    """Ask until it is answered: the client itself tries again for a second and a half only."""
    for _ in range(5):
        with suppress(ServerUnreachable):
            return begin()
    return begin()


def _are_at_rest(instance: LiveInstance, rings: list[Any]) -> bool:
    """Only what the pointers name runs: nothing is retired, and there is a process for each replica and no other."""
    named = [
        (ring["ring"], digest, "ready") for ring in rings for digest in (ring["stable"], ring["last_good"]) if digest
    ]
    running = [(ring["ring"], item["digest"], item["state"]) for ring in rings for item in ring["replicas"]]
    retired = [digest for ring in rings for digest in ring["retired"]]
    return not retired and sorted(running) == sorted(named) and len(agent_pids(instance)) == len(running)


def _promote(instance: LiveInstance, digest: str, ring: str) -> Any:
    wish = {"source": "dev", "release": digest, "override": "dev has no part in this"}
    return instance.client().promote(AGENT, ring, wish)


def _roll_back(instance: LiveInstance, ring: str, version: str | None = None) -> Any:
    return instance.client().roll_back(AGENT, ring, {"version": version, "quarantine": False})


def _crashes(instance: LiveInstance) -> list[str]:
    path = instance.state / CRASHES
    return path.read_text().splitlines() if path.exists() else []
