"""Bundles: what is written is read, and a bundle that lies is found before it does harm."""

from __future__ import annotations

import os
import random
import subprocess
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from tests.unit.artifacts.chunks.stored import bundle_bytes, noise, ref
from turnout.artifacts.chunks import bundle as bundles
from turnout.artifacts.chunks.bundle import (
    BUNDLE_TYPE,
    Stored,
    file_chunks,
    open_chunk,
    read_footer,
    write_bundles,
)
from turnout.artifacts.chunks.cut import MAX_CHUNK
from turnout.artifacts.chunks.index import ChunkRef
from turnout.artifacts.digest import sha256_digest
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.domain.errors import DamagedContent, NotFound, StorageFull
from turnout.domain.models import Digest

A, B, TEXT = noise(70_000, 1), noise(40_000, 2), b"the same again and again. " * 3_000
BOMB = zstandard.ZstdCompressor().compress(bytes(256 << 20))  # 8 KB


def chunks(*contents: bytes) -> list[tuple[ChunkRef, bytes]]:
    return [(ref(content), content) for content in contents]


def stored_bundles(store: MemoryArtifactStore, spool: Path, *contents: bytes) -> list[Digest]:
    return [store.write(file_chunks(bundle.file)) for bundle in write_bundles(chunks(*contents), spool)]


def read_chunk(store: MemoryArtifactStore, bundle: Digest, stored: Stored) -> bytes:
    return open_chunk(stored, store.read_range(bundle, stored.offset, stored.length), bundle)


def test_a_bundle_gives_back_its_chunks_in_their_order(tmp_path: Path) -> None:
    store = MemoryArtifactStore()
    (bundle,) = stored_bundles(store, tmp_path, A, TEXT, B, b"x")
    footer = read_footer(store, bundle)
    assert [stored.chunk for stored in footer] == [ref(A), ref(TEXT), ref(B), ref(b"x")]
    assert [read_chunk(store, bundle, stored) for stored in footer] == [A, TEXT, B, b"x"]


def test_what_does_not_become_smaller_is_stored_as_it_is(tmp_path: Path) -> None:
    store = MemoryArtifactStore()
    (bundle,) = stored_bundles(store, tmp_path, A, TEXT)
    first, second = read_footer(store, bundle)
    assert first.length == len(A)
    assert second.length < len(TEXT) / 50
    assert store.blobs[bundle].startswith(A)


def test_the_reference_says_what_the_file_holds(tmp_path: Path) -> None:
    for bundle in write_bundles(chunks(A, TEXT), tmp_path):
        content = b"".join(file_chunks(bundle.file))
        assert bundle.ref.digest == sha256_digest(content)
        assert bundle.ref.size == len(content)
        assert bundle.ref.media_type == BUNDLE_TYPE
        assert b"".join(file_chunks(bundle.file)) == content, "it can be read twice"


def test_no_chunks_make_no_bundle_and_no_file(tmp_path: Path) -> None:
    assert list(write_bundles([], tmp_path / "spool")) == []
    assert not (tmp_path / "spool").exists()


def test_a_full_bundle_is_closed_and_nothing_stays_in_the_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "FULL", 100_000)
    store = MemoryArtifactStore()
    contents = [noise(40_000, seed) for seed in range(10)]
    found = stored_bundles(store, tmp_path / "spool", *contents)
    assert [len(read_footer(store, bundle)) for bundle in found] == [3, 3, 3, 1]
    assert [read_chunk(store, bundle, stored) for bundle in found for stored in read_footer(store, bundle)] == contents
    assert list((tmp_path / "spool").iterdir()) == []


def test_chunks_are_taken_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "FULL", 100_000)
    taken = 0

    def counted() -> Iterator[tuple[ChunkRef, bytes]]:
        nonlocal taken
        for taken in range(1, 11):
            content = noise(40_000, taken)
            yield ref(content), content

    pending = write_bundles(counted(), tmp_path)
    next(pending)
    assert taken == 4, "three that fit, and the first of the next bundle"


