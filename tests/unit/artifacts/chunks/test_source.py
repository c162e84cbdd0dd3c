"""Data files that change between two looks at them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.artifacts.chunks.stored import index_folder, noise, store_bundles, write_files
from turnout.artifacts.archive import FileEntry
from turnout.artifacts.chunks.cache import ChunkCache
from turnout.artifacts.chunks.catalog import chunks_of
from turnout.artifacts.chunks.index import write_index
from turnout.artifacts.chunks.source import index_files
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.domain.errors import BuildFailed

FILES = {"index/a": noise(400_000, 1), "index/b": noise(500_000, 2), "index/c": noise(300_000, 3)}


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(250_000)
        file.write(b"other")


def cut_short(path: Path) -> None:
    os.truncate(path, 100_000)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "overwritten": overwrite,
    "truncated": cut_short,
    "emptied": lambda path: os.truncate(path, 0),
    "replaced": lambda path: path.write_bytes(noise(500_000, 9)),
    "vanished": Path.unlink,
    "a folder": make_folder,
    "a pipe": replace_by_pipe,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changed_before_it_was_pushed_is_named(tmp_path: Path, change: str, name: str) -> None:
    source = index_folder(tmp_path, FILES)
    CHANGES[change](tmp_path / name)
    store = MemoryArtifactStore()
    with pytest.raises(BuildFailed, match=name):
        store_bundles(store, source, tmp_path / "spool")
    assert list(store.blobs) == []


def test_a_change_of_a_part_that_need_not_be_sent_does_no_harm(tmp_path: Path) -> None:
    source = index_folder(tmp_path, FILES)
    wanted = list(source.index.files[0].chunks)
    (tmp_path / "index/b").unlink()
    assert b"".join(content for _, content in source.read(wanted)) == FILES["index/a"]


def test_chunks_are_read_in_any_order(tmp_path: Path) -> None:
    source = index_folder(tmp_path, FILES)
    forward = list(source.read(source.index.places))
    backward = list(source.read(reversed(list(source.index.places))))
    assert backward == forward[::-1]
    assert list(source.read(chunks_of(source.index, [(1, 2)]))) == forward[1:3]
    assert list(source.read([])) == []


def test_a_file_that_grows_while_it_is_indexed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = write_files(tmp_path, FILES)
    before = os.fstat

    def growing(descriptor: int) -> os.stat_result:
        status = before(descriptor)
        with (tmp_path / "index/b").open("ab") as file:
            file.write(b"more")
        return status

    monkeypatch.setattr(os, "fstat", growing)
    with pytest.raises(BuildFailed, match=r"index/b changed while it was read"):
        index_files([entries[1]], ChunkCache(None))


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name in ("pipe", "socket", "missing", "."):
            with pytest.raises(BuildFailed, match=f"index/{name}" if name != "." else "index/"):
                index_files([FileEntry(f"index/{name}", tmp_path / name)], ChunkCache(None))


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"caf\xe9")
    place.write_bytes(b"x")
    with pytest.raises(BuildFailed, match="not UTF-8"):
        index_files([FileEntry(os.fsdecode(b"index/caf\xe9"), place)], ChunkCache(None))


def test_no_files_make_an_empty_index() -> None:
    assert index_files([], ChunkCache(None)).index.files == ()


def test_what_is_executable_is_part_of_the_index_and_nothing_else_of_the_mode(tmp_path: Path) -> None:
    (entry,) = write_files(tmp_path, {"a": b"x"})
    seen = []
    for mode in (0o644, 0o600, 0o444, 0o755, 0o700):
        entry.source.chmod(mode)
        seen.append(write_index(index_files([entry], ChunkCache(None)).index))
    assert seen[0] == seen[1] == seen[2] != seen[3] == seen[4]
