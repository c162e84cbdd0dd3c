"""The contract of stores of recordings: in files, and the fake."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound
from turnout.domain.models import Digest
from turnout.ports import RecordingStore
from turnout.recordings.fake import MemoryRecordings
from turnout.recordings.files import RecordingFiles

CONTENT = b'{"schema":1}' * 1_000
DIGEST = Digest(f"sha256:{hashlib.sha256(CONTENT).hexdigest()}")
Damage = Callable[[bytes], None]


@pytest.fixture(params=["files", "fake"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[RecordingStore, Damage]:
    """A store, and a way to replace the stored bytes of the one document in it."""
    if request.param == "fake":
        fake = MemoryRecordings()
        return fake, lambda content: fake.contents.update({DIGEST: content})
    folder = tmp_path / "recordings"

    def damage(content: bytes) -> None:
        for path in folder.rglob("*.zst"):
            path.write_bytes(content)

    return RecordingFiles(folder), damage


@pytest.fixture
def store(opened: tuple[RecordingStore, Damage]) -> RecordingStore:
    return opened[0]


def test_a_document_is_read_as_it_was_put(store: RecordingStore) -> None:
    assert store.put(CONTENT) == DIGEST
    assert store.put(CONTENT) == DIGEST
    other = store.put(b"")
    assert store.read(DIGEST) == CONTENT
    assert store.read(other) == b""
    assert set(store.digests()) == {DIGEST, other}


def test_what_is_not_there_is_not_found_and_may_be_deleted(store: RecordingStore) -> None:
    with pytest.raises(NotFound):
        store.read(DIGEST)
    store.delete(DIGEST)
    store.put(CONTENT)
    store.delete(DIGEST)
    assert store.digests() == ()
    with pytest.raises(NotFound):
        store.read(DIGEST)


@pytest.mark.parametrize("content", [b"", b"something else", CONTENT])
def test_a_damaged_document_is_never_given_out_and_is_mended_by_the_next(
    opened: tuple[RecordingStore, Damage], content: bytes
) -> None:
    store, damage = opened
    store.put(CONTENT)
    damage(content + b"!")
    with pytest.raises(DamagedContent, match=DIGEST):
        store.read(DIGEST)
    assert store.digests() == (DIGEST,)
    store.put(CONTENT)
    assert store.read(DIGEST) == CONTENT


def test_files_are_small_private_and_leave_nothing_half_written(tmp_path: Path) -> None:
    store = RecordingFiles(tmp_path)
    store.put(CONTENT)
    (path,) = tmp_path.rglob("*.zst")
    assert path.stat().st_size < len(CONTENT) / 10
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    partial = path.with_name(".left.zst.x")
    partial.write_bytes(b"half of it")
    assert RecordingFiles(tmp_path).digests() == (DIGEST,)
    assert not partial.exists()


def test_a_name_that_is_no_digest_reads_no_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="not a digest"):
        RecordingFiles(tmp_path).read(Digest("sha256:../../etc/passwd"))
