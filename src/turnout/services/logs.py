"""What the replicas of a ring print."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from turnout.domain.policy import Verb
from turnout.schemas import LogLine
from turnout.services.office import Actor, Office, check_ring

_BLOCK = 1 << 20  # of each file, at most this much is looked at for its last lines


@dataclass(slots=True)
class LogTail:
    """The last lines of a ring's logs, then whatever is added. Read it again to follow it."""

    office: Office
    agent: str
    ring: str
    lines: int
    _offsets: dict[tuple[int, int], int] = field(default_factory=dict)  # by device and inode: rotation renames files
    _begun: bool = False

    def read(self) -> Iterator[LogLine]:
        """New complete lines since the last call; the first call gives the last `lines` of each file."""
        seen: set[tuple[int, int]] = set()
        for path in self.office.runtime.log_files(self.agent, self.ring):
            try:
                with path.open("rb") as file:
                    status = os.fstat(file.fileno())
                    key = (status.st_dev, status.st_ino)
                    seen.add(key)
                    yield from self._read_file(path, file.fileno(), key, status.st_size)
            except FileNotFoundError:
                continue  # rotated away meanwhile
        self._begun = True
        self._offsets = {key: offset for key, offset in self._offsets.items() if key in seen}  # inodes are used again

    def _read_file(self, path: Path, descriptor: int, key: tuple[int, int], size: int) -> Iterator[LogLine]:
        """Of a file that was there at the first call its last lines, of one that came later everything."""
        start = self._offsets.get(key, 0 if self._begun else max(0, size - _BLOCK))
        content = os.pread(descriptor, _BLOCK, start)
        complete = content[: content.rfind(b"\n") + 1]
        if not complete and len(content) == _BLOCK:
            complete = content  # one endless line must not hold up the rest
        self._offsets[key] = start + len(complete)
        lines = complete.decode(errors="replace").splitlines()
        if not self._begun:
            lines = lines[-self.lines :] if self.lines else []
        for line in lines:
            yield {"replica": path.parent.name, "line": line}


def open_logs(office: Office, actor: Actor, agent: str, ring: str, lines: int) -> LogTail:
    """The logs of a ring. Raises `NotFound` for a ring that is not known."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        check_ring(snapshot, agent, ring)
    return LogTail(office, agent, ring, lines)
