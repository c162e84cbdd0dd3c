"""Every flipped byte of what holds the data is found, the blob is named, and nothing is unpacked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.artifacts.agents import build, write_agent
from tests.unit.artifacts.chunks.stored import bundle_bytes, index_folder, noise, ref, store_bundles, write_files
from turnout.artifacts.build import BuiltRelease
from turnout.artifacts.chunks import bundle as bundles
from turnout.artifacts.chunks.fetch import DataReader
from turnout.artifacts.chunks.index import DataIndex, FileChunks
from turnout.artifacts.document import read_image
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.artifacts.release import unpack_release
from turnout.domain.errors import DamagedContent, NotFound, TurnoutError
from turnout.domain.models import Digest

TINY = {"index/part-0.bin": b"first part, " * 9, "index/part-1.bin": noise(90), "index/part-2.bin": b"last"}


@pytest.fixture
def store() -> MemoryArtifactStore:
    return MemoryArtifactStore()


@pytest.fixture
def built(store: MemoryArtifactStore, tmp_path: Path) -> BuiltRelease:
    """A release whose data has three chunks in one bundle."""
    agent = write_agent(tmp_path / "agent")
    write_files(agent, TINY)
    return build(agent, store)


def bundles_of(built: BuiltRelease) -> list[Digest]:
    return [bundle.digest for bundle in read_image(built.manifest).bundles]


def flip(store: MemoryArtifactStore, digest: Digest, position: int, bit: int = 0) -> None:
    content = bytearray(store.blobs[digest])
    content[position] ^= 1 << bit
    store.blobs[digest] = bytes(content)


def assert_refused(store: MemoryArtifactStore, built: BuiltRelease, digest: Digest, folder: Path) -> None:
    with pytest.raises(DamagedContent) as refused:
        unpack_release(store, built.digest, folder / "target")
    assert digest in refused.value.message
    assert list(folder.iterdir()) == [], "nothing is left of it"
    (damage,) = store.damages()
    assert damage[0] == digest


def test_every_flipped_byte_of_a_bundle_is_found_and_named(
    store: MemoryArtifactStore, built: BuiltRelease, tmp_path: Path
) -> None:
    (bundle,) = bundles_of(built)
    content = store.blobs[bundle]
    assert len(content) < 400
    (tmp_path / "node").mkdir()
    for position in range(len(content)):
        flip(store, bundle, position, bit=position % 8)
        assert_refused(store, built, bundle, tmp_path / "node")
        store.blobs[bundle] = content
    unpack_release(store, built.digest, tmp_path / "node" / "target")
    for path, expected in TINY.items():
        assert (tmp_path / "node" / "target" / path).read_bytes() == expected


def test_every_flipped_byte_of_the_index_is_found_and_named(
    store: MemoryArtifactStore, built: BuiltRelease, tmp_path: Path
) -> None:
    index = built.components["data"].digest
    content = store.blobs[index]
    (tmp_path / "node").mkdir()
    for position in range(len(content)):
        flip(store, index, position, bit=position % 8)
        assert_refused(store, built, index, tmp_path / "node")
        store.blobs[index] = content


def test_one_flipped_byte_in_any_of_several_bundles_is_found(
    store: MemoryArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "FULL", 100_000)
    agent = write_agent(tmp_path / "agent")
    write_files(agent, {"index/big": noise(900_000)})
    built = build(agent, store)
    (tmp_path / "node").mkdir()
    assert len(bundles_of(built)) > 3
    for bundle in bundles_of(built):
        content = store.blobs[bundle]
        for position in (0, len(content) // 2, -60, -30, -12, -8, -1):
            flip(store, bundle, position)
            assert_refused(store, built, bundle, tmp_path / "node")
            store.blobs[bundle] = content


@pytest.mark.parametrize("kept", [0, 1, 11, 12, 100, -1])
def test_a_bundle_that_was_cut_is_found_and_named(
    store: MemoryArtifactStore, built: BuiltRelease, tmp_path: Path, kept: int
) -> None:
    (bundle,) = bundles_of(built)
    store.blobs[bundle] = store.blobs[bundle][:kept]
    (tmp_path / "node").mkdir()
    assert_refused(store, built, bundle, tmp_path / "node")


def test_a_bundle_that_is_lost_is_named(store: MemoryArtifactStore, built: BuiltRelease, tmp_path: Path) -> None:
    (bundle,) = bundles_of(built)
    del store.blobs[bundle]
    (tmp_path / "node").mkdir()
    with pytest.raises(NotFound, match=bundle):
        unpack_release(store, built.digest, tmp_path / "node" / "target")
    assert list((tmp_path / "node").iterdir()) == []
    ((digest, sentence),) = store.damages()
    assert digest == bundle
    assert "a bundle of the data of release" in sentence


def test_a_flipped_chunk_is_never_given_out_by_file_or_range(store: MemoryArtifactStore, tmp_path: Path) -> None:
    source = index_folder(tmp_path / "source", {"a": noise(50), "b": noise(60, 1)})
    (bundle,) = store_bundles(store, source, tmp_path / "spool")
    reader = DataReader(store, source.index, [bundle])
    flip(store, bundle, 55)
    assert reader.read_range("a", 0, 50) == noise(50)
    with pytest.raises(DamagedContent, match=bundle):
        reader.read_range("b", 0, 1)
    with pytest.raises(DamagedContent, match=bundle):
        list(reader.read_file("b"))


@pytest.mark.parametrize("content", [b"", b"{}", noise(500), bundle_bytes([], [])])
def test_a_foreign_blob_as_a_bundle_gives_nothing(store: MemoryArtifactStore, tmp_path: Path, content: bytes) -> None:
    source = index_folder(tmp_path / "source", {"a": noise(50)})
    with pytest.raises(DamagedContent):
        DataReader(store, source.index, [store.write([content])])


def test_a_bundle_whose_footer_lies_gives_nothing(store: MemoryArtifactStore, tmp_path: Path) -> None:
    """Intact by its digest, and still not what it says: the chunks themselves are checked."""
    a, b = noise(50), noise(50, 1)
    index = DataIndex((FileChunks("a", False, (ref(a),)), FileChunks("b", False, (ref(b),))))
    bundle = store.write([bundle_bytes([a, b], [(ref(b), len(b)), (ref(a), len(a))])])
    (tmp_path / "target").mkdir()
    reader = DataReader(store, index, [bundle])
    with pytest.raises(DamagedContent, match=bundle):
        reader.unpack(tmp_path / "target")
    for path in ("a", "b"):
        with pytest.raises(DamagedContent, match=bundle):
            reader.read_range(path, 0, 50)


def test_a_bundle_that_changes_while_it_is_read_is_found(store: MemoryArtifactStore, tmp_path: Path) -> None:
    source = index_folder(tmp_path / "source", {"a": noise(500_000)})
    (bundle,) = store_bundles(store, source, tmp_path / "spool")
    reader = DataReader(store, source.index, [bundle])
    store.blobs[bundle] = store.blobs[bundle][:-200_000]
    (tmp_path / "target").mkdir()
    with pytest.raises(TurnoutError, match=bundle):
        reader.unpack(tmp_path / "target")
