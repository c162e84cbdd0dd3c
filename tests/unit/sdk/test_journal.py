"""The journal: nothing that was written down is lost, whatever cut it off, and no two processes write to one file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from turnout.sdk import journal as module
from turnout.sdk.journal import Journal


def names(journal: Journal, limit: int = 100) -> list[str]:
    return [str(report["task"]) for _, report in journal.read(limit)]


def filled(path: Path, count: int = 3) -> Journal:
    journal = Journal(path)
    for number in range(1, count + 1):
        assert journal.add({"task": f"t{number}"}) == number
    return journal


def reopened(path: Path) -> Journal:
    """What the next process sees; this one was killed, which let go of its lock."""
    return Journal(path)


def test_what_was_added_is_read_by_the_next(tmp_path: Path) -> None:
    filled(tmp_path / "j").abandon()

    assert names(reopened(tmp_path / "j")) == ["t1", "t2", "t3"]


def test_what_was_settled_is_not(tmp_path: Path) -> None:
    journal = filled(tmp_path / "j")
    journal.settle(2, [(3, {"task": "t3"})])
    journal.abandon()
    after = reopened(tmp_path / "j")

    assert names(after) == ["t3"]
    assert after.add({"task": "t4"}) == 4


def test_an_entry_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "j"
    filled(path).abandon()
    path.write_bytes(path.read_bytes()[:-5])
    after = reopened(path)
    assert names(after) == ["t1", "t2"]
    after.add({"task": "t9"})
    after.abandon()

    assert names(reopened(path)) == ["t1", "t2", "t9"]


def test_only_the_newest_are_read_when_there_are_too_many(tmp_path: Path) -> None:
    filled(tmp_path / "j", 10).abandon()

    assert names(reopened(tmp_path / "j"), limit=2) == ["t9", "t10"]


def test_it_is_empty_when_nothing_waits_and_goes_away_when_it_is_closed(tmp_path: Path) -> None:
    journal = filled(tmp_path / "j")
    journal.settle(3, [])
    assert (tmp_path / "j").stat().st_size == 0
    journal.close()

    assert list(tmp_path.iterdir()) == []


def test_a_long_one_is_written_anew_with_what_waits(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", largest=200)
    for number in range(50):
        journal.add({"task": f"t{number}"})
    journal.settle(49, [(50, {"task": "t49"})])
    assert (tmp_path / "j").stat().st_size < 100
    with pytest.raises(BlockingIOError):
        module._open_locked(tmp_path / "j")
    journal.add({"task": "t50"})
    journal.abandon()

    assert names(reopened(tmp_path / "j")) == ["t49", "t50"]


def test_two_processes_have_two_files(tmp_path: Path) -> None:
    first, second = filled(tmp_path / "j"), filled(tmp_path / "j")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["j", "j.2"]
    first.close()
    second.close()
    third = reopened(tmp_path / "j")
    assert names(third) == ["t1", "t2", "t3"]


def test_a_disk_that_is_full_is_an_error_and_what_was_written_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = filled(tmp_path / "j", 1)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:7]))
    with pytest.raises(OSError, match="disk is full"):
        journal.add({"task": "t2"})
    monkeypatch.undo()
    journal.add({"task": "t3"})
    journal.abandon()

    assert names(reopened(tmp_path / "j")) == ["t1", "t3"]
