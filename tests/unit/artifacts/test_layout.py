"""The store on disk: shared by processes, whole after a crash, readable by other tools, clear about damage."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.artifacts.agents import build, write_agent
from turnout.artifacts.build import BuiltRelease
from turnout.artifacts.digest import sha256_digest
from turnout.artifacts.layout import OciLayoutStore
from turnout.domain.errors import DamagedContent, SetupFailed, StorageFull


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def built(root: Path, tmp_path: Path) -> BuiltRelease:
    return build(write_agent(tmp_path / "agent"), OciLayoutStore(root))


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_is_an_oci_image_layout(root: Path, built: BuiltRelease) -> None:
    OciLayoutStore(root).put_release(built.manifest, built.digest, ["v1.0"])
    assert json.loads((root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((root / "index.json").read_text())
    assert index["schemaVersion"] == 2
    names = {entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]}
    assert names == {"v1.0", built.digest.removeprefix("sha256:")}
    for entry in index["manifests"]:
        assert entry["digest"] == sha256_digest(built.manifest)
        assert entry["size"] == len(built.manifest)
        assert entry["mediaType"] == "application/vnd.oci.image.manifest.v1+json"


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed here")
def test_skopeo_reads_and_copies_a_release(root: Path, built: BuiltRelease, tmp_path: Path) -> None:
    name = f"oci:{root}:{built.digest.removeprefix('sha256:')}"
    shown = subprocess.run(["skopeo", "inspect", "--raw", name], check=True, capture_output=True, timeout=60)
    assert shown.stdout == built.manifest
    subprocess.run(["skopeo", "copy", name, f"oci:{tmp_path / 'copy'}:v1"], check=True, capture_output=True, timeout=60)
    blobs = {path.name for path in (tmp_path / "copy" / "blobs" / "sha256").iterdir()}
    assert {ref.digest.removeprefix("sha256:") for ref in built.components.values()} <= blobs


def test_entries_of_other_tools_are_kept(root: Path, built: BuiltRelease) -> None:
    index = json.loads((root / "index.json").read_text())
    foreign = {"mediaType": "x", "digest": sha256_digest(b"x"), "size": 1}
    (root / "index.json").write_text(json.dumps({**index, "manifests": [foreign, *index["manifests"]]}))
    store = OciLayoutStore(root)
    store.put_release(built.manifest, built.digest, ["v1"])
    assert store.releases() == {built.digest: ("v1",)}
    assert foreign in json.loads((root / "index.json").read_text())["manifests"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"manifests": 3}',
        b'{"manifests": [3]}',
        b'{"manifests": [{"digest": "x"}]}',
        b"[" * 100_000,
        None,
    ],
)
def test_an_index_that_cannot_be_read_is_damage_and_never_empty(
    root: Path, built: BuiltRelease, content: bytes | None
) -> None:
    (root / "index.json").unlink()
    if content is not None:
        (root / "index.json").write_bytes(content)
    store = OciLayoutStore(root)
    with pytest.raises(DamagedContent, match=r"index\.json") as caught:
        store.releases()
    assert caught.value.hint
    with pytest.raises(DamagedContent, match=r"index\.json"):
        list(store.damages())
    with pytest.raises(DamagedContent, match=r"index\.json"):
        store.put_release(built.manifest, built.digest)
    assert not (root / "index.json").exists() or (root / "index.json").read_bytes() == content


def test_a_flipped_byte_in_the_index_never_hides_a_release(root: Path, built: BuiltRelease) -> None:
    store = OciLayoutStore(root)
    content = (root / "index.json").read_bytes()
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 0x01
        (root / "index.json").write_bytes(flipped)
        try:
            found = store.releases()
            clean = built.digest in found
        except DamagedContent:
            clean = True
        assert clean, f"byte {position} hides the release: {bytes(flipped[position - 20 : position + 20])!r}"


def test_a_truncated_index_is_damage(root: Path, built: BuiltRelease) -> None:
    content = (root / "index.json").read_bytes()
    (root / "index.json").write_bytes(content[: len(content) // 2])
    with pytest.raises(DamagedContent):
        OciLayoutStore(root).releases()


def test_what_is_stored_already_is_not_written_again_unless_it_is_damaged(root: Path) -> None:
    """A flush may wait for all that others write to the disk: an unchanged build must not."""
    store = OciLayoutStore(root)
    digest = store.write([b"content"])
    path = root / "blobs" / "sha256" / digest.removeprefix("sha256:")
    first, known = path.stat(), files(root)
    assert store.write([b"con", b"tent"], digest) == digest
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert files(root) == known
    path.chmod(0o600)
    path.write_bytes(b"context")
    assert store.write([b"content"]) == digest
    assert store.read_all(digest) == b"content"
    assert path.stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("when", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_nothing_behind(root: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    store = OciLayoutStore(root)
    before = files(root)

    def full(*args: object, **kwargs: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target: object = Path if when == "replace" else os
    with monkeypatch.context() as patch:
        patch.setattr(target, when, full)
        with pytest.raises(StorageFull, match="is full") as caught:
            store.write([b"content"])
    assert "free some space" in (caught.value.hint or "")
    assert files(root) == before
    assert not store.has(sha256_digest(b"content"))


def test_a_full_disk_keeps_the_old_index(root: Path, built: BuiltRelease, monkeypatch: pytest.MonkeyPatch) -> None:
    store = OciLayoutStore(root)
    before = (root / "index.json").read_bytes()

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("turnout.durable.os.fchmod", full)
        with pytest.raises(StorageFull):
            store.put_release(built.manifest, built.digest, ["v9"])
    assert (root / "index.json").read_bytes() == before
    assert not [name for name in files(root) if name.startswith(".index")]


def test_a_disk_that_cannot_read_is_damage(root: Path, built: BuiltRelease, monkeypatch: pytest.MonkeyPatch) -> None:
    store = OciLayoutStore(root)

    def broken(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "open", broken)
    with pytest.raises(DamagedContent, match="the disk cannot read"):
        list(store.read(built.digest))


def test_a_place_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupFailed, match="cannot be used"):
        OciLayoutStore(tmp_path / "file" / "store")


def test_what_a_killed_writer_left_is_removed_when_it_is_old(root: Path) -> None:
    OciLayoutStore(root)
    old, new = root / "partial" / "old", root / "partial" / "new"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7_200,) * 2)
    OciLayoutStore(root)
    assert not old.exists()
    assert new.exists(), "somebody may still write it"


KILLED = """
import os, signal, sys
from pathlib import Path
from turnout.artifacts.layout import OciLayoutStore

