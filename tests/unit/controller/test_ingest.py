"""The proxy's access log → tasks, exactly once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.controller.stage import Stage, staged
from tests.unit.domain.values import AGENT, make_release
from turnout.controller.ingest import FLUSHED_AFTER, Ingest
from turnout.domain.models import Capture, RingSettings, Task
from turnout.ports import AccessLogChunk, TaskQuery
from turnout.redaction import Redactor

ONE = make_release("v1", rings=(RingSettings("dev"),))


class ListLog:
    """An access log of lines that name a request and a ring."""

    def __init__(self, *lines: str, batch: int = 2) -> None:
        self.lines = list(lines)
        self.batch = batch
        self.rotations = 0
        self.written_meanwhile: list[str] = []  # after each look at it

    def read(self, cursor: str | None, limit: int = 5_000) -> AccessLogChunk:
        start = int(cursor or 0)
        lines = tuple(line.encode() for line in self.lines[start : start + self.batch])
        ended = start + len(lines) == len(self.lines)
        self.lines += self.written_meanwhile
        return AccessLogChunk(lines, str(start + len(lines)) if lines or cursor is None else str(cursor), ended)

    def rotate(self) -> bool:
        self.rotations += 1
        return False


def parse(line: bytes) -> Task | None:
    if line == b"damaged":
        raise ValueError("damaged")
    if line == b"stray":
        return None
    request, ring = line.decode().split()
    return Task(request, request, AGENT, ring, ONE.digest, 1.0, 0.1, 200)


def take_in(stage: Stage, log: ListLog, parse: Callable[[bytes], Task | None] = parse) -> set[tuple[str, str]]:
    return Ingest(stage.store, log, parse, Redactor().redact).take_in()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path, (ONE,)) as stage:
        yield stage


def counted(stage: Stage) -> dict[str, int]:
    with stage.store.snapshot() as snapshot:
        return {ring: total for (ring, _), (total, _) in snapshot.task_counts(AGENT).items()}


def test_everything_is_taken_in_in_batches_and_the_rings_are_told(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    log = ListLog("r1 dev", "r2 dev", "damaged", "r3 production", "stray", "", "r4 dev")
    assert take_in(stage, log) == {(AGENT, "dev"), (AGENT, "production")}
    assert counted(stage) == {"dev": 3, "production": 1}
    assert log.rotations == 1
    assert [record.getMessage() for record in caplog.records] == [
        "damaged lines of the access log: 1; as many requests may be missing in the records"
    ]


def test_what_a_ring_calls_secret_is_in_no_path(tmp_path: Path) -> None:
    rings = (RingSettings("dev", capture=Capture(redact=("sk-[a-z]+",))),)
    release = make_release("v9", rings=rings)
    task = Task("r1", "r1", AGENT, "dev", release.digest, 1.0, 0.1, 200, path="/reset/sk-abc/é")
    with staged(tmp_path, (release,)) as stage:
        Ingest(stage.store, ListLog("x"), lambda _: task, Redactor().redact).take_in()
        with stage.store.snapshot() as snapshot:
            (kept,) = snapshot.tasks(TaskQuery(agent=AGENT))
    assert kept.path == "/reset/[redacted]/é"


def test_a_log_that_grows_all_the_time_holds_nobody_up(stage: Stage) -> None:
    log = ListLog("r1 dev", "r2 dev", "r3 dev", batch=4)
    log.written_meanwhile = ["r4 production"]
    assert take_in(stage, log) == {(AGENT, "dev")}
    assert log.rotations == 1
    assert take_in(stage, log) == {(AGENT, "production")}


def test_a_log_that_cannot_be_read_just_now_is_left_for_the_next_pass(stage: Stage) -> None:
    log = ListLog("r1 dev", batch=0)
    ingest = Ingest(stage.store, log, parse, Redactor().redact, stage.clock)
    assert ingest.take_in() == set()
    assert (ingest.read_up_to, log.rotations) == (-math.inf, 0)
    log.batch = 2
    assert ingest.take_in() == {(AGENT, "dev")}
    assert ingest.read_up_to == stage.clock.now() - FLUSHED_AFTER


def test_what_was_taken_in_is_not_taken_in_again(stage: Stage) -> None:
    log = ListLog("r1 dev", "r2 dev")
    take_in(stage, log)
    log.lines.append("r3 dev")
    assert take_in(stage, log) == {(AGENT, "dev")}
    assert take_in(stage, log) == set()
    assert counted(stage) == {"dev": 3}


def test_a_log_that_is_read_from_its_beginning_again_counts_nothing_twice(stage: Stage) -> None:
    log = ListLog("r1 dev", "r2 dev")
    take_in(stage, log)
    with stage.store.transaction() as transaction:
        transaction.add_tasks([], {}, "0")
    take_in(stage, log)
    assert counted(stage) == {"dev": 2}


def test_a_crash_between_two_batches_loses_and_doubles_nothing(stage: Stage) -> None:
    log = ListLog("r1 dev", "r2 dev", "r3 dev", "r4 dev")
    batches: list[bytes] = []

    def parse_until_killed(line: bytes) -> Task | None:
        batches.append(line)
        if len(batches) == 4:
            raise KeyboardInterrupt
        return parse(line)

    with pytest.raises(KeyboardInterrupt):
        take_in(stage, log, parse_until_killed)
    assert counted(stage) == {"dev": 2}
    take_in(stage, log)
    assert counted(stage) == {"dev": 4}
