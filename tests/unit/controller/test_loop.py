"""The controller's threads: everything above, without anybody who calls."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.live import wait_until
from tests.unit.controller.stage import Stage, replica_of, staged
from tests.unit.controller.test_ingest import ListLog, counted, parse
from tests.unit.domain.values import AGENT, make_release
from turnout.controller.ingest import Ingest
from turnout.controller.loop import Controller
from turnout.controller.reconcile import Parts
from turnout.domain.errors import StorageFull
from turnout.domain.models import CanaryStep, ReplicaSpec, RingSettings
from turnout.ports import AccessLogChunk
from turnout.redaction import Redactor

ONE = make_release("v1", rings=(RingSettings("dev"), RingSettings("staging")))
TWO = make_release("v2", rings=(RingSettings("dev", canary=(CanaryStep(1_000, tasks=2),)), RingSettings("staging")))
PATIENCE = 30.0


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path, (ONE, TWO)) as stage:
        yield stage


@contextmanager
def controlling(stage: Stage, log: ListLog | None = None) -> Iterator[Controller]:
    """A started controller on a stage."""
    parts = Parts(stage.store, stage.runtime, stage.router, stage.prober, stage.clock, stage.holder)
    controller = Controller(parts, Ingest(stage.store, log or ListLog(), parse, Redactor().redact))
    controller.start()
    try:
        yield controller
    finally:
        controller.stop()


def test_what_is_asked_for_is_done_when_the_ring_is_woken(stage: Stage) -> None:
    with controlling(stage) as controller:
        name = stage.deploy(ONE, look=False)
        controller.wake(AGENT, "dev")
        wait_until(lambda: stage.state(name) == "active", PATIENCE, lambda: stage.state(name))
        assert stage.answers() == (200, ONE.digest)


def test_what_was_asked_for_while_nobody_worked_is_done_at_the_start(stage: Stage) -> None:
    name = stage.deploy(ONE, look=False)
    with controlling(stage):
        wait_until(lambda: stage.state(name) == "active", PATIENCE, lambda: stage.state(name))


def test_callers_that_are_served_bring_a_canary_on(stage: Stage) -> None:
    stage.deploy(ONE)
    name = stage.deploy(TWO)
    assert stage.state(name) == "validating: canary"
    log = ListLog()
    with controlling(stage, log):
        stage.serve(TWO, ["a", "b"])
        log.lines.append("r1 dev")
        wait_until(lambda: stage.state(name) == "active", PATIENCE, lambda: stage.state(name))


def test_a_fault_of_ours_in_one_ring_does_not_hold_up_another(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.deploy(ONE)
    promoted = stage.promote("dev", "staging", look=False)
    stage.runtime.exit(replica_of(ONE), 1)
    stage.clock.at += 1.0
    start, faults = stage.runtime.start, []

    def start_elsewhere(replica: ReplicaSpec) -> None:
        if replica.ring == "dev":
            faults.append(replica.id)
            raise ZeroDivisionError
        start(replica)

    monkeypatch.setattr(stage.runtime, "start", start_elsewhere)
    with controlling(stage):
        wait_until(lambda: stage.state(promoted) == "active", PATIENCE, lambda: stage.state(promoted))
        wait_until(lambda: bool(faults), PATIENCE)


def test_a_log_that_cannot_be_read_is_tried_again(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    tries: list[int] = []

    class FailingOnce(ListLog):
        def read(self, cursor: str | None, limit: int = 5_000) -> AccessLogChunk:
            tries.append(1)
            if len(tries) == 1:
                raise StorageFull("the disk is full")
            return super().read(cursor, limit)

    with controlling(stage, FailingOnce("r1 dev")):
        wait_until(lambda: counted(stage) == {"dev": 1}, PATIENCE)
    assert "the disk is full" in caplog.text


def test_it_leaves_everything_running_when_it_ends(stage: Stage) -> None:
    stage.deploy(ONE)
    with controlling(stage) as controller:
        pass
    controller.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("controller-")]
    assert stage.running() == [replica_of(ONE)]
    assert stage.answers() == (200, ONE.digest)