def chunks():
    yield bytes(1 << 20)
    os.kill(os.getpid(), signal.SIGKILL)
    yield b""

OciLayoutStore(Path(sys.argv[1])).write(chunks())
"""


def test_a_writer_that_is_killed_stores_nothing(root: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(root)], check=False, timeout=30)
    assert ended.returncode == -signal.SIGKILL
    store = OciLayoutStore(root)
    assert list(store.stored()) == []
    assert store.releases() == {}


RECORDING = """
import sys
from pathlib import Path
from turnout.artifacts.layout import OciLayoutStore

store = OciLayoutStore(Path(sys.argv[1]))
manifest, release, worker = store.read_all(sys.argv[2]), sys.argv[3], sys.argv[4]
for number in range(20):
    store.write([f"{number}".encode() * 1000])
    store.put_release(manifest, release, [f"w{worker}-{number}"])
"""


def test_processes_share_a_layout(root: Path, built: BuiltRelease) -> None:
    arguments = [sys.executable, "-c", RECORDING, str(root), sha256_digest(built.manifest), built.digest]
    writers = [subprocess.Popen([*arguments, str(worker)]) for worker in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    store = OciLayoutStore(root)
    expected = {f"w{worker}-{number}" for worker in range(3) for number in range(20)}
    assert set(store.releases()[built.digest]) == expected
    assert list(store.damages()) == []
    assert not list((root / "partial").iterdir())


def test_a_reader_that_stops_early_leaves_no_open_file(root: Path) -> None:
    store = OciLayoutStore(root)
    digest = store.write([bytes(3 << 20)])

    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    chunks: Iterator[bytes] = store.read(digest)
    next(chunks)
    del chunks
    store.read(digest)
    assert open_files() == before
