"""Reports that wait, in a file: they survive the end of the process, and are sent by the next.

One JSON document a line: `[number, report]` for a report, and a number for "all up to this one are done with". Every entry
begins with a line feed, so that one that a crash cut off spoils no other.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path

from turnout.sdk.reports import Report

LARGEST = 8 << 20  # bytes; a longer journal is written anew with what still waits
_MOST_PROCESSES = 64


class Journal:
    """The journal of this process: the named file, or where another process has it, one beside it. Raises `OSError`."""

    def __init__(self, path: str | os.PathLike[str], *, largest: int = LARGEST) -> None:
        self._descriptor, self._path = _open_free(Path(path))
        self._largest = largest
        self._number = 0
        self._size = 0

    def read(self, limit: int) -> list[tuple[int, Report]]:
        """What an earlier process left, with the numbers; at most the newest `limit`."""
        waiting: dict[int, Report] = {}
        done = 0
        content = self._path.read_bytes()
        for line in content.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            match entry:
                case int():
                    done = max(done, entry)
                case [int(number), dict(report)]:
                    waiting[number] = report
        self._size = len(content)
        self._number = max([done, *waiting])
        return [(number, report) for number, report in waiting.items() if number > done][-limit:]

    def add(self, report: Report) -> int:
        """Write a report down and return its number."""
        self._number += 1
        self._write([[self._number, report]])
        return self._number

    def settle(self, last: int, waiting: Iterable[tuple[int, Report]]) -> None:
        """Note that everything up to a number is done with. `waiting`: what is not."""
        left = [[number, report] for number, report in waiting]
        if not left:
            os.ftruncate(self._descriptor, 0)
            self._size = 0
        elif self._size > self._largest:
            self._renew(left)
        else:
            self._write([last])

    def close(self) -> None:
        """Let go of the file; an empty one is removed."""
        with contextlib.suppress(OSError):
            if os.fstat(self._descriptor).st_size == 0:
                self._path.unlink()
        self.abandon()

    def abandon(self) -> None:
        """Let go of the file as it is: in a forked child it belongs to the parent, which keeps its lock."""
        os.close(self._descriptor)

    def _write(self, entries: Iterable[object]) -> None:
        content = "".join(f"\n{json.dumps(entry)}" for entry in entries).encode()
        if os.write(self._descriptor, content) < len(content):
            raise OSError(errno.ENOSPC, "the disk is full")
        self._size += len(content)

    def _renew(self, entries: Iterable[object]) -> None:
        """The whole file anew; a crash meanwhile leaves the old one."""
        temporary = self._path.with_name(f"{self._path.name}.new")
        before = self._descriptor
        self._descriptor = _open_locked(temporary, os.O_TRUNC)
        self._size = 0
        try:
            self._write(entries)
            temporary.rename(self._path)
        except OSError:
            os.close(self._descriptor)
            self._descriptor = before
            raise
        os.close(before)


def _open_free(path: Path) -> tuple[int, Path]:
    """The first file of `path`, `path.2`, `path.3` … that no other process has, and lock it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in range(1, _MOST_PROCESSES + 1):
        own = path if number == 1 else path.with_name(f"{path.name}.{number}")
        while True:
            try:
                descriptor = _open_locked(own)
            except BlockingIOError:
                break
            if _is_at(descriptor, own):
                return descriptor, own
            os.close(descriptor)  # its last holder has removed or renewed it meanwhile
    raise OSError(f"{_MOST_PROCESSES} processes have journals at {path}")


def _open_locked(path: Path, flags: int = 0) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _is_at(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False
