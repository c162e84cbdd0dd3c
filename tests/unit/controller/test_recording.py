"""Tasks → recordings: which, when, once, through crashes; and what is forgotten."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.controller.stage import Stage, staged
from tests.unit.domain.values import AGENT, make_release
from tests.unit.gateway.calls import model_call, tool_call
from turnout.controller.recording import CURSOR, LONGEST_TASK, Recorder
from turnout.domain.errors import Conflict, NotFound, StorageFull
from turnout.domain.models import Arm, Capture, Digest, Pointer, Record, Release, RingSettings, Task
from turnout.domain.outcomes import Outcome, Source
from turnout.domain.recording_document import parse_recording
from turnout.domain.recordings import Recording
from turnout.ports import RecordingQuery, StoredRecording
from turnout.recordings.fake import MemoryRecordings

SETTLE = 60.0
RINGS = (RingSettings("dev"), RingSettings("production", record=Record(keep=1_000.0)))
ONE, TWO = (make_release(name, rings=RINGS) for name in ("v1", "v2"))
SMALL = make_release("v3", rings=(RingSettings("production", record=Record(share=0.2)),))
SECRET = make_release("v5", rings=(RingSettings("production", capture=Capture(100, ("[0-9]{4}",)), record=Record()),))
SHOWING = make_release("v4", rings=(RingSettings("production", capture=Capture(100)),))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path, (ONE, TWO, SMALL, SHOWING, SECRET)) as stage:
        point(stage, ONE)
        yield stage


@pytest.fixture
def documents() -> MemoryRecordings:
    return MemoryRecordings()


@pytest.fixture
def recorder(stage: Stage, documents: MemoryRecordings) -> Recorder:
    made = Recorder(stage.store, documents, stage.clock, SETTLE)
    made.look()  # tasks from before are not recorded
    stage.clock.at += SETTLE + 1
    return made


def point(stage: Stage, release: Release) -> None:
    with stage.store.transaction() as transaction:
        transaction.save_pointer(Pointer(AGENT, "production", release.digest), actor="ann", reason="")


def add(
    stage: Stage, task: str, *, request: str = "", ago: float = 70.0, release: Release = ONE, **changes: Any
) -> None:
    values: dict[str, Any] = {"ring": "production", "duration": 1.0, "method": "POST", "path": "/chat"}
    values |= {"bytes_in": 2, "bytes_out": 2, "question": b"{}", "answer": b"ok"}
    values |= changes
    at = stage.clock.at - ago
    given = Task(
        request or f"r-{task}",
        task,
        AGENT,
        values.pop("ring"),
        release.digest,
        at,
        values.pop("duration"),
        200,
        **values,
    )
    with stage.store.transaction() as transaction:
        transaction.add_tasks([given], {}, "1:1")


def recorded(stage: Stage) -> list[StoredRecording]:
    with stage.store.snapshot() as snapshot:
        return list(snapshot.recordings(RecordingQuery()))


def names(stage: Stage) -> list[str]:
    return sorted(item.task for item in recorded(stage))


def read(documents: MemoryRecordings, item: StoredRecording) -> Recording:
    return parse_recording(documents.read(item.digest))


def test_a_task_is_recorded_with_its_calls_and_outcome(
    stage: Stage, recorder: Recorder, documents: MemoryRecordings
) -> None:
    add(stage, "t1")
    here = {"agent": AGENT, "ring": "production", "release": ONE.digest, "task": "t1"}
    with stage.store.transaction() as transaction:
        transaction.add_calls([tool_call("a", **here), model_call("b", **here, nanos=5, prices="p")], "calls/x", "1:1")
        transaction.add_outcomes([Outcome("t1", Source.REPORT, stage.clock.at, failed=True)])
    assert recorder.look() == 1
    (item,) = recorded(stage)
    recording = read(documents, item)
    assert (item.agent, item.ring, item.task, item.release) == (AGENT, "production", "t1", ONE.digest)
    assert (item.at, item.kept_until, item.size) == (
        recording.at,
        stage.clock.at + 1_000.0,
        len(documents.read(item.digest)),
    )
    assert (recording.version, recording.failed, recording.cost) == ("v1", True, 5e-9)
    assert [len(part) for part in (recording.requests, recording.tools, recording.models)] == [1, 1, 1]
    assert recording.requests[0].body == b"{}"


def test_a_task_is_recorded_once(stage: Stage, recorder: Recorder, documents: MemoryRecordings) -> None:
    add(stage, "t1")
    add(stage, "t1", request="second", ago=65.0)
    assert [recorder.look(), recorder.look()] == [1, 0]
    assert len(read(documents, recorded(stage)[0]).requests) == 2
    again = Recorder(stage.store, documents, stage.clock, SETTLE)
    assert again.look() == 0
    assert len(documents.contents) == 1


def test_a_task_has_to_be_over_for_a_while(stage: Stage, recorder: Recorder) -> None:
    add(stage, "long", duration=None)
    add(stage, "conversation")
    add(stage, "conversation", request="second", ago=30.0)
    assert recorder.look() == 0
    stage.clock.at += 40.0
    assert recorder.look() == 1
    assert names(stage) == ["conversation"]
    with stage.store.snapshot() as snapshot:
        assert float(snapshot.cursor(CURSOR) or 0) == stage.clock.at - 110.0, (
            "a server after this one looks from there on"
        )
    add(stage, "long", ago=110.0, duration=55.0)
    assert Recorder(stage.store, MemoryRecordings(), stage.clock, SETTLE).look() == 0
    stage.clock.at += 10.0
    assert recorder.look() == 1
    assert names(stage) == ["conversation", "long"]


def test_a_task_that_never_ends_is_waited_for_no_longer_than_a_day(stage: Stage, recorder: Recorder) -> None:
    add(stage, "endless", duration=None)
    recorder.look()
    stage.clock.at += LONGEST_TASK + SETTLE
    recorder.look()
    with stage.store.snapshot() as snapshot:
        assert float(snapshot.cursor(CURSOR) or 0) == stage.clock.at - SETTLE


def test_what_is_not_read_yet_is_not_passed_over(stage: Stage, documents: MemoryRecordings) -> None:
    read_up_to = -math.inf
    made = Recorder(stage.store, documents, stage.clock, SETTLE, lambda: read_up_to)
    assert made.look() == 0
    read_up_to = stage.clock.at
    made.look()
    stage.clock.at += 500.0
    assert made.look() == 0
    add(stage, "late", ago=400.0)  # taken in only now
    read_up_to = stage.clock.at
    assert made.look() == 1


def test_only_what_the_stable_release_answered_is_recorded(stage: Stage, recorder: Recorder) -> None:
    add(stage, "canary", release=TWO, arm=Arm.CANDIDATE, rollout="d", probability=0.1)
    add(stage, "stable", arm=Arm.STABLE, rollout="d", probability=0.1)
    add(stage, "pinned", pinned=True)
    add(stage, "both")
    add(stage, "both", request="second", release=TWO)
    add(stage, "elsewhere", ring="dev")
    add(stage, "silent", release=SHOWING)
    recorder.look()
    assert names(stage) == ["stable"]


def test_the_sample_decides_by_the_task(stage: Stage, recorder: Recorder) -> None:
    point(stage, SMALL)
    for number in range(60):
        add(stage, f"task-{number}", release=SMALL)
    done = recorder.look()
    assert 2 <= done <= 25
    assert done == len(recorded(stage))


def test_a_crash_between_document_and_row_loses_and_doubles_nothing(
    stage: Stage, recorder: Recorder, documents: MemoryRecordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(stage, "t1")
    add(stage, "t2")

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("turnout.db.recordings.RecordingWrites.add_recording", crash)
        with pytest.raises(KeyboardInterrupt):
            recorder.look()
    assert (len(documents.contents), recorded(stage)) == (2, [])
    add(stage, "t1", request="third")  # its document is another one now
    after = Recorder(stage.store, documents, stage.clock, SETTLE)
    assert after.look() == 2
    assert names(stage) == ["t1", "t2"]
    assert after.sweep() == 1, "what the crash left of the changed one"
    assert set(documents.contents) == {item.digest for item in recorded(stage)}


def test_a_full_disk_is_told_and_the_task_recorded_later(
    stage: Stage, recorder: Recorder, documents: MemoryRecordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(stage, "t1")

    def full(_: bytes) -> Digest:
        raise StorageFull("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(documents, "put", full)
        with pytest.raises(StorageFull):
            recorder.look()
    assert recorder.look() == 1


def test_a_task_with_too_much_in_it_stops_no_other(
    stage: Stage, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnout.controller.recording.MOST_REQUESTS", 2)
    for number in range(3):
        add(stage, "long", request=f"r{number}", ago=70.0 - number)
    add(stage, "short", ago=65.0)
    assert recorder.look() == 1
    assert names(stage) == ["short"]
    with pytest.raises(Conflict, match="too long"):
        recorder.keep(AGENT, "long", None, "ann")


def test_what_is_kept_no_longer_goes_with_its_document(
    stage: Stage, recorder: Recorder, documents: MemoryRecordings
) -> None:
    add(stage, "t1")
    recorder.look()
    assert recorder.sweep() == 0
    stage.clock.at += 1_000.0
    add(stage, "t2")
    recorder.look()
    assert recorder.sweep() == 1
    assert names(stage) == ["t2"]
    assert len(documents.contents) == 1


def test_somebody_keeps_a_task_whatever_the_sample_and_the_release(
    stage: Stage, recorder: Recorder, documents: MemoryRecordings
) -> None:
    add(stage, "pinned", pinned=True, release=SHOWING, ago=2.0)
    kept = recorder.keep(AGENT, "pinned", None, "ann")
    assert recorder.keep(AGENT, "pinned", "production", "ann") == kept
    assert read(documents, kept).version == "v4"
    with stage.store.snapshot() as snapshot:
        (event,) = [item.event for item in snapshot.events() if item.event.type.value == "recording.kept"]
    assert (event.actor, event.ring, event.data["task"]) == ("ann", "production", "pinned")
    recorder.forget([kept], "bob")
    assert (recorded(stage), documents.contents) == ([], {})
    with stage.store.snapshot() as snapshot:
        assert snapshot.events(newest_first=True)[0].event.type.value == "recording.deleted"


def test_what_cannot_be_kept_says_why(stage: Stage, recorder: Recorder) -> None:
    add(stage, "running", duration=None)
    add(stage, "both")
    add(stage, "both", request="second", release=TWO)
    with pytest.raises(Conflict, match="under way"):
        recorder.keep(AGENT, "running", None, "ann")
    with pytest.raises(Conflict, match="one release alone"):
        recorder.keep(AGENT, "both", None, "ann")
    with pytest.raises(NotFound, match="no task 'unknown' in dev"):
        recorder.keep(AGENT, "unknown", "dev", "ann")
    with pytest.raises(NotFound):
        recorder.keep(AGENT, "r-both", None, "ann")


def test_a_document_of_two_recordings_stays_with_the_other(
    stage: Stage, recorder: Recorder, documents: MemoryRecordings
) -> None:
    add(stage, "t1")
    recorder.look()
    (first,) = recorded(stage)
    with stage.store.transaction() as transaction:
        transaction.add_recording(replace(first, task="t2"))
    recorder.forget([first], "ann")
    assert set(documents.contents) == {first.digest}


def test_what_was_deleted_is_not_recorded_again_after_a_restart(
    stage: Stage, documents: MemoryRecordings, recorder: Recorder
) -> None:
    add(stage, "long", ago=70.0, duration=None)  # holds up the place from which a restart looks again
    add(stage, "private", ago=69.0)
    stage.clock.at += 200
    assert recorder.look() == 1

    recorder.forget(recorded(stage), "ann")
    again = Recorder(stage.store, documents, stage.clock, SETTLE)

    assert (recorder.look(), again.look(), names(stage), documents.digests()) == (0, 0, [], ())


def test_patterns_are_applied_to_paths_and_errors_too(
    stage: Stage, documents: MemoryRecordings, recorder: Recorder
) -> None:
    point(stage, SECRET)
    add(stage, "t1", release=SECRET, path="/card/1234?page=1")
    here = {"agent": AGENT, "ring": "production", "release": SECRET.digest, "task": "t1"}
    with stage.store.transaction() as transaction:
        transaction.add_calls([tool_call("a", **here, error="no card 1234")], "calls/x", "1:1")

    assert recorder.look() == 1
    kept = read(documents, recorded(stage)[0])
    assert [item.path for item in kept.requests] == ["/card/[redacted]?page=1"]
    assert [item.error for item in kept.tools] == ["no card [redacted]"]
