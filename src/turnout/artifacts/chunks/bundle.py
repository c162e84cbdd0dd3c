"""Bundles: blobs that hold many chunks, so that a store is not flooded with tiny ones.

The chunks come first, each compressed if that makes it smaller. A footer follows with one entry a chunk (SHA-256 of its
uncompressed bytes, length, stored length; equal lengths mean uncompressed), then the number of entries and a mark. All
numbers are 32 bits, big-endian. A bundle says where its chunks are, so nothing else needs to.
"""

from __future__ import annotations

import hashlib
import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

import zstandard

from turnout.artifacts.chunks.cut import MAX_CHUNK
from turnout.artifacts.chunks.index import ChunkRef
from turnout.artifacts.digest import digest_from_hex
from turnout.artifacts.faults import disk_errors
from turnout.domain.errors import DamagedContent
from turnout.domain.models import ComponentRef, Digest
from turnout.ports import ArtifactStore

BUNDLE_TYPE = "application/vnd.turnout.bundle.v1"
FULL = 64 << 20  # bytes after which a bundle is closed
_LEVEL = 3
_BLOCK = 1 << 20
_ENTRY = struct.Struct(">32sII")
_END = struct.Struct(">I8s")
_MARK = b"TURNBND1"


class Stored(NamedTuple):
    """Where a chunk is in its bundle."""

    chunk: ChunkRef
    offset: int
    length: int  # of the stored bytes


class Bundle(NamedTuple):
    """A finished bundle and the file that holds it, which is gone when the next one is asked for."""

    ref: ComponentRef
    file: IO[bytes]


def write_bundles(chunks: Iterable[tuple[ChunkRef, bytes]], spool: Path) -> Iterator[Bundle]:
    """Bundle the chunks, in a temporary file each. Raises `StorageFull`."""
    pending = iter(chunks)
    first = next(pending, None)
    while first is not None:
        with _temporary(spool) as file:
            writer = _Writer(file, spool)
            writer.add(*first)
            first = None
            for chunk, content in pending:
                if writer.size >= FULL:
                    first = chunk, content
                    break
                writer.add(chunk, content)
            yield Bundle(writer.finish(), file)


def file_chunks(file: IO[bytes]) -> Iterator[bytes]:
    """The content of a finished bundle, from its start."""
    file.seek(0)
    while block := file.read(_BLOCK):
        yield block


def read_footer(store: ArtifactStore, bundle: Digest) -> tuple[Stored, ...]:
    """What a bundle holds, in the order of its bytes.

    A footer is not checked against the digest of the whole bundle. It need not be: the chunks are checked against theirs.
    Raises `NotFound`; `DamagedContent` for what is no footer.
    """
    size = store.size(bundle)
    if size < _END.size:
        raise _no_bundle(bundle)
    count, mark = _END.unpack(store.read_range(bundle, size - _END.size, _END.size))
    start = size - _END.size - count * _ENTRY.size
    if mark != _MARK or start < 0:
        raise _no_bundle(bundle)
    found, offset = [], 0
    for digest, length, stored in _ENTRY.iter_unpack(store.read_range(bundle, start, count * _ENTRY.size)):
        if not 0 < stored <= length <= MAX_CHUNK:
            raise _no_bundle(bundle)
        found.append(Stored(ChunkRef(digest, length), offset, stored))
        offset += stored
    if offset != start:
        raise _no_bundle(bundle)
    return tuple(found)


def open_chunk(stored: Stored, content: bytes, bundle: Digest) -> bytes:
    """The bytes of a chunk from what is stored, verified. Raises `DamagedContent` naming the bundle."""
    if stored.length < stored.chunk.length:
        try:
            if zstandard.frame_content_size(content) not in (
                -1,
                stored.chunk.length,
            ):  # a bound is ignored if it is given
                raise _damaged(bundle)
            content = zstandard.ZstdDecompressor().decompress(content, max_output_size=stored.chunk.length)
        except zstandard.ZstdError:
            raise _damaged(bundle) from None
    if len(content) != stored.chunk.length or hashlib.sha256(content).digest() != stored.chunk.digest:
        raise _damaged(bundle)
    return content


class _Writer:
    def __init__(self, file: IO[bytes], spool: Path) -> None:
        self.size = 0
        self._file = file
        self._spool = spool
        self._seen = hashlib.sha256()
        self._footer = bytearray()
        self._count = 0
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True)

    def add(self, chunk: ChunkRef, content: bytes) -> None:
        compressed = self._compressor.compress(content)
        smaller = compressed if len(compressed) < len(content) else content
        self._put(smaller)
        self._footer += _ENTRY.pack(chunk.digest, chunk.length, len(smaller))
        self._count += 1

    def finish(self) -> ComponentRef:
        self._put(bytes(self._footer))
        self._put(_END.pack(self._count, _MARK))
        with disk_errors(self._spool):
            self._file.flush()
            self._file.seek(0)
        return ComponentRef(digest_from_hex(self._seen.hexdigest()), BUNDLE_TYPE, self.size)

    def _put(self, content: bytes) -> None:
        with disk_errors(self._spool):
            self._file.write(content)
        self._seen.update(content)
        self.size += len(content)


@contextmanager
def _temporary(spool: Path) -> Iterator[IO[bytes]]:
    with disk_errors(spool):
        spool.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=spool)  # noqa: SIM115  (closed below)
    try:
        yield file
    finally:
        with suppress(OSError):  # what is left in its buffer is not wanted
            file.close()


def _no_bundle(bundle: Digest) -> DamagedContent:
    return DamagedContent(f"the blob {bundle} is damaged: it is no bundle of chunks")


def _damaged(bundle: Digest) -> DamagedContent:
    return DamagedContent(
        f"the blob {bundle} is damaged: a chunk in it has other bytes",
        hint="push the release again with --no-cache, which stores it anew",
    )
