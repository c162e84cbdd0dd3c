"""The cache of chunks: it saves time, and is never believed more than a file's status allows."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.artifacts.agents import build, write_agent
from tests.unit.artifacts.chunks.stored import noise, write_files
from turnout.artifacts.build import build_parts, build_release
from turnout.artifacts.chunks import source as sources
from turnout.artifacts.chunks.cache import ChunkCache
from turnout.artifacts.chunks.index import DataIndex, write_index
from turnout.artifacts.chunks.source import index_files
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.domain.errors import BuildFailed
from turnout.manifest import load_manifest

FILES = {"a": noise(300_000, 1), "b": noise(200_000, 2), "empty": b""}
HOUR = 3_600 * 1_000_000_000


class Folder:
    """Data files and their cache, an hour later than they were written unless told otherwise."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache = root / "chunks.json"
        self.entries = write_files(root / "data", FILES)
        self.read: list[str] = []
        original = sources._hash_chunks

        def noted(file: Any, pool: Any) -> Any:
            self.read.append(Path(f"/proc/self/fd/{file.fileno()}").readlink().name)
            return original(file, pool)

        monkeypatch.setattr(sources, "_hash_chunks", noted)

    def index(self, later: int = HOUR) -> DataIndex:
        """Index with the cache; `self.read` holds the names of the files that were read."""
        self.read.clear()
        known = ChunkCache(self.cache, clock=lambda: time.time_ns() + later)
        found = index_files(self.entries, known).index
        known.save()
        return found

    def truth(self) -> DataIndex:
        return index_files(self.entries, ChunkCache(None)).index

    def source(self, name: str) -> Path:
        return next(entry.source for entry in self.entries if entry.path == name)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    return Folder(tmp_path, monkeypatch)


