"""Archives made to do harm."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.manifest.patience import PATIENT
from turnout.artifacts.archive import FileEntry, pack
from turnout.artifacts.unpack import unpack
from turnout.domain.errors import UnsafeArchive

END = bytes(1_024)


def member(name: str, content: bytes = b"x", **fields: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % 512)


def link(kind: bytes, name: str, target: str) -> bytes:
    return member(name, b"", type=kind, linkname=target)


def sparse() -> bytes:
    return member("big", b"", type=tarfile.GNUTYPE_SPARSE)


def pax(records: dict[str, str], name: str = "plain") -> bytes:
    return member(name, pax_headers=records)


ATTACKS = {
    "absolute path": member("/etc/cron.d/x"),
    "parent folder": member("../outside"),
    "parent folder inside": member("a/../../outside"),
    "path not in plain form": member("a//b"),
    "path with a dot": member("./a"),
    "backslashes": member("..\\outside"),
    "drive": member("C:/x"),
    "trailing slash": member("a/"),
    "symbolic link": link(tarfile.SYMTYPE, "link", "/etc/passwd"),
    "link and a file through it": link(tarfile.SYMTYPE, "link", "..") + member("link/x"),
    "hard link": link(tarfile.LNKTYPE, "link", "target"),
    "character device": member("null", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "block device": member("disk", b"", type=tarfile.BLKTYPE),
    "pipe": member("pipe", b"", type=tarfile.FIFOTYPE),
    "folder": member("folder", b"", type=tarfile.DIRTYPE),
    "sparse file": sparse(),
    "the same path twice": member("a") + member("a"),
    "a file below a file": member("a") + member("a/b"),
    "a file over a folder": member("a/b") + member("a"),
    "over what is there": member("there.txt"),
    "long name of GNU": tarfile.TarInfo("y" * 200).tobuf(tarfile.GNU_FORMAT),
    "path of an extended header": pax({"path": "../outside"}),
    "unknown key of an extended header": pax({"GNU.sparse.major": "1"}),
    "size of an extended header": pax({"size": "-1"}),
    "huge extended header": pax({"path": "x" * 200_000}),
    "a name that is too long": member("x" * 300),
    "size beyond the end": member("a")[:512],
    "content cut short": member("a", b"x" * 5_000)[:2_000],
    "no end": member("a"),
    "nothing": b"",
    "garbage": b"\xff" * 2_048,
    "something behind the end": member("a") + END + member("b"),
    "negative size": tarfile.TarInfo("a")
    .tobuf(tarfile.USTAR_FORMAT)
    .replace(b"0" * 11 + b"\0" + b"0" * 11, b"\xff" * 12),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_archive_that_is_not_of_a_release_is_refused(tmp_path: Path, attack: str) -> None:
    outer = tmp_path / "outer"
    target = outer / "target"
    target.mkdir(parents=True)
    (target / "there.txt").write_text("mine")
    archive = ATTACKS[attack] + (b"" if attack in ("no end", "nothing", "size beyond the end") else END)
    with pytest.raises(UnsafeArchive):
        unpack([archive], target, size=len(archive))
    assert (target / "there.txt").read_text() == "mine"
    assert [path.name for path in outer.iterdir()] == ["target"]
    assert not any(path.is_symlink() for path in target.rglob("*"))


# What other tools write around plain files is passed over, and still cannot lead outside.
PASSED_OVER = {
    "path with a dot",
    "folder",
}


@pytest.mark.parametrize("attack", [attack for attack in ATTACKS if attack not in PASSED_OVER])
def test_an_archive_of_another_tool_is_held_to_the_same(tmp_path: Path, attack: str) -> None:
    target = tmp_path / "outer" / "target"
    target.mkdir(parents=True)
    (target / "there.txt").write_text("mine")
    archive = ATTACKS[attack] + (b"" if attack in ("no end", "nothing", "size beyond the end") else END)
    with pytest.raises(UnsafeArchive):
        unpack([archive], target, size=len(archive), foreign=True)
    assert (target / "there.txt").read_text() == "mine"
    assert [path.name for path in target.parent.iterdir()] == ["target"]
    assert not any(path.is_symlink() for path in target.rglob("*"))


@pytest.mark.parametrize("tarball", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_what_other_tools_put_around_plain_files_is_passed_over(tmp_path: Path, tarball: int) -> None:
    (tmp_path / "from" / "blobs").mkdir(parents=True)
    (tmp_path / "from" / "blobs" / "one").write_bytes(b"content")
    with tarfile.open(tmp_path / "foreign.tar", "w", format=tarball) as archive:
        archive.add(tmp_path / "from", arcname=".")
    content = (tmp_path / "foreign.tar").read_bytes()
    unpack([content], tmp_path / "to", size=len(content), foreign=True)
    assert [str(path.relative_to(tmp_path / "to")) for path in sorted((tmp_path / "to").rglob("*"))] == [
        "blobs",
        "blobs/one",
    ]
    assert (tmp_path / "to" / "blobs" / "one").read_bytes() == b"content"
    with pytest.raises(UnsafeArchive):
        unpack([content], tmp_path / "strict", size=len(content))
    outside = member("./../outside") + END
    with pytest.raises(UnsafeArchive):
        unpack([outside], tmp_path / "to", size=len(outside), foreign=True)
    assert not (tmp_path / "outside").exists()


def test_an_archive_larger_than_declared_is_refused(tmp_path: Path) -> None:
    archive = member("a", bytes(100_000)) + END
    with pytest.raises(UnsafeArchive, match="larger than declared"):
        unpack(iter([archive[:600], archive[600:]]), tmp_path, size=len(archive) - 1)


def test_more_files_than_allowed_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnout.artifacts.unpack.MAX_FILES", 2)
    archive = member("a") + member("b") + member("c") + END
    with pytest.raises(UnsafeArchive, match="more than 2 files"):
        unpack([archive], tmp_path, size=len(archive))


def test_files_become_read_only_and_keep_only_the_executable_bit(tmp_path: Path) -> None:
    archive = member("run", mode=0o6777) + member("read", mode=0o666) + END
    unpack([archive], tmp_path, size=len(archive))
    assert (tmp_path / "run").stat().st_mode & 0o7777 == 0o555
    assert (tmp_path / "read").stat().st_mode & 0o7777 == 0o444


def test_the_chunks_are_read_to_their_end(tmp_path: Path) -> None:
    archive = member("a") + END
    ended: list[bool] = []

    def chunks() -> Iterator[bytes]:
        yield archive
        yield bytes(512)
        ended.append(True)

    unpack(chunks(), tmp_path, size=len(archive) + 512)
    assert ended == [True]


@settings(PATIENT, max_examples=150)
@given(position=st.integers(0, 2_047), value=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_stays_inside(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    outer = tmp_path_factory.mktemp("outer")
    source, target = outer / "source", outer / "target"
    source.write_bytes(b"content")
    target.mkdir()
    archive = bytearray(b"".join(pack([FileEntry("ä/b", source)])))
    archive[position] = value
    with suppress(UnsafeArchive):
        unpack([bytes(archive)], target, size=len(archive))
    assert sorted(path.name for path in outer.iterdir()) == ["source", "target"]
