"""What was read before and has not changed since: the chunks of files by path, size, times and inode.

The cache only saves time. A file that changed without a trace in any of these would be taken for unchanged, so a build
without the cache gives the digest that counts. A file that was written just before it was read is not trusted: a second
write may have the same time.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from turnout.artifacts.chunks.cut import MAX_CHUNK, SCHEME
from turnout.artifacts.chunks.index import ChunkRef
from turnout.durable import replace_file

_SETTLED = 2_000_000_000  # nanoseconds without a change until a file's times tell its versions apart
_VERSION = f"1 {SCHEME}"


class ChunkCache:
    """A cache in one file; without a file it is always empty. `clock`: nanoseconds since the epoch.

    One that is not `trusted` is not read, and written anew.
    """

    def __init__(self, path: Path | None, clock: Callable[[], int] = time.time_ns, *, trusted: bool = True) -> None:
        self._path = path
        self._clock = clock
        self._known = _load(path) if path and trusted else {}
        self._used: dict[str, Any] = {}
        self._added: dict[str, Path] = {}

    def find(self, path: str, status: os.stat_result) -> tuple[ChunkRef, ...] | None:
        """The chunks of a file that is as it was when they were added."""
        entry = self._known.get(path)
        try:
            if entry is None or entry["file"] != _identity(status):
                return None
            digests, lengths = bytes.fromhex(entry["digests"]), entry["lengths"]
            if any(type(length) is not int or not 0 < length <= MAX_CHUNK for length in lengths):
                return None
            chunks = tuple(ChunkRef(digests[32 * i : 32 * i + 32], length) for i, length in enumerate(lengths))
        except (KeyError, TypeError, ValueError):
            return None
        if len(digests) != 32 * len(chunks) or sum(lengths) != status.st_size:
            return None
        self._used[path] = entry
        return chunks

    def add(self, path: str, source: Path, status: os.stat_result, chunks: tuple[ChunkRef, ...]) -> None:
        """Remember the chunks of a file, whose status was taken before it was read."""
        if status.st_mtime_ns + _SETTLED > self._clock():
            return
        self._added[path] = source
        self._used[path] = {
            "file": _identity(status),
            "digests": b"".join(chunk.digest for chunk in chunks).hex(),
            "lengths": [chunk.length for chunk in chunks],
        }

    def save(self) -> None:
        """Write what was found or added since the cache was opened; everything else is forgotten.

        What else the build does with a file, such as linking it for the scan, changes its ctime: the one that counts is
        that of now.
        """
        for path, source in self._added.items():
            before = self._used[path]["file"]
            now = _identity_of(source)
            if now is None or _without_ctime(now) != _without_ctime(before):
                del self._used[path]
            else:
                self._used[path]["file"] = now
        if self._path is not None and self._used != self._known:
            with suppress(OSError):  # nothing depends on it
                replace_file(self._path, json.dumps({"version": _VERSION, "files": self._used}).encode())


def _identity(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino]


def _identity_of(source: Path) -> list[int] | None:
    try:
        return _identity(source.stat())
    except OSError:
        return None


def _without_ctime(identity: list[int]) -> list[int]:
    return identity[:2] + identity[3:]


def _load(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        document = json.loads(path.read_bytes())
        if document["version"] == _VERSION and isinstance(document["files"], dict):
            return document["files"]
    return {}
