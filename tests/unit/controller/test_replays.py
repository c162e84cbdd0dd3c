"""A ring that asks for a replay: when it is made, what becomes of it, and what a restart of the server changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.live import wait_until
from tests.unit.controller.stage import Stage, staged
from tests.unit.domain.values import AGENT, make_digest, make_release
from turnout.domain.models import Deployment, ReplaySettings, RingSettings
from turnout.domain.phases import Phase
from turnout.domain.replays import Came, KeptReplay, TaskDiff, summarise

ASKED = ReplaySettings("production", changed=0.5)
ONE = make_release("v1", rings=(RingSettings("dev", replay=ASKED, approvals=1), RingSettings("production")))


def _set_event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


@dataclass
class Replays:
    """Keeps what a replay finds, or has a fault."""

    stages: list[Stage] = field(default_factory=list)
    fault: str | None = None
    changed: int = 0
    made: int = 0
    go: threading.Event = field(default_factory=_set_event)  # cleared, it is held up

    def __call__(self, deployment: Deployment, asked: ReplaySettings, say: Callable[[str], None]) -> str | None:
        assert asked == ASKED
        say("replayed 1 of 10 recorded tasks")
        self.made += 1
        self.go.wait(30.0)
        if self.fault is not None:
            return self.fault
        came = [Came.CHANGED] * self.changed + [Came.SAME] * (10 - self.changed)
        summary = summarise([TaskDiff(f"t{number}", verdict) for number, verdict in enumerate(came)])
        kept = KeptReplay(
            f"replay_{self.made}", AGENT, "production", ONE.digest, ONE.digest, 1.0, "turnout", deployment.id, summary,
            make_digest("report"),
        )  # fmt: skip
        with self.stages[0].store.transaction() as transaction:
            transaction.add_replay(kept, b"{}")
        return None


def deploy(folder: Path, replays: Replays) -> tuple[Stage, str]:
    with staged(folder, (ONE,)) as stage:
        replays.stages.append(stage)
        server = stage.another_server("one", replay=replays)
        return server, server.deploy(ONE)


def phase(stage: Stage, deployment: str) -> tuple[Phase, str]:
    with stage.store.snapshot() as snapshot:
        found = snapshot.deployment(deployment)
    assert found is not None
    return found.phase, found.condition.type if found.condition else ""


def test_a_replay_that_holds_is_made_once_and_then_approvals_are_waited_for(tmp_path: Path) -> None:
    replays = Replays()
    stage, deployment = deploy(tmp_path, replays)
    assert phase(stage, deployment) == (Phase.BUILDING, "awaiting_approval")

    again = stage.another_server("one", replay=replays)
    again.look()
    assert (phase(again, deployment), replays.made) == ((Phase.BUILDING, "awaiting_approval"), 1)
    again.approve("dev")
    again.look()
    assert phase(again, deployment)[0] is Phase.ACTIVE


@pytest.mark.parametrize(
    "replays",
    [Replays(fault="no recording of production can be replayed"), Replays(changed=5)],
    ids=["fault", "changed"],
)
def test_a_replay_that_does_not_hold_fails_the_deployment(tmp_path: Path, replays: Replays) -> None:
    stage, deployment = deploy(tmp_path, replays)

    assert phase(stage, deployment)[0] is Phase.FAILED


def test_a_restart_in_the_middle_begins_again_and_progress_is_shown(tmp_path: Path) -> None:
    held = Replays(go=threading.Event())
    with staged(tmp_path, (ONE,)) as stage:
        first = stage.another_server("one", replay=held)
        deployment = first.deploy(ONE, look=False)
        wait_until(lambda: bool(first.reconciler.reconcile(AGENT, "dev")) and held.made == 1, 10)
        first.reconciler.reconcile(AGENT, "dev")
        with stage.store.snapshot() as snapshot:
            found = snapshot.deployment(deployment)
        assert found is not None
        assert found.condition is not None
        assert (found.condition.type, found.condition.message) == ("replaying", "replayed 1 of 10 recorded tasks")

        replays = Replays([stage])
        second = stage.another_server("one", replay=replays)
        second.look()
        assert (phase(second, deployment), replays.made) == ((Phase.BUILDING, "awaiting_approval"), 1)
        held.fault = "the server is gone"
        held.go.set()
        first.jobs.wait()
