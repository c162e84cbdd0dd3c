"""Texts of an archive: all of them within bounds, verified, and a note where there is none to show."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from turnout.artifacts import texts as module
from turnout.artifacts.archive import FileEntry, pack
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.artifacts.texts import read_texts
from turnout.domain.errors import DamagedContent, NotFound, UnsafeArchive
from turnout.domain.models import ComponentRef, Digest

FILES = {"prompts/b.md": b"second\n", "prompts/a.md": "first: grüß\n".encode(), "prompts/c.bin": b"\xff\x00"}


def stored(folder: Path, files: dict[str, bytes]) -> tuple[MemoryArtifactStore, ComponentRef]:
    entries = []
    for number, (path, content) in enumerate(files.items()):
        source = folder / str(number)
        source.write_bytes(content)
        entries.append(FileEntry(path, source))
    packed = b"".join(pack(entries))
    store = MemoryArtifactStore()
    return store, ComponentRef(store.write([packed]), "application/x-tar", len(packed))


def test_files_come_by_path_with_text_size_and_digest(tmp_path: Path) -> None:
    found = read_texts(*stored(tmp_path, FILES))

    assert [item["path"] for item in found] == ["prompts/a.md", "prompts/b.md", "prompts/c.bin"]
    assert [item["text"] for item in found] == ["first: grüß\n", "second\n", None]
    assert [item["note"] for item in found] == ["", "", "not a text"]
    assert found[1]["size"] == 7
    assert found[1]["digest"] == f"sha256:{hashlib.sha256(b'second' + bytes([10])).hexdigest()}"


def test_a_file_that_is_too_large_is_named_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_TEXT", 10)
    found = read_texts(*stored(tmp_path, FILES))

    assert [(item["text"], item["note"]) for item in found][:2] == [(None, "too large to be shown"), ("second\n", "")]


def test_there_is_an_end_to_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TEXT", 20)
    monkeypatch.setattr(module, "MOST_FILES", 2)
    found = read_texts(*stored(tmp_path, FILES))

    assert [(item["path"], item["note"]) for item in found] == [
        ("prompts/a.md", ""),
        ("prompts/b.md", "too large to be shown"),
        ("…", "1 more files"),
    ]


def test_what_is_damaged_or_gone_is_an_error(tmp_path: Path) -> None:
    store, ref = stored(tmp_path, FILES)
    with pytest.raises(NotFound):
        read_texts(store, ComponentRef(Digest("sha256:" + "0" * 64), ref.media_type, ref.size))
    with pytest.raises(UnsafeArchive):
        read_texts(store, ComponentRef(ref.digest, ref.media_type, ref.size - 1))
    store.blobs[ref.digest] = store.blobs[ref.digest].replace(b"second", b"SECOND")
    with pytest.raises(DamagedContent):
        read_texts(store, ref)