LIES = {
    "empty": b"",
    "shorter than its end": b"TURNBND1",
    "foreign": b"PK\x03\x04" + noise(1_000),
    "another mark": bundle_bytes([A], [(ref(A), len(A))])[:-1] + b"2",
    "more entries than bytes": bundle_bytes([A], [(ref(A), len(A))], count=2**32 - 1),
    "one entry too many": bundle_bytes([A], [(ref(A), len(A))], count=2),
    "one entry too few": bundle_bytes([A, B], [(ref(A), len(A)), (ref(B), len(B))], count=1),
    "no entries but bytes": bundle_bytes([A], []),
    "stored bytes that are not there": bundle_bytes([A[:-1]], [(ref(A), len(A))]),
    "bytes that nobody names": bundle_bytes([A, b"x"], [(ref(A), len(A))]),
    "longer stored than it is": bundle_bytes([A], [(ChunkRef(ref(A).digest, len(A) - 1), len(A))]),
    "nothing stored": bundle_bytes([], [(ref(A), 0)]),
    "an empty chunk": bundle_bytes([], [(ref(b""), 0)]),
    "longer than any chunk": bundle_bytes([A], [(ChunkRef(ref(A).digest, MAX_CHUNK + 1), len(A))]),
    "the longest number": bundle_bytes([A], [(ChunkRef(ref(A).digest, 2**32 - 1), len(A))]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_blob_that_is_no_bundle_is_named(lie: str) -> None:
    store = MemoryArtifactStore()
    digest = store.write([LIES[lie]])
    with pytest.raises(DamagedContent, match=f"{digest} is damaged: it is no bundle"):
        read_footer(store, digest)


def test_a_bundle_that_is_not_stored_is_not_found() -> None:
    with pytest.raises(NotFound):
        read_footer(MemoryArtifactStore(), sha256_digest(b"?"))


def test_a_bundle_of_no_chunks_holds_none() -> None:
    store = MemoryArtifactStore()
    assert read_footer(store, store.write([bundle_bytes([], [])])) == ()


@pytest.mark.parametrize(
    "entries",
    [
        [(ref(A), len(B)), (ref(B), len(A))],
        [(ref(B), len(B)), (ref(A), len(A))],
        [(ref(A), len(A)), (ChunkRef(ref(A).digest, len(B)), len(B))],
        [(ref(A), len(A) - 1), (ref(B), len(B) + 1)],
    ],
)
def test_wrong_offsets_lengths_and_digests_are_found(entries: list[tuple[ChunkRef, int]]) -> None:
    store = MemoryArtifactStore()
    digest = store.write([bundle_bytes([A, B], entries)])
    with pytest.raises(DamagedContent, match=digest):
        [read_chunk(store, digest, stored) for stored in read_footer(store, digest)]


@pytest.mark.parametrize("claimed", [MAX_CHUNK, len(BOMB) + 1])
def test_a_chunk_that_would_become_huge_is_refused_before_it_does(claimed: int) -> None:
    stored = Stored(ChunkRef(bytes(32), claimed), 0, len(BOMB))
    tracemalloc.start()
    try:
        with pytest.raises(DamagedContent):
            open_chunk(stored, BOMB, sha256_digest(b"bundle"))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2 * MAX_CHUNK


def test_compressed_bytes_of_any_kind_never_pass_unless_they_are_the_chunk() -> None:
    compressed = zstandard.ZstdCompressor(write_content_size=False).compress(TEXT)
    bundle = sha256_digest(b"bundle")
    assert open_chunk(Stored(ref(TEXT), 0, len(compressed)), compressed, bundle) == TEXT
    wrong = [
        compressed[:-1],
        zstandard.ZstdCompressor().compress(TEXT[:-1]),
        zstandard.ZstdCompressor().compress(TEXT + b"x"),
        b"",
        random.Random(1).randbytes(len(compressed)),
    ]
    for content in wrong:
        with pytest.raises(DamagedContent, match=bundle):
            open_chunk(Stored(ref(TEXT), 0, len(content)), content, bundle)


# --- a full disk -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "turnout-test", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def free_bytes(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


@pytest.mark.parametrize("size", [70_000, 1_000])
def test_a_full_disk_is_said_and_leaves_no_bytes_behind(small_disk: Path, size: int) -> None:
    before = free_bytes(small_disk)
    contents = [noise(size, seed) for seed in range((5 << 20) // size)]
    with pytest.raises(StorageFull, match="full"):
        list(write_bundles(chunks(*contents), small_disk))
    assert free_bytes(small_disk) == before


def test_a_disk_that_is_full_at_the_last_byte_is_said(small_disk: Path) -> None:
    for left in (0, 1, 4_095, 4_096):
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(free_bytes(small_disk) - left))
        with pytest.raises(StorageFull, match="full"):
            list(write_bundles(chunks(noise(6_000)), small_disk))
        ballast.unlink()