def keep_times(path: Path, change: Callable[[Path], object]) -> None:
    status = path.stat()
    change(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_what_has_not_changed_is_not_read_again(folder: Folder) -> None:
    first = folder.index()
    assert folder.read == ["a", "b", "empty"]
    assert folder.index() == first
    assert folder.read == []


def same_size(path: Path) -> None:
    path.write_bytes(noise(path.stat().st_size, 8))


def new_inode(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(noise(path.stat().st_size, 8))
    other.replace(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "shorter": lambda path: os.truncate(path, 100_000),
    "same size": same_size,
    "same size and time of change": lambda path: keep_times(path, same_size),
    "another inode with the same size and time": lambda path: keep_times(path, new_inode),
    "touched": os.utime,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_is_not_what_it_was_is_read_again(folder: Folder, change: str) -> None:
    folder.index()
    CHANGES[change](folder.source("a"))
    assert folder.index() == folder.truth()
    assert "a" in folder.read
    assert "b" not in folder.read[: folder.read.index("a") + 1]


def test_a_file_written_just_now_is_not_trusted(folder: Folder) -> None:
    folder.index(later=0)
    folder.index(later=0)
    assert folder.read == ["a", "b", "empty"]
    folder.index(later=HOUR)
    folder.index(later=HOUR)
    assert folder.read == []


def test_a_clock_behind_the_files_trusts_nothing(folder: Folder) -> None:
    folder.index(later=-HOUR)
    folder.index()
    assert folder.read == ["a", "b", "empty"]


def test_a_renamed_file_is_read_again_and_a_lost_one_forgotten(folder: Folder) -> None:
    folder.index()
    folder.entries = folder.entries[1:]
    folder.index()
    assert sorted(json.loads(folder.cache.read_bytes())["files"]) == ["b", "empty"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff",
        b"{}",
        b'{"version": 3}',
        b'{"version": "1 x", "files": {}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_cache_is_ignored_and_replaced(folder: Folder, content: bytes) -> None:
    folder.cache.write_bytes(content)
    assert folder.index() == folder.truth()
    folder.index()
    assert folder.read == []


ENTRIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "digests missing": lambda entry: entry.pop("digests"),
    "digests short": lambda entry: entry.update(digests=entry["digests"][2:]),
    "digests no text": lambda entry: entry.update(digests=7),
    "digests no digits": lambda entry: entry.update(digests="zz"),
    "lengths missing": lambda entry: entry.pop("lengths"),
    "lengths no list": lambda entry: entry.update(lengths=7),
    "lengths no numbers": lambda entry: entry.update(lengths=["x"] * len(entry["lengths"])),
    "lengths zero": lambda entry: entry.update(lengths=[0] * (len(entry["lengths"]) - 1) + [sum(entry["lengths"])]),
    "lengths below zero": lambda entry: entry.update(
        lengths=[-1, *entry["lengths"][1:-1], entry["lengths"][0] + entry["lengths"][-1] + 1]
    ),
    "lengths fractions": lambda entry: entry.update(lengths=[float(length) for length in entry["lengths"]]),
    "file missing": lambda entry: entry.pop("file"),
}


@pytest.mark.parametrize("damage", ENTRIES)
def test_a_damaged_entry_is_ignored(folder: Folder, damage: str) -> None:
    folder.index()
    document = json.loads(folder.cache.read_bytes())
    ENTRIES[damage](document["files"]["a"])
    folder.cache.write_text(json.dumps(document))
    assert write_index(folder.index()) == write_index(folder.truth())


@pytest.mark.parametrize("entry", [None, 7, [], "x"])
def test_a_damaged_entry_of_another_kind_is_ignored(folder: Folder, entry: object) -> None:
    folder.index()
    document = json.loads(folder.cache.read_bytes())
    document["files"]["a"] = entry
    folder.cache.write_text(json.dumps(document))
    assert write_index(folder.index()) == write_index(folder.truth())


def test_chunks_cut_with_other_parameters_are_ignored(folder: Folder) -> None:
    folder.index()
    folder.cache.write_bytes(folder.cache.read_bytes().replace(b"/65536/", b"/65537/"))
    folder.index()
    assert folder.read == ["a", "b", "empty"]


def test_a_cache_that_cannot_be_written_does_no_harm(folder: Folder) -> None:
    folder.cache = folder.cache.parent / "missing" / "chunks.json"
    assert folder.index() == folder.truth()


def test_saving_that_fails_keeps_the_old_cache(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.index()
    before = folder.cache.read_bytes()
    same_size(folder.source("a"))

    def fail(*args: object) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        folder.index()
    assert folder.cache.read_bytes() == before
    assert sorted(path.name for path in folder.cache.parent.iterdir()) == ["chunks.json", "data"]


def test_an_unchanged_cache_is_not_written_again(folder: Folder) -> None:
    folder.index()
    before = folder.cache.stat().st_mtime_ns, folder.cache.stat().st_ino
    folder.index()
    assert (folder.cache.stat().st_mtime_ns, folder.cache.stat().st_ino) == before


def test_a_cache_that_is_wrong_is_found_at_the_push_and_without_it_the_digest_is_right(tmp_path: Path) -> None:
    agent = write_agent(tmp_path / "agent")
    truth = build(agent).digest
    cache = tmp_path / "chunks.json"
    known = ChunkCache(cache, clock=lambda: time.time_ns() + HOUR)
    entry = write_files(agent, {"index/part-0.bin": noise(10_240, 9)})[0]
    index_files([entry], known)
    known.save()  # now the file changes behind the cache's back: same size, and the cache is told the times
    write_files(agent, {"index/part-0.bin": bytes(range(256)) * 40})
    document = json.loads(cache.read_bytes())
    status = entry.source.stat()
    (held,) = document["files"].values()
    held["file"] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino]
    cache.write_text(json.dumps(document))

    manifest = load_manifest(agent)
    assert build_parts(agent, manifest, MemoryArtifactStore(), cache=cache).digest != truth
    with pytest.raises(BuildFailed, match=r"index/part-0\.bin"):
        build_release(agent, manifest, MemoryArtifactStore(), cache=cache)
    assert build_release(agent, manifest, MemoryArtifactStore()).digest == truth


def test_with_and_without_the_cache_the_index_is_the_same(folder: Folder) -> None:
    folder.index()
    assert write_index(folder.index()) == write_index(folder.truth())
