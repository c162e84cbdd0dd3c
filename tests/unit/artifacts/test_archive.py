"""The archive of a set of files: the same bytes everywhere, and nothing but plain files."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.manifest.patience import PATIENT
from turnout.artifacts.archive import FileEntry, pack
from turnout.artifacts.digest import sha256_digest
from turnout.artifacts.unpack import unpack
from turnout.domain.errors import BuildFailed

PARTS = st.text(st.characters(exclude_characters="/\0\\~:", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)
PINNED = "sha256:8cf72b7ba49374dc163ab2dad153218f47462f0ce4c8afea94997fb51534c69e"
NAMES = PARTS.filter(lambda part: part not in (".", "..") and len(part.encode()) <= 200)


def archive_of(files: dict[str, bytes], folder: Path) -> bytes:
    entries = []
    for index, (name, content) in enumerate(files.items()):
        source = folder / str(index)
        source.write_bytes(content)
        entries.append(FileEntry(name, source))
    return b"".join(pack(entries))


def test_the_bytes_of_an_archive_are_pinned(tmp_path: Path) -> None:
    archive = archive_of({"b/ü.txt": b"two", "a.txt": b"one", "x" * 120 + "/" + "y" * 120: b""}, tmp_path)
    assert sha256_digest(archive) == PINNED


def test_other_tools_read_the_archive(tmp_path: Path) -> None:
    source = tmp_path / "run.sh"
    source.write_bytes(b"#!/bin/sh\n")
    source.chmod(0o700)
    archive = b"".join(pack([FileEntry("bin/run.sh", source)]))
    with tarfile.open(fileobj=io.BytesIO(archive)) as reader:
        (member,) = reader.getmembers()
    assert (member.name, member.size, member.mode) == ("bin/run.sh", 10, 0o755)
    assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")


@settings(PATIENT, max_examples=40)
@given(files=st.dictionaries(NAMES, st.binary(max_size=1_500), max_size=6))
def test_what_is_packed_unpacks_to_the_same(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    folder, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    archive = archive_of({f"top/{name}": content for name, content in files.items()}, folder)
    unpack([archive[start : start + 700] for start in range(0, len(archive), 700)], target, size=len(archive))
    assert {path.name: path.read_bytes() for path in target.rglob("*") if path.is_file()} == files


def test_a_file_is_read_in_pieces(tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(64 << 20)
    assert max(len(chunk) for chunk in pack([FileEntry("big", big)])) <= 1 << 20


@pytest.mark.parametrize("change", ["grows", "shrinks", "is rewritten"])
def test_a_file_that_changes_while_it_is_read_is_named(tmp_path: Path, change: str) -> None:
    source = tmp_path / "moving"
    source.write_bytes(bytes(3 << 20))
    chunks = pack([FileEntry("data/moving", source)])
    next(chunks)  # the header is written, with the size
    next(chunks)
    with source.open("r+b") as file:
        if change == "grows":
            file.seek(0, os.SEEK_END)
            file.write(b"more")
        elif change == "shrinks":
            file.truncate(2 << 20)
        else:
            file.write(b"other")
    os.utime(source, ns=(1, 1))
    with pytest.raises(BuildFailed, match="data/moving changed while it was read"):
        list(chunks)


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BuildFailed, match="pipe is not a regular file"):
        list(pack([FileEntry("pipe", tmp_path / "pipe")]))


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    source = Path(os.fsdecode(bytes(tmp_path) + b"/\xff"))
    source.write_bytes(b"")
    with pytest.raises(BuildFailed, match="is not UTF-8"):
        list(pack([FileEntry(source.name, source)]))


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    def packed() -> Iterator[bytes]:
        return pack([FileEntry("lib/gone.py", tmp_path / "gone.py")])

    with pytest.raises(BuildFailed, match=r"lib/gone\.py cannot be read"):
        list(packed())
