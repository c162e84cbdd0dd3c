"""Any data comes back as it was: as a whole, by file, by range; from the disk and from memory."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.artifacts.chunks.stored import index_folder, noise, read_back, store_bundles, write_files
from tests.unit.manifest.patience import PATIENT
from turnout.artifacts.archive import FileEntry
from turnout.artifacts.chunks import bundle as bundles
from turnout.artifacts.chunks.cache import ChunkCache
from turnout.artifacts.chunks.catalog import Footers, choose_bundles
from turnout.artifacts.chunks.fetch import DataReader
from turnout.artifacts.chunks.index import DataIndex, FileChunks, read_index, write_index
from turnout.artifacts.chunks.source import index_files
from turnout.artifacts.digest import sha256_digest
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.artifacts.layout import OciLayoutStore
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound, StorageFull, UnsafeArchive
from turnout.domain.models import Digest
from turnout.ports import ArtifactStore

STORES: Mapping[str, Callable[[Path], ArtifactStore]] = {
    "layout": lambda folder: OciLayoutStore(folder / "store"),
    "memory": lambda folder: MemoryArtifactStore(),
}
PATHS = ["index/a.bin", "index/b.bin", "index/deep/er/c", "index/ü 日.txt", "z"]
CONTENTS = st.one_of(
    st.sampled_from(
        [b"", b"x", b"x" * 300_000, noise(90_000), noise(200_000, 1) * 2, bytes(70_000) + noise(70_000, 2)]
    ),
    st.binary(max_size=200),
    st.builds(noise, st.integers(0, 400_000), st.integers(0, 3)),
)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    return STORES[request.param](tmp_path)


def stored_reader(store: ArtifactStore, folder: Path, files: Mapping[str, bytes]) -> DataReader:
    """Everything indexed, bundled, stored; and read from what is stored alone."""
    source = index_folder(folder / "source", files)
    digest = store.write([write_index(source.index)])
    return DataReader(store, read_index(store, digest), store_bundles(store, source, folder / "spool"))


@pytest.mark.parametrize("kind", STORES)
@settings(PATIENT, max_examples=25)
@given(
    files=st.dictionaries(st.sampled_from(PATHS), CONTENTS),
    full=st.sampled_from([1, 100_000, 64 << 20]),
    data=st.data(),
)
def test_any_files_come_back(
    kind: str,
    tmp_path_factory: pytest.TempPathFactory,
    files: dict[str, bytes],
    full: int,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundles, "FULL", full)
        reader = stored_reader(STORES[kind](folder), folder, files)
    assert read_back(reader, folder / "target") == files
    for path, content in files.items():
        assert b"".join(reader.read_file(path)) == content
        start, length = data.draw(st.integers(0, len(content) + 5)), data.draw(st.integers(0, len(content) + 5))
        assert reader.read_range(path, start, length) == content[start : start + length]


def test_many_small_files_come_back(store: ArtifactStore, tmp_path: Path) -> None:
    files = {f"index/{number % 7}/{number}": noise(number, number % 3) for number in range(300)}
    assert read_back(stored_reader(store, tmp_path, files), tmp_path / "target") == files


def test_a_range_reads_the_chunks_that_hold_it_and_no_others(tmp_path: Path) -> None:
    class Counting(MemoryArtifactStore):
        asked = 0

        def read_range(self, digest: Digest, offset: int, length: int) -> bytes:
            self.asked += length
            return super().read_range(digest, offset, length)

    store = Counting()
    content = noise(8 << 20)
    reader = stored_reader(store, tmp_path, {"index/big": content})
    store.asked = 0
    assert reader.read_range("index/big", 5_000_000, 10) == content[5_000_000:5_000_010]
    assert 10 <= store.asked <= 2 * 262_144


def test_a_range_below_zero_and_a_file_that_is_not_there_are_refused(store: ArtifactStore, tmp_path: Path) -> None:
    reader = stored_reader(store, tmp_path, {"a": b"content"})
    for start, length in ((-1, 1), (1, -1)):
        with pytest.raises(InvalidRequest):
            reader.read_range("a", start, length)
    for ask in (reader.read_file, lambda path: reader.read_range(path, 0, 1)):
        with pytest.raises(NotFound, match="'b'"):
            ask("b")


def test_files_are_read_only_and_executable_if_they_were(store: ArtifactStore, tmp_path: Path) -> None:
    write_files(tmp_path / "source", {"run": b"#!/bin/sh\n", "plain": b"x"})
    (tmp_path / "source" / "run").chmod(0o755)
    source = index_files([FileEntry(name, tmp_path / "source" / name) for name in ("run", "plain")], ChunkCache(None))
    reader = DataReader(store, source.index, store_bundles(store, source, tmp_path / "spool"))
    read_back(reader, tmp_path / "target")
    assert (tmp_path / "target" / "run").stat().st_mode & 0o777 == 0o555
    assert (tmp_path / "target" / "plain").stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("paths", [("a", "a/b"), ("a/b", "a/b/c/d")])
def test_a_file_where_another_needs_a_folder_is_refused(store: ArtifactStore, tmp_path: Path, paths: list[str]) -> None:
    source = index_folder(tmp_path / "source", {"x": b"content"})
    chunks = source.index.files[0].chunks
    index = DataIndex(tuple(FileChunks(path, False, chunks) for path in paths))
    reader = DataReader(store, index, store_bundles(store, source, tmp_path / "spool"))
    with pytest.raises(UnsafeArchive, match=f"{paths[-1]!r} twice, or over"):
        read_back(reader, tmp_path / "target")


def test_what_is_there_already_is_not_touched(store: ArtifactStore, tmp_path: Path) -> None:
    reader = stored_reader(store, tmp_path, {"a": b"new", "link": b"new"})
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "outside").write_bytes(b"old")
    (target / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(UnsafeArchive, match="'link'"):
        reader.unpack(target)
    assert (tmp_path / "outside").read_bytes() == b"old"


def test_the_same_content_is_stored_once(store: ArtifactStore, tmp_path: Path) -> None:
    content = noise(500_000)
    source = index_folder(tmp_path / "source", {"a": content, "b": content, "c": content + content})
    (bundle,) = store_bundles(store, source, tmp_path / "spool")
    assert store.size(bundle) < 1_300_000


def test_chunks_of_several_bundles_are_put_together(store: ArtifactStore, tmp_path: Path) -> None:
    """A release that shares a few chunks with each of two others: they are picked out by ranges."""
    one, two = noise(3 << 20, 1), noise(3 << 20, 2)
    first = index_folder(tmp_path / "source", {"one": one})
    second = index_folder(tmp_path / "source", {"two": two})
    held = store_bundles(store, first, tmp_path / "spool") + store_bundles(store, second, tmp_path / "spool")
    files = {"mixed": one[: 600 << 10] + two[1 << 20 : 2 << 20], "two": two[: 1 << 20]}
    mixed = index_folder(tmp_path / "mixed", files)
    _, missing = choose_bundles(mixed.index, Footers(store).readable(held))
    assert 0 < len(missing) < len(mixed.index.places) / 2
    held += store_bundles(store, mixed, tmp_path / "spool", missing)
    assert read_back(DataReader(store, mixed.index, held), tmp_path / "target") == files


def test_a_bundle_that_lacks_chunks_is_told(store: ArtifactStore, tmp_path: Path) -> None:
    source = index_folder(tmp_path / "source", {"a": noise(400_000)})
    some = list(source.index.places)[1:]
    held = store_bundles(store, source, tmp_path / "spool", some)
    with pytest.raises(DamagedContent, match="1 chunks of the data are in none"):
        DataReader(store, source.index, held)
    with pytest.raises(NotFound):
        DataReader(store, source.index, [*held, sha256_digest(b"missing")])


def test_a_full_disk_while_unpacking_is_said(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = stored_reader(store, tmp_path, {"a": noise(400_000)})

    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageFull):
        read_back(reader, tmp_path / "target")
