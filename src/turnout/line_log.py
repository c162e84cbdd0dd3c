"""Files of lines that another process writes and rotates: read line by line from where the reader left off.

A cursor is `inode:offset`, so it stays right when the file is renamed. Files that were rotated have the name of the log with
`.000001` and so on behind it, and grow no more once there is a newer one.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

MOST_AT_ONCE = 16 << 20  # bytes; one line can be large
NOTHING_YET = "0:0"
_WRITTEN = 1 << 62  # the number of the file that is being written: it comes last
_TRIES = 5


@dataclass(frozen=True, slots=True)
class LineFile:
    """One file of a log, as it was when the log was looked at. `size` in bytes."""

    path: Path
    inode: int
    size: int
    number: int


@dataclass(frozen=True, slots=True)
class Lines:
    """Complete lines without their line feeds, the cursor after them, and the inode of the file that it names.

    `ended`: nothing was left behind them.
    """

    lines: tuple[bytes, ...]
    cursor: str
    inode: int | None
    ended: bool


def find_files(path: Path) -> list[LineFile]:
    """All files of a log, oldest first; the one being written last."""
    found = _look(path)
    for _ in range(_TRIES):  # a file that is renamed meanwhile may be missed by one look
        again = _look(path)
        if [file.inode for file in again] == [file.inode for file in found]:
            return again
        found = again
    return found


def read_lines(path: Path, cursor: str | None, limit: int) -> Lines:
    """At most `limit` lines after a cursor. One that names no kept file starts again from the oldest: nothing is skipped."""
    for _ in range(_TRIES):
        try:
            return _read_on(find_files(path), cursor, limit)
        except FileNotFoundError:  # rotated or removed since it was looked for
            continue
    return Lines((), cursor or NOTHING_YET, None, ended=False)


def remove_read(path: Path, inode: int | None, kept: int = 0) -> None:
    """Remove the files older than the one with this inode, but for the newest `kept` of them."""
    files = find_files(path)
    at = next((index for index, file in enumerate(files) if file.inode == inode), 0)
    for file in files[: max(at - kept, 0)]:
        file.path.unlink(missing_ok=True)


def parse_cursor(cursor: str | None) -> tuple[int, int]:
    """Inode and offset; zeros for what is no cursor."""
    inode, _, offset = (cursor or NOTHING_YET).partition(":")
    return (int(inode), int(offset)) if inode.isdecimal() and offset.isdecimal() else (0, 0)


def _look(path: Path) -> list[LineFile]:
    files = []
    for found in path.parent.glob(f"{path.name}*"):
        suffix = found.name.removeprefix(path.name)
        if suffix and not re.fullmatch(r"\.\d{6,}", suffix):
            continue
        try:
            stat = found.stat()
        except FileNotFoundError:
            continue
        files.append(LineFile(found, stat.st_ino, stat.st_size, int(suffix[1:]) if suffix else _WRITTEN))
    return sorted(files, key=lambda file: file.number)


def _read_on(files: list[LineFile], cursor: str | None, limit: int) -> Lines:
    if not files:
        return Lines((), cursor or NOTHING_YET, None, ended=True)
    inode, offset = parse_cursor(cursor)
    at = next((index for index, file in enumerate(files) if file.inode == inode), None)
    if at is None or offset > files[at].size:
        at, offset = at or 0, 0
    lines, offset, ended = _read_file(files[at], offset, limit)
    # One that has a successor grows no more.
    while not lines and at + 1 < len(files):
        at += 1
        lines, offset, ended = _read_file(files[at], 0, limit)
    return Lines(tuple(lines), f"{files[at].inode}:{offset}", files[at].inode, ended and at + 1 == len(files))


def _read_file(found: LineFile, offset: int, limit: int) -> tuple[list[bytes], int, bool]:
    """At most `limit` complete lines, the offset after them, and whether they are the file's last.

    Raises `FileNotFoundError` where it is another file now.
    """
    lines: list[bytes] = []
    end = offset + MOST_AT_ONCE
    with found.path.open("rb") as file:
        if os.fstat(file.fileno()).st_ino != found.inode:
            raise FileNotFoundError(found.path)
        file.seek(offset)
        while len(lines) < limit and offset < end:
            if not (line := file.readline()).endswith(b"\n"):
                return lines, offset, True
            lines.append(line.rstrip(b"\n"))
            offset += len(line)
    return lines, offset, False
