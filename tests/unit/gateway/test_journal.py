"""The journal of a gateway process: every call in one line, whatever the disk, the size and the neighbours do."""

from __future__ import annotations

import errno
import multiprocessing
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from tests.unit.gateway.calls import model_call, tool_call
from turnout.domain.call_lines import call_from_line, call_to_line, lost_from_line
from turnout.gateway.journal import Journal
from turnout.gateway.journal_files import JournalFiles


def _ids(folder: Path) -> list[str]:
    lines = [line for path in sorted(folder.iterdir()) for line in path.read_bytes().splitlines()]
    return [call.id for line in lines if (call := call_from_line(line)) is not None]


def _lost(folder: Path) -> int:
    return sum(lost_from_line(line) for path in folder.iterdir() for line in path.read_bytes().splitlines())


def test_a_call_is_a_line_of_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", "model-0")
    journal.write(model_call())
    file = tmp_path / "journal" / "model-0.jsonl"
    assert file.read_bytes() == call_to_line(model_call())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_later_process_goes_on_in_the_file_after_the_part_of_a_line_that_a_crash_left(tmp_path: Path) -> None:
    first = Journal(tmp_path, "model-0")
    first.write(model_call("a"))
    first.close()
    with (tmp_path / "model-0.jsonl").open("ab") as file:
        file.write(call_to_line(model_call("b"))[:20])
    Journal(tmp_path, "model-0").write(model_call("c"))
    assert _ids(tmp_path) == ["a", "c"]


def test_two_processes_of_one_name_write_in_files_of_their_own(tmp_path: Path) -> None:
    old, new = Journal(tmp_path, "model-0"), Journal(tmp_path, "model-0")
    old.write(model_call("old"))
    new.write(model_call("new"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model-0.2.jsonl", "model-0.jsonl"]
    old.close()
    Journal(tmp_path, "model-0").write(model_call("newest"))
    assert sorted(_ids(tmp_path)) == ["new", "newest", "old"]


def test_a_file_that_is_full_gets_a_number_and_grows_no_more(tmp_path: Path) -> None:
    size = len(call_to_line(model_call("0")))
    journal = Journal(tmp_path, "model-0", largest=2 * size)
    for number in range(5):
        journal.write(model_call(str(number)))
    names = ["model-0.jsonl", "model-0.jsonl.000001", "model-0.jsonl.000002"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert [(tmp_path / name).stat().st_size for name in names] == [size, 2 * size, 2 * size]
    assert sorted(_ids(tmp_path)) == ["0", "1", "2", "3", "4"]


def test_when_all_files_are_full_the_oldest_is_given_up_and_a_line_says_so(tmp_path: Path) -> None:
    size = len(call_to_line(model_call("0")))
    journal = Journal(tmp_path, "model-0", largest=2 * size, most=8 * size)
    for number in range(16):
        journal.write(model_call(f"{number:x}"))
        time.sleep(0.002)  # files are as old as the file system says
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10 * size
    assert journal.lost == _lost(tmp_path) == 16 - len(_ids(tmp_path)) > 0
    assert set("89abcdef") >= set(_ids(tmp_path)) >= set("cdef")
    assert (tmp_path / "model-0.jsonl.000001").stat().st_size == 0  # its inode names no other file meanwhile


def test_what_was_read_of_a_file_that_is_given_up_is_not_lost(tmp_path: Path) -> None:
    size = len(call_to_line(model_call("0")))
    journal, files = Journal(tmp_path, "model-0", largest=4 * size, most=9 * size), JournalFiles(tmp_path)
    for number in range(5):
        journal.write(model_call(f"{number:x}"))
    read = files.read("model-0.jsonl", None, limit=3)
    files.forget("model-0.jsonl", read.cursor)
    assert files.names() == ("model-0.jsonl",)
    for number in range(5, 9):
        journal.write(model_call(f"{number:x}"))
    assert (tmp_path / "model-0.jsonl.000001").stat().st_size == 0
    assert journal.lost == 1


def test_a_full_disk_raises_nothing_and_what_is_lost_is_said_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, "model-0")
    journal.write(model_call("a"))
    write = os.write

    def tear(descriptor: int, content: bytes) -> int:
        return write(descriptor, content[:10])

    def refuse(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "write", tear)
        journal.write(model_call("b"))
        full.setattr(os, "write", refuse)
        journal.write(model_call("c"))
        assert journal.lost == 2
    journal.write(model_call("d"))
    assert _ids(tmp_path) == ["a", "d"]
    assert journal.lost == _lost(tmp_path) == 2


def test_a_folder_that_cannot_be_written_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file")
    journal = Journal(tmp_path / "journal", "model-0")
    journal.write(model_call())
    assert journal.lost == 1
    (tmp_path / "journal").unlink()
    journal.close()
    assert _lost(tmp_path / "journal") == 1


def test_what_cannot_be_a_line_is_lost_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "model-0")
    journal.write(model_call("a", duration=float("inf")))
    journal.write(model_call("b"))
    assert _ids(tmp_path) == ["b"]
    assert _lost(tmp_path) == 1


def test_a_result_that_is_too_long_for_a_line_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "tool-0")
    journal.write(tool_call(arguments="{}", result='"' + "x" * (1 << 20) + '"', result_digest="sha256:" + "1" * 64))
    (line,) = (tmp_path / "tool-0.jsonl").read_bytes().splitlines()
    assert call_from_line(line) == tool_call(result_digest="sha256:" + "1" * 64)


def test_threads_and_processes_tear_no_line(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=write_many, args=(tmp_path, name)) for name in ("p", "q")]
    for other in others:
        other.start()
    journal = Journal(tmp_path, "model-0", largest=20_000)
    threads = [threading.Thread(target=_write, args=(journal, f"t{number}")) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    for other in others:
        other.join(timeout=30)
    assert sorted(_ids(tmp_path)) == sorted(
        f"{name}-{number}" for name in ("p", "q", "t0", "t1", "t2", "t3") for number in range(200)
    )


def write_many(folder: Path, name: str) -> None:
    _write(Journal(folder, "model-0", largest=20_000), name)


def _write(journal: Journal, name: str) -> None:
    for number in range(200):
        journal.write(model_call(f"{name}-{number}"))
