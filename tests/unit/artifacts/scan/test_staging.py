"""The folder that scanners look into."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from turnout.artifacts.scan.staging import Subject, staged
from turnout.domain.errors import BuildFailed


def test_files_are_linked_and_the_links_are_gone_afterwards(tmp_path: Path) -> None:
    source = tmp_path / "a.bin"
    source.write_bytes(b"content")
    with staged([Subject("a.bin", source), Subject("text", content=b"of a text")], [tmp_path]) as (folder, names):
        assert {subject.path: (folder / name).read_bytes() for name, subject in names.items()} == {
            "a.bin": b"content",
            "text": b"of a text",
        }
        assert source.stat().st_nlink == 2
    assert source.stat().st_nlink == 1
    assert list(tmp_path.iterdir()) == [source]


def test_where_no_link_can_be_made_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", refused)
    (tmp_path / "a").write_bytes(b"content")
    with staged([Subject("a", tmp_path / "a")], [tmp_path]) as (folder, names):
        assert [(folder / name).read_bytes() for name in names] == [b"content"]
        assert (tmp_path / "a").stat().st_nlink == 1


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(BuildFailed, match=r"lib/a\.py cannot be read"),
        staged([Subject("lib/a.py", tmp_path / "gone")], [tmp_path]),
    ):
        pass


def test_the_folder_is_made_on_the_disk_with_most_of_the_bytes(tmp_path: Path) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second disk here")
    (tmp_path / "a").write_bytes(b"content")
    for roots in ([tmp_path, shared], [shared, tmp_path]):
        with staged([Subject("a", tmp_path / "a")], roots) as (folder, _):
            assert folder.is_relative_to(tmp_path)
