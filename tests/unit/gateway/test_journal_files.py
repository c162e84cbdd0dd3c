"""Journals read by a server, over rotation, restarts and files that were given up: every line once, or said to be lost."""

from __future__ import annotations

from pathlib import Path

from tests.unit.gateway.calls import model_call
from turnout.domain.call_lines import call_from_line, call_to_line, lost_from_line
from turnout.gateway.journal import Journal
from turnout.gateway.journal_files import JournalFiles

SIZE = len(call_to_line(model_call("00")))


class Reader:
    """A server that takes in what there is, and goes on from its cursors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cursors: dict[str, str] = {}
        self.ids: list[str] = []
        self.lost = 0

    def read(self, limit: int = 3) -> None:
        files = JournalFiles(self.folder)
        for name in files.names():
            while True:
                chunk = files.read(name, self.cursors.get(name), limit)
                if chunk.cursor == self.cursors.get(name):
                    break
                self.ids += [call.id for line in chunk.lines if (call := call_from_line(line)) is not None]
                self.lost += sum(map(lost_from_line, chunk.lines))
                self.cursors[name] = chunk.cursor
                files.forget(name, chunk.cursor)


def write(journal: Journal, first: int, last: int) -> list[str]:
    names = [f"{number:02}" for number in range(first, last)]
    for name in names:
        journal.write(model_call(name))
    return names


def test_a_folder_that_is_not_there_has_no_journals(tmp_path: Path) -> None:
    assert JournalFiles(tmp_path / "none").names() == ()


def test_each_process_has_a_journal_of_its_own_and_nothing_else_is_one(tmp_path: Path) -> None:
    for name in ("model-0", "model-1", "tool-0"):
        Journal(tmp_path, name).write(model_call(name))
    for other in ("notes.txt", "model-0.jsonl.bak", ".hidden.jsonl", "x" * 50 + ".jsonl"):
        (tmp_path / other).write_text("{}\n")
    assert JournalFiles(tmp_path).names() == ("model-0.jsonl", "model-1.jsonl", "tool-0.jsonl")


def test_every_line_is_read_once_over_rotations_and_full_files_go(tmp_path: Path) -> None:
    journal, reader = Journal(tmp_path, "model-0", largest=4 * SIZE), Reader(tmp_path)
    written: list[str] = []
    for number in range(0, 60, 7):
        written += write(journal, number, number + 7)
        reader.read()
    assert reader.ids == written
    assert len(list(tmp_path.iterdir())) <= 2


def test_a_server_that_was_away_reads_all_of_it_in_order(tmp_path: Path) -> None:
    journal, reader = Journal(tmp_path, "model-0", largest=4 * SIZE), Reader(tmp_path)
    before = write(journal, 0, 3)
    reader.read()
    away = write(journal, 3, 30)
    reader.read()
    assert reader.ids == before + away


def test_what_was_given_up_is_said_to_be_lost_and_the_rest_is_read_once(tmp_path: Path) -> None:
    journal, reader = Journal(tmp_path, "model-0", largest=4 * SIZE, most=16 * SIZE), Reader(tmp_path)
    write(journal, 0, 6)
    reader.read()
    assert reader.ids == write_names(0, 6)
    write(journal, 6, 60)
    reader.read()
    assert len(set(reader.ids)) == len(reader.ids)
    assert reader.ids[-8:] == write_names(52, 60)
    assert reader.lost >= 60 - len(reader.ids) > 0, "what was read before it was given up counts as well"
    assert reader.lost == journal.lost


def write_names(first: int, last: int) -> list[str]:
    return [f"{number:02}" for number in range(first, last)]
