"""Extract the archives that `pack` writes, and nothing else.

The reader is stricter than a general one on purpose: plain files with a path and a size are all that it knows, so an archive
from elsewhere cannot write outside of its folder, bring links or devices, or grow beyond its declared size.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from turnout.artifacts.archive import BLOCK, CHUNK
from turnout.artifacts.faults import disk_error, disk_errors
from turnout.domain.errors import UnsafeArchive
from turnout.manifest.values import path_fault

MAX_FILES = 1_000_000
_ABOUT_FILES = frozenset({b"mtime", b"atime", b"ctime", b"uid", b"gid", b"uname", b"gname"})
_LONGEST_EXTENSION = 64 << 10


def unpack(chunks: Iterable[bytes], target: Path, *, size: int, foreign: bool = False) -> None:
    """Extract an archive of `size` bytes into a folder; files become read-only (0444, 0555 when executable).

    `foreign`: other tools may have written it, who put folders, `./` and times around the files: these are passed over.

    Raises `UnsafeArchive` for an absolute path, `..`, a link, a device, a path that is already there, for more bytes or
    files than allowed, and for what is no such archive; `StorageFull`. What was extracted until then stays: unpack into
    a folder that can be dropped. The chunks are read to their end, so that a store can verify them.
    """
    stream = _BoundedStream(chunks, size)
    for count, member in enumerate(_members(stream, foreign=foreign), start=1):
        if count > MAX_FILES:
            raise UnsafeArchive(f"the archive holds more than {MAX_FILES} files")
        _extract(stream, member, target)
    stream.finish()


class ArchivedFile(NamedTuple):
    """A file of an archive that is being read. `content` gives its bytes, until the next file is asked for."""

    path: str
    size: int
    executable: bool
    content: Iterator[bytes]


def read_archive(chunks: Iterable[bytes], *, size: int) -> Iterator[ArchivedFile]:
    """The files of an archive of `size` bytes, as they come; none is held in memory. Raises `UnsafeArchive` as `unpack`.

    The chunks are read to their end, so that a store can verify them.
    """
    stream = _BoundedStream(chunks, size)
    for member in _members(stream):
        content = _content(stream, member.size)
        yield ArchivedFile(member.name, member.size, bool(member.mode & stat.S_IXUSR), content)
        for _ in content:
            pass
        stream.exactly(-member.size % BLOCK)
    stream.finish()


class _BoundedStream:
    """Chunks, read in exact amounts, up to a declared number of bytes."""

    def __init__(self, chunks: Iterable[bytes], size: int) -> None:
        self._chunks = iter(chunks)
        self._left = size
        self._pending = memoryview(b"")

    def exactly(self, size: int) -> bytes:
        """The next bytes. Raises `UnsafeArchive` if there are fewer."""
        parts: list[memoryview] = []
        while size:
            if not self._pending and not self._advance():
                raise UnsafeArchive("the archive ends in the middle")
            part, self._pending = self._pending[:size], self._pending[size:]
            size -= len(part)
            parts.append(part)
        return b"".join(parts)

    def finish(self) -> None:
        """Read to the end. Only padding may be left."""
        more = True
        while more:
            if any(self._pending):
                raise UnsafeArchive("the archive holds something behind its end")
            more = self._advance()

    def _advance(self) -> bool:
        chunk = next((chunk for chunk in self._chunks if chunk), b"")
        self._left -= len(chunk)
        if self._left < 0:
            raise UnsafeArchive("the archive is larger than declared")
        self._pending = memoryview(chunk)
        return bool(chunk)


def _members(stream: _BoundedStream, *, foreign: bool = False) -> Iterator[tarfile.TarInfo]:
    """The files of the archive; the content of each must be read before the next is asked for."""
    passed_over = _ABOUT_FILES if foreign else frozenset()
    while any(block := stream.exactly(BLOCK)):
        member = _parse_header(block)
        if member.type == tarfile.XHDTYPE:
            extension = _parse_extension(_padded(stream, member.size, _LONGEST_EXTENSION), passed_over)
            member = _parse_header(stream.exactly(BLOCK))
            member.name = extension.get("path", member.name)
            member.size = _number(extension["size"]) if "size" in extension else member.size
        if foreign:
            member.name = member.name.removeprefix("./")
            if member.type == tarfile.DIRTYPE and not member.size:
                continue
            if member.type == tarfile.AREGTYPE:
                member.type = tarfile.REGTYPE
        if member.type != tarfile.REGTYPE:
            raise UnsafeArchive(f"the archive holds {member.name!r}, which is not a plain file")
        yield member


def _parse_header(block: bytes) -> tarfile.TarInfo:
    try:
        member = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.TarError, ValueError) as error:
        raise UnsafeArchive(f"this is no archive of a release: {error}") from None
    if member.size < 0:
        raise UnsafeArchive(f"the archive gives {member.name!r} a size below zero")
    return member


def _parse_extension(content: bytes, passed_over: frozenset[bytes]) -> dict[str, str]:
    """The records `LENGTH KEY=VALUE\\n` of an extended header that `pack` can write; some others are passed over."""
    records: dict[str, str] = {}
    while content:
        digits, blank, _ = content.partition(b" ")
        length = _number(digits.decode("ascii", "replace"))
        record, content = content[len(digits) + 1 : length], content[length:]
        key, equals, value = record.partition(b"=")
        if blank and equals and key in passed_over:
            continue
        if not blank or not equals or not value.endswith(b"\n") or key not in (b"path", b"size"):
            raise UnsafeArchive("the archive holds an extended header that releases do not have")
        try:
            records[key.decode()] = value[:-1].decode()
        except UnicodeDecodeError:
            raise UnsafeArchive("the archive holds a name that is not UTF-8") from None
    return records


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise UnsafeArchive("the archive holds an extended header that cannot be read")
    return int(text)


def _padded(stream: _BoundedStream, size: int, limit: int) -> bytes:
    if size > limit:
        raise UnsafeArchive("the archive holds an extended header that is too long")
    return stream.exactly(size + -size % BLOCK)[:size]


def _extract(stream: _BoundedStream, member: tarfile.TarInfo, target: Path) -> None:
    fault = "its name holds a NUL" if "\0" in member.name else path_fault(member.name)
    if fault or member.name != os.path.normpath(member.name):
        raise UnsafeArchive(f"the archive holds {member.name!r}: {fault or 'its path is not in plain form'}")
    descriptor = create_file(member.name, target)
    with disk_errors(target), os.fdopen(descriptor, "wb") as file:
        for part in _content(stream, member.size):
            file.write(part)
        os.fchmod(file.fileno(), 0o555 if member.mode & stat.S_IXUSR else 0o444)
        file.flush()
        os.fsync(file.fileno())
    stream.exactly(-member.size % BLOCK)


def _content(stream: _BoundedStream, size: int) -> Iterator[bytes]:
    left = size
    while left:
        part = stream.exactly(min(left, CHUNK))
        left -= len(part)
        yield part


def create_file(name: str, target: Path) -> int:
    """A new file below a folder, open for writing. Raises `UnsafeArchive` when something is there already."""
    path = target / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise UnsafeArchive(f"the archive holds {name!r} twice, or over what is already there") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UnsafeArchive(f"the archive holds {name[:80]!r}…, a name that is too long here") from None
        raise disk_error(error, target) from error
