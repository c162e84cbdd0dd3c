"""The last lines of a ring's logs, and whatever is added: nothing lost, nothing twice, however files are renamed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.controller.stage import ADMIN, Stage, staged
from tests.unit.domain.values import AGENT, make_release
from turnout.domain.errors import NotFound
from turnout.domain.models import RingSettings
from turnout.services.logs import LogTail, open_logs

ONE = make_release("v1", rings=(RingSettings("dev"),))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path, (ONE,)) as stage:
        yield stage


@pytest.fixture
def log(stage: Stage, tmp_path: Path) -> Path:
    path = tmp_path / "replica-0" / "output.log"
    path.parent.mkdir()
    path.write_text("one\ntwo\nthree\n")
    stage.runtime.logs[AGENT, "dev"] = (path,)
    return path


def tail(stage: Stage, lines: int = 2) -> LogTail:
    return open_logs(stage.office, ADMIN, AGENT, "dev", lines)


def read(logs: LogTail) -> list[str]:
    return [line["line"] for line in logs.read()]


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_the_first_look_gives_the_last_lines_with_their_replica(stage: Stage, log: Path) -> None:
    assert list(tail(stage).read()) == [
        {"replica": "replica-0", "line": "two"},
        {"replica": "replica-0", "line": "three"},
    ]


def test_later_looks_give_what_was_added(stage: Stage, log: Path) -> None:
    logs = tail(stage)
    read(logs)
    assert read(logs) == []
    add(log, "four\nfive\n")
    assert read(logs) == ["four", "five"]


def test_who_asks_for_no_lines_gets_only_what_comes(stage: Stage, log: Path) -> None:
    logs = tail(stage, 0)
    assert read(logs) == []
    add(log, "four\n")
    assert read(logs) == ["four"]


def test_a_line_is_given_when_it_is_complete(stage: Stage, log: Path) -> None:
    logs = tail(stage)
    read(logs)
    add(log, "fo")
    assert read(logs) == []
    add(log, "ur\n")
    assert read(logs) == ["four"]


def test_a_file_that_comes_later_is_given_as_a_whole(stage: Stage, log: Path, tmp_path: Path) -> None:
    logs = tail(stage, 1)
    read(logs)
    other = tmp_path / "replica-1" / "output.log"
    other.parent.mkdir()
    other.write_text("a\nb\nc\n")
    stage.runtime.logs[AGENT, "dev"] = (log, other)
    assert read(logs) == ["a", "b", "c"]


def test_a_rotation_loses_and_repeats_nothing(stage: Stage, log: Path) -> None:
    logs = tail(stage)
    read(logs)
    add(log, "four\n")
    old = log.rename(log.with_suffix(".log.1"))
    log.write_text("five\n")
    stage.runtime.logs[AGENT, "dev"] = (old, log)
    assert read(logs) == ["four", "five"]
    assert read(logs) == []


def test_a_file_that_is_gone_is_no_trouble(stage: Stage, log: Path) -> None:
    logs = tail(stage)
    log.unlink()
    assert read(logs) == []


def test_an_endless_line_holds_up_nothing(stage: Stage, log: Path) -> None:
    logs = tail(stage, 0)
    read(logs)
    add(log, "x" * (3 << 20) + "\nfour\n")
    seen = [line for _ in range(5) for line in read(logs)]
    assert "".join(seen).count("x") == 3 << 20
    assert seen[-1] == "four"


def test_bytes_that_are_no_text_are_shown_as_such(stage: Stage, log: Path) -> None:
    log.write_bytes(b"\xff\xfe caf\xc3\xa9\n")
    assert read(tail(stage)) == ["�� café"]


def test_a_ring_that_is_not_known_is_not_found(stage: Stage) -> None:
    with pytest.raises(NotFound):
        open_logs(stage.office, ADMIN, AGENT, "moon", 1)
