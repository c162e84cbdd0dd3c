"""Files → the one tar archive that they make on any machine.

The archive holds regular files only, sorted by the bytes of their paths, with nothing of the machine that packed them: no
times, owners or permissions beyond "executable".
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from turnout.domain.errors import BuildFailed

CHUNK = 1 << 20
BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a release: its path there, with slashes, and where its content is now."""

    path: str
    source: Path


def pack(files: Iterable[FileEntry]) -> Iterator[bytes]:
    """The archive in chunks; no file is held in memory as a whole.

    Raises `BuildFailed` naming a file that is not regular, cannot be read, changes meanwhile or has no UTF-8 name.
    """
    for entry in sorted(files, key=lambda file: os.fsencode(file.path)):
        yield from _packed_file(entry)
    yield END


def write_member(path: str, size: int, content: Iterable[bytes]) -> Iterator[bytes]:
    """One file of an archive that is not executable, and of which nothing but its content is on this machine."""
    info = tarfile.TarInfo(path)
    info.size = size
    yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
    yield from content
    yield bytes(-size % BLOCK)


def member_size(path: str, size: int) -> int:
    """The bytes that `write_member` makes of it."""
    return len(tarfile.TarInfo(path).tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")) + size + -size % BLOCK


END = bytes(2 * BLOCK)


def _packed_file(entry: FileEntry) -> Iterator[bytes]:
    try:
        with open_regular(entry) as file:
            before = os.fstat(file.fileno())
            yield _header(entry, before)
            yield from _content(entry, file, before.st_size)
            after = os.fstat(file.fileno())
    except OSError as error:
        raise BuildFailed(f"{entry.path} cannot be read: {error.strerror}") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise changed(entry)


def open_regular(entry: FileEntry) -> IO[bytes]:
    """Open without waiting, so that a pipe cannot hold up the build. Raises `OSError`, `BuildFailed`."""
    descriptor = os.open(entry.source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BuildFailed(
            f"{entry.path} is not a regular file", hint="remove it, or leave it out with exclude in [code]"
        )
    return os.fdopen(descriptor, "rb", buffering=0)


def _header(entry: FileEntry, status: os.stat_result) -> bytes:
    check_name(entry)
    info = tarfile.TarInfo(entry.path)
    info.size = status.st_size
    info.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _content(entry: FileEntry, file: IO[bytes], size: int) -> Iterator[bytes]:
    left = size
    while left:
        chunk = file.read(min(CHUNK, left))
        if not chunk:
            raise changed(entry)
        left -= len(chunk)
        yield chunk
    if file.read(1):
        raise changed(entry)
    yield bytes(-size % BLOCK)


def check_name(entry: FileEntry) -> None:
    """Raise `BuildFailed` for a name that is not UTF-8."""
    try:
        entry.path.encode()
    except UnicodeEncodeError:
        raise BuildFailed(f"the name {os.fsencode(entry.path)!r} is not UTF-8", hint="rename this file") from None


def changed(entry: FileEntry) -> BuildFailed:
    """What to raise for a file that something writes to while it is read."""
    return BuildFailed(f"{entry.path} changed while it was read", hint="build again when nothing writes to the folder")
