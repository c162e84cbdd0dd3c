"""Data files on this machine → their index, and the chunks that have to be sent, read again from the same files.

Nothing is copied: a build reads the data once, and a push reads what the other side lacks. A file that changes between the
two is found, because each chunk is checked against the index.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from turnout.artifacts.archive import FileEntry, changed, check_name, open_regular
from turnout.artifacts.chunks.cache import ChunkCache
from turnout.artifacts.chunks.cut import cut
from turnout.artifacts.chunks.index import ChunkRef, DataIndex, FileChunks
from turnout.domain.errors import BuildFailed

_BATCH = 2 << 20  # bytes that are hashed together
_AHEAD = 4  # batches that wait for their hashes


@dataclass(frozen=True)
class DataSource:
    """The index of some files, and where their content is now (in the order of the index)."""

    index: DataIndex
    sources: tuple[Path, ...]

    def read(self, wanted: Iterable[ChunkRef]) -> Iterator[tuple[ChunkRef, bytes]]:
        """The content of chunks. Raises `BuildFailed` naming a file that has changed since it was indexed."""
        open_number, file = -1, None
        try:
            for chunk in wanted:
                number, offset = self.index.places[chunk][0]
                if file is None or number != open_number:
                    if file is not None:
                        file.close()
                        file = None
                    open_number = number
                    file = open_regular(self._entry(number))
                content = os.pread(file.fileno(), chunk.length, offset)
                if hashlib.sha256(content).digest() != chunk.digest:
                    raise changed(self._entry(number))
                yield chunk, content
        except OSError as error:
            raise BuildFailed(f"{self.index.files[open_number].path} cannot be read: {error.strerror}") from error
        finally:
            if file is not None:
                file.close()

    def _entry(self, number: int) -> FileEntry:
        return FileEntry(self.index.files[number].path, self.sources[number])


def index_files(entries: Iterable[FileEntry], cache: ChunkCache) -> DataSource:
    """Cut and hash the files. What the cache knows to be unchanged is not read.

    Raises `BuildFailed` naming a file that is not regular, cannot be read, changes meanwhile or has no UTF-8 name.
    """
    files, sources = [], []
    with ThreadPoolExecutor(1, thread_name_prefix="hash") as pool:
        for entry in sorted(entries, key=lambda file: os.fsencode(file.path)):
            check_name(entry)
            files.append(_index_file(entry, cache, pool))
            sources.append(entry.source)
    return DataSource(DataIndex(tuple(files)), tuple(sources))


def _index_file(entry: FileEntry, cache: ChunkCache, pool: ThreadPoolExecutor) -> FileChunks:
    try:
        with open_regular(entry) as file:
            before = os.fstat(file.fileno())
            chunks = cache.find(entry.path, before)
            if chunks is None:
                chunks = tuple(_hash_chunks(file, pool))
                after = os.fstat(file.fileno())
                if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                    raise changed(entry)
                if sum(chunk.length for chunk in chunks) != before.st_size:
                    raise changed(entry)
                cache.add(entry.path, entry.source, before, chunks)
    except OSError as error:
        raise BuildFailed(f"{entry.path} cannot be read: {error.strerror}") from error
    return FileChunks(entry.path, bool(before.st_mode & stat.S_IXUSR), chunks)


def _hash_chunks(file: IO[bytes], pool: ThreadPoolExecutor) -> Iterator[ChunkRef]:
    """Cut in this thread, hash in another: both work outside of the interpreter's lock."""
    waiting: deque[Future[list[ChunkRef]]] = deque()
    for batch in _batches(file):
        waiting.append(pool.submit(_hash_batch, batch))
        if len(waiting) > _AHEAD:
            yield from waiting.popleft().result()
    for future in waiting:
        yield from future.result()


def _batches(file: IO[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for chunk in cut(file):
        batch.append(chunk)
        size += len(chunk)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _hash_batch(batch: list[bytes]) -> list[ChunkRef]:
    return [ChunkRef(hashlib.sha256(chunk).digest(), len(chunk)) for chunk in batch]
