"""The gateway's journals → calls, exactly once; and what somebody has to know of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.controller.stage import FakeClock, Stage, staged
from tests.unit.domain.values import AGENT, make_release
from tests.unit.gateway.calls import model_call, tool_call
from turnout.controller.calls import CallIngest
from turnout.domain.calls import Ended, RouteChange
from turnout.domain.errors import StorageFull
from turnout.domain.models import RingSettings
from turnout.gateway.journal import Journal
from turnout.gateway.journal_files import JournalFiles

ONE = make_release("v1", rings=(RingSettings("dev"),))
HERE = {"agent": AGENT, "ring": "dev", "release": ONE.digest}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path, (ONE,)) as stage:
        yield stage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def ingest(stage: Stage, folder: Path) -> CallIngest:
    return CallIngest(stage.store, JournalFiles(folder), FakeClock())


def ids(stage: Stage) -> list[str]:
    with stage.store.snapshot() as snapshot:
        return [call.id for call in snapshot.calls("task-1")]


def events(stage: Stage, type_: str) -> list[dict[str, Any]]:
    with stage.store.snapshot() as snapshot:
        return [dict(item.event.data) for item in snapshot.events(limit=1_000) if item.event.type.value == type_]


def test_what_several_processes_wrote_is_taken_in_once_and_the_rings_are_told(stage: Stage, folder: Path) -> None:
    first, second = Journal(folder, "model-0"), Journal(folder, "tool-0")
    first.write(model_call("a", at=1.0, **HERE))
    second.write(tool_call("b", at=2.0))
    reader = ingest(stage, folder)
    assert reader.take_in() == {(AGENT, "dev"), ("support", "production")}
    assert reader.read_up_to == stage.clock.at - 1.0
    assert reader.take_in() == set()
    first.write(model_call("c", at=3.0, **HERE))
    assert ingest(stage, folder).take_in() == {(AGENT, "dev")}, "another server goes on from the cursors"
    assert ids(stage) == ["a", "b", "c"]


def test_a_journal_that_cannot_be_read_holds_up_no_other(
    stage: Stage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Journal(folder, "model-0").write(model_call("a"))
    Journal(folder, "model-1").write(model_call("b"))
    read = JournalFiles.read

    def fail(files: JournalFiles, name: str, *rest: Any) -> Any:
        if name == "model-0.jsonl":
            raise PermissionError(13, "Permission denied")
        return read(files, name, *rest)

    monkeypatch.setattr(JournalFiles, "read", fail)
    with pytest.raises(PermissionError):
        ingest(stage, folder).take_in()
    assert ids(stage) == ["b"]


def test_a_route_that_goes_down_and_comes_back_is_told_of_once_whoever_sees_it(stage: Stage, folder: Path) -> None:
    route = "openai/us/gpt-4o"
    journals = [Journal(folder, f"model-{number}") for number in range(2)]
    reader = ingest(stage, folder)
    for journal in journals:
        journal.tell(RouteChange(5.0, route, down=True, why="status 500 of the provider"))
    journals[0].write(model_call("a"))
    reader.take_in()
    for journal in journals:
        journal.tell(RouteChange(9.0, route, down=False))
    reader.take_in()
    told = {"route": route, "journal": "model-0.jsonl"}
    assert events(stage, "route.down") == [{**told, "message": f"{route} fails: status 500 of the provider"}]
    assert events(stage, "route.up") == [{**told, "message": f"{route} answered again"}]
    assert ids(stage) == ["a"]


def test_a_transaction_that_fails_takes_in_nothing_and_the_next_all(
    stage: Stage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Journal(folder, "model-0").write(model_call("a"))
    reader = ingest(stage, folder)

    def full(*_: object) -> None:
        raise StorageFull("the disk is full")

    with monkeypatch.context() as disk:
        disk.setattr(reader, "_tell", full)
        with pytest.raises(StorageFull):
            reader.take_in()
    assert ids(stage) == []
    assert reader.read_up_to > 0, "no judge waits for what cannot be read"
    reader.take_in()
    assert ids(stage) == ["a"]


def test_lines_that_say_nothing_are_passed_over(stage: Stage, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(folder, "model-0")
    journal.write(model_call("a"))
    with (folder / "model-0.jsonl").open("ab") as file:
        file.write(b'{"v":1,"kind\n\n{"v":9,"kind":"model"}\n')
    journal.write(model_call("b"))
    ingest(stage, folder).take_in()
    assert ids(stage) == ["a", "b"]
    assert "2 lines of the journal model-0.jsonl are damaged or of a newer version" in caplog.text


def test_calls_that_were_lost_are_told(stage: Stage, folder: Path) -> None:
    journal = Journal(folder, "model-0")
    for _ in range(2):
        journal.write(model_call(duration=float("nan")))
    journal.close()
    ingest(stage, folder).take_in()
    assert events(stage, "calls.lost") == [{"lost": 2, "journal": "model-0.jsonl"}]


def test_a_tool_that_is_not_what_was_pinned_is_told_once_for_each_description(stage: Stage, folder: Path) -> None:
    journal, reader = Journal(folder, "tool-0"), ingest(stage, folder)

    def refuse(id: str, found: str, **changes: Any) -> None:
        journal.write(tool_call(id, ended=Ended.REFUSED, schema="pin", found=found, **changes))

    refuse("a", "x")
    refuse("b", "x")
    journal.write(tool_call("not-for-its-schema", ended=Ended.REFUSED))
    reader.take_in()
    refuse("c", "x")
    refuse("d", "y")
    refuse("e", "x", tool="other")
    reader.take_in()
    told = events(stage, "tool.refused")
    assert [(item["tool"], item["found"], item["pinned"]) for item in told] == [
        ("search", "x", "pin"),
        ("search", "y", "pin"),
        ("other", "x", "pin"),
    ]
