"""Reading data back: a file, a range of one, or everything into a folder. Each chunk is verified before it is given out."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from turnout.artifacts.chunks.bundle import Stored, open_chunk
from turnout.artifacts.chunks.catalog import Footers, choose_bundles
from turnout.artifacts.chunks.index import ChunkRef, DataIndex, Place
from turnout.artifacts.faults import disk_errors
from turnout.artifacts.unpack import MAX_FILES, create_file
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound, UnsafeArchive
from turnout.domain.models import Digest
from turnout.ports import ArtifactStore

_OPEN_FILES = 128
_RANGE = 4 << 20  # bytes that are asked for at once


class DataReader:
    """The data of one release: its index, and the bundles that its manifest names."""

    def __init__(self, store: ArtifactStore, index: DataIndex, bundles: Iterable[Digest]) -> None:
        self._store = store
        self.index = index
        footers = Footers(store)
        held = {bundle: footers.read(bundle) for bundle in bundles}
        self._chosen, missing = choose_bundles(index, held)
        if missing:
            _check_whole(store, held)
            raise DamagedContent(
                f"{len(missing)} chunks of the data are in none of the release's bundles",
                hint="push the release again with --no-cache, which stores them anew",
            )
        self._found = {stored.chunk: (bundle, stored) for bundle, held in self._chosen.items() for stored in held}

    def read_file(self, path: str) -> Iterator[bytes]:
        """A file, chunk by chunk. Raises `NotFound`, `DamagedContent`."""
        file = self.index.file(path)
        if file is None:
            raise NotFound(f"the data holds no file {path!r}")
        return (self.read_chunk(chunk) for chunk in file.chunks)

    def read_range(self, path: str, start: int, length: int) -> bytes:
        """Some bytes of a file; fewer where it ends. Only the chunks that hold them are read."""
        file = self.index.file(path)
        if file is None:
            raise NotFound(f"the data holds no file {path!r}")
        if start < 0 or length < 0:
            raise InvalidRequest("a range has no negative start or length")
        parts, offset = [], 0
        for chunk in file.chunks:
            if offset < start + length and offset + chunk.length > start:
                parts.append(self.read_chunk(chunk)[max(start - offset, 0) : start + length - offset])
            offset += chunk.length
        return b"".join(parts)

    def read_chunk(self, chunk: ChunkRef) -> bytes:
        """One chunk of the index. Raises `NotFound`, `DamagedContent` naming the bundle."""
        bundle, stored = self._found[chunk]
        return open_chunk(stored, self._store.read_range(bundle, stored.offset, stored.length), bundle)

    def unpack(self, target: Path) -> None:
        """Write every file below a folder, read-only (0444, 0555 when executable). What is there already is not touched.

        Raises `UnsafeArchive` for a file that is there, `DamagedContent`, `StorageFull`.
        """
        if len(self.index.files) > MAX_FILES:
            raise UnsafeArchive(f"the data holds more than {MAX_FILES} files")
        for file in self.index.files:
            with disk_errors(target):
                descriptor = create_file(file.path, target)
                os.ftruncate(descriptor, file.size)
                os.close(descriptor)
        with _OpenFiles(target, self.index) as files:
            for bundle, held in self._chosen.items():
                for chunk, content in _read_chunks(self._store, bundle, held):
                    files.write(self.index.places[chunk], content)
        for file in self.index.files:
            with disk_errors(target):
                _seal(target / file.path, 0o555 if file.executable else 0o444)


def _check_whole(store: ArtifactStore, bundles: Iterable[Digest]) -> None:
    """Read bundles to their end. Raises `DamagedContent` naming the first whose bytes have another digest."""
    for bundle in bundles:
        for _ in store.read(bundle):
            pass


def _read_chunks(store: ArtifactStore, bundle: Digest, held: Sequence[Stored]) -> Iterator[tuple[ChunkRef, bytes]]:
    """The chunks from one bundle: as a whole, which verifies all of it, unless most of it is not wanted."""
    size = store.size(bundle)
    if size <= _RANGE or 2 * sum(stored.length for stored in held) >= size:
        return _streamed(store, bundle, held)
    return _picked(store, bundle, held)


def _streamed(store: ArtifactStore, bundle: Digest, held: Sequence[Stored]) -> Iterator[tuple[ChunkRef, bytes]]:
    pending, start, blocks = b"", 0, store.read(bundle)  # `pending` begins at `start`
    for stored in held:
        end = stored.offset + stored.length
        parts = [pending]
        reached = start + len(pending)
        while reached < end:
            block = next(blocks, b"")
            if not block:
                raise DamagedContent(f"the blob {bundle} is damaged: it ends in the middle")
            parts.append(block)
            reached += len(block)
        pending = b"".join(parts)
        yield stored.chunk, open_chunk(stored, pending[stored.offset - start : end - start], bundle)
        pending, start = pending[end - start :], end
    for _ in blocks:  # to the end: the last block is given out when all were verified
        pass


def _picked(store: ArtifactStore, bundle: Digest, held: Sequence[Stored]) -> Iterator[tuple[ChunkRef, bytes]]:
    """By ranges: each run of neighbours in as few reads as a bound on memory allows."""
    for run in _neighbours(held):
        start = run[0].offset
        content = memoryview(store.read_range(bundle, start, run[-1].offset + run[-1].length - start))
        for stored in run:
            begin = stored.offset - start
            yield stored.chunk, open_chunk(stored, bytes(content[begin : begin + stored.length]), bundle)


def _neighbours(held: Sequence[Stored]) -> Iterator[list[Stored]]:
    run: list[Stored] = []
    for stored in held:
        if run and (run[-1].offset + run[-1].length != stored.offset or stored.offset - run[0].offset >= _RANGE):
            yield run
            run = []
        run.append(stored)
    if run:
        yield run


class _OpenFiles:
    """The files of an index below a folder; those written last are kept open."""

    def __init__(self, target: Path, index: DataIndex) -> None:
        self._target = target
        self._index = index
        self._open: OrderedDict[int, int] = OrderedDict()

    def __enter__(self) -> _OpenFiles:
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            for descriptor in self._open.values():
                stack.callback(os.close, descriptor)

    def write(self, places: Sequence[Place], content: bytes) -> None:
        with disk_errors(self._target):
            for place in places:
                _write_at(self._descriptor(place.file), content, place.offset)

    def _descriptor(self, number: int) -> int:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        if len(self._open) >= _OPEN_FILES:
            os.close(self._open.popitem(last=False)[1])
        path = self._target / self._index.files[number].path
        self._open[number] = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        return self._open[number]


def _write_at(descriptor: int, content: bytes, offset: int) -> None:
    left = memoryview(content)
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written


def _seal(path: Path, mode: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
