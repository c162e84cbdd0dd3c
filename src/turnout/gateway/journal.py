"""Where a gateway process writes its calls down: one line a call, appended to a file of its own until a server takes it in.

`<name>.jsonl` is written, `<name>.jsonl.000001` and so on are full and grow no more. Whoever reads them removes those that
are read; all files of the folder together stay under a bound, for which the oldest are emptied. (Emptied, not removed: the
reader knows a file by its inode, which no new file may have as long as the reader may ask for the old one.)
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import threading
from dataclasses import replace
from pathlib import Path

from turnout.domain.call_lines import call_to_line, lost_from_line, lost_to_line, route_to_line
from turnout.domain.calls import Call, RouteChange, ToolCall
from turnout.gateway.journal_files import read_mark
from turnout.line_log import parse_cursor

log = logging.getLogger(__name__)

LARGEST_FILE = 32 << 20  # bytes
MOST_TOGETHER = 1 << 30  # bytes in all files of the folder
LONGEST_LINE = 1 << 20  # bytes; of a longer one what was captured is left out
_MOST_PROCESSES = 64  # of one name


class Journal:
    """The journal of this process: the file of its name, or where another process has it, one beside it.

    Nothing in it ever raises: a call that cannot be written down is counted, and a line says so as soon as one can be
    written. `lost` is how many were.
    """

    def __init__(self, folder: Path, name: str, *, largest: int = LARGEST_FILE, most: int = MOST_TOGETHER) -> None:
        self.lost = 0
        self._folder = folder
        self._name = name
        self._largest = largest
        self._most = most
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._path = folder
        self._size = 0
        self._torn = False  # whether the file ends in a part of a line
        self._unsaid = 0  # calls that are lost and in no line

    def write(self, call: Call) -> None:
        """Append a call. With one write of the operating system, so that a crash tears no other line."""
        try:
            line = _build_line(call)
        except (ValueError, TypeError) as error:
            log.warning("a call cannot be written down: %s", error)
            line = b""
        with self._lock:
            if not line or not self._append(line):
                self.lost += 1
                self._unsaid += 1

    def tell(self, change: RouteChange) -> None:
        """Append what became of a route. One that cannot be written down is not told of."""
        with self._lock:
            self._append(route_to_line(change))

    def close(self) -> None:
        """Say what was lost, and let go of the file."""
        with self._lock:
            if self._unsaid:
                self._append(b"")
            self._let_go()

    def _append(self, line: bytes) -> bool:
        try:
            self._put(line)
        except OSError as error:
            if not self._unsaid:
                log.warning("calls are lost to the journal: %s", error)
            self._let_go()
            return False
        return True

    def _put(self, line: bytes) -> None:
        """Raises `OSError`."""
        descriptor = self._open() if self._descriptor is None else self._descriptor
        if self._size and self._size + len(line) > self._largest:
            descriptor = self._rotate()
            self._make_room()
        content = b"\n" * self._torn + (lost_to_line(self._unsaid) if self._unsaid else b"") + line
        written = os.write(descriptor, content)
        self._size += written
        self._torn = written < len(content)
        if self._torn:
            raise OSError("the disk is full")
        self._unsaid = 0

    def _open(self) -> int:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._descriptor, self._path = _open_free(self._folder, self._name)
        self._size = os.fstat(self._descriptor).st_size
        self._torn = self._size > 0 and os.pread(self._descriptor, 1, self._size - 1) != b"\n"
        return self._descriptor

    def _let_go(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = None

    def _rotate(self) -> int:
        """Go on in a new file; the old one has its number, and grows no more."""
        number = 1 + max((_number(path) for path in self._folder.glob(f"{self._path.name}.*")), default=0)
        self._path.rename(self._path.with_name(f"{self._path.name}.{number:06d}"))
        self._let_go()
        return self._open()

    def _make_room(self) -> None:
        """Empty the oldest full files, whoever wrote them, until another full one fits."""
        full = sorted(
            (stat.st_mtime_ns, path, stat.st_size)
            for path in self._folder.glob("*")
            if (stat := _stat(path)) is not None
        )
        together = sum(size for _, _, size in full)
        for _, path, size in full:
            if together + self._largest <= self._most:
                return
            if size == 0 or not _number(path):
                continue
            lost, said = _empty(path)
            together -= size
            self.lost += lost
            self._unsaid += lost + said
            log.warning("the journal is full: %s is given up, with %d calls", path.name, lost)


def _build_line(call: Call) -> bytes:
    line = call_to_line(call)
    if len(line) > LONGEST_LINE:
        call = replace(call, arguments=None, result=None) if isinstance(call, ToolCall) else replace(call, answer=None)
        line = call_to_line(call)
    if len(line) > LONGEST_LINE:
        line = call_to_line(replace(call, error=call.error[:1_000]))
    if len(line) > LONGEST_LINE:
        raise ValueError(f"its line has {len(line):,} bytes")
    return line


def _open_free(folder: Path, name: str) -> tuple[int, Path]:
    """The first of `NAME.jsonl`, `NAME.2.jsonl` … that no other process has, locked. Raises `OSError`.

    While a process is replaced by another of its name, both write.
    """
    for number in range(1, _MOST_PROCESSES + 1):
        path = folder / (f"{name}.jsonl" if number == 1 else f"{name}.{number}.jsonl")
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                break
            if _is_at(descriptor, path):
                return descriptor, path
            os.close(descriptor)  # it was rotated meanwhile
    raise OSError(f"{_MOST_PROCESSES} processes have journals of the name {name}")


def _is_at(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _number(path: Path) -> int:
    """Of a full file; 0 for one that is being written, and for anything else."""
    found = re.search(r"\.jsonl\.(\d{6,})$", path.name)
    return int(found[1]) if found else 0


def _stat(path: Path) -> os.stat_result | None:
    with contextlib.suppress(FileNotFoundError):
        return path.stat()
    return None


def _read_up_to(path: Path) -> int:
    """How many bytes of a full file its reader has."""
    with contextlib.suppress(OSError, ValueError):
        inode, offset = parse_cursor(read_mark(path.with_suffix("")).read_text(encoding="ascii"))
        return offset if inode == path.stat().st_ino else 0
    return 0


def _empty(path: Path) -> tuple[int, int]:
    """How many calls are gone with what nobody read of a file, and how many it said were lost before. Raises `OSError`."""
    with contextlib.suppress(FileNotFoundError):  # a reader was quicker
        lines = path.read_bytes()[_read_up_to(path) :].splitlines()
        os.truncate(path, 0)
        said = [lost for line in lines if (lost := lost_from_line(line))]
        return len(lines) - len(said), sum(said)
    return 0, 0
