"""Data files and what becomes of them in a store, for tests of the chunks."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from turnout.artifacts.archive import FileEntry
from turnout.artifacts.chunks.bundle import file_chunks, write_bundles
from turnout.artifacts.chunks.cache import ChunkCache
from turnout.artifacts.chunks.fetch import DataReader
from turnout.artifacts.chunks.index import ChunkRef
from turnout.artifacts.chunks.source import DataSource, index_files
from turnout.domain.models import Digest
from turnout.ports import ArtifactStore

MARK = b"TURNBND1"


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress, the same on any machine."""
    return random.Random(seed).randbytes(size)


def write_files(folder: Path, files: Mapping[str, bytes]) -> list[FileEntry]:
    """The files below a folder, replaced if they are there."""
    entries = []
    for path, content in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        entries.append(FileEntry(path, place))
    return entries


def index_folder(folder: Path, files: Mapping[str, bytes]) -> DataSource:
    """Write and index files, without a cache."""
    return index_files(write_files(folder, files), ChunkCache(None))


def store_bundles(
    store: ArtifactStore, source: DataSource, spool: Path, wanted: Iterable[ChunkRef] | None = None
) -> list[Digest]:
    """Bundle and store the chunks (all, unless some are wanted)."""
    chunks = source.index.places if wanted is None else wanted
    return [
        store.write(file_chunks(bundle.file), bundle.ref.digest) for bundle in write_bundles(source.read(chunks), spool)
    ]


def read_back(reader: DataReader, folder: Path) -> dict[str, bytes]:
    """Unpack everything and read it."""
    folder.mkdir()
    reader.unpack(folder)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def ref(content: bytes) -> ChunkRef:
    """The chunk that holds exactly this."""
    return ChunkRef(hashlib.sha256(content).digest(), len(content))


def bundle_bytes(stored: Sequence[bytes], entries: Sequence[tuple[ChunkRef, int]], count: int | None = None) -> bytes:
    """A bundle as somebody might write it who does not keep to the truth. `entries`: chunk, stored length."""
    footer = b"".join(struct.pack(">32sII", chunk.digest, chunk.length, length) for chunk, length in entries)
    return b"".join(stored) + footer + struct.pack(">I8s", len(entries) if count is None else count, MARK)
