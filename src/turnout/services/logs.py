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
    _offsets: dict[tuple[Path, int], int] = field(default_factory=dict)

    def read(self) -> Iterator[LogLine]:
        """New complete lines since the last call; the first call gives the last `lines` of each file."""
        for path in self.office.runtime.log_files(self.agent, self.ring):
            try:
                with path.open("rb") as file:
                    yield from self._read_file(path, file.fileno())
            except FileNotFoundError:
                continue  # rotated away meanwhile

    def _read_file(self, path: Path, descriptor: int) -> Iterator[LogLine]:
        status = os.fstat(descriptor)
        key = (path, status.st_ino)
        first = key not in self._offsets
        start = max(0, status.st_size - _BLOCK) if first else self._offsets[key]
        content = os.pread(descriptor, _BLOCK, start)
        complete = content[: content.rfind(b"\n") + 1]
        self._offsets[key] = start + len(complete)
        lines = complete.decode(errors="replace").splitlines()
        for line in lines[-self.lines :] if first and self.lines else ([] if first else lines):
            yield {"replica": path.parent.name, "line": line}


def open_logs(office: Office, actor: Actor, agent: str, ring: str, lines: int) -> LogTail:
    """The logs of a ring. Raises `NotFound` for a ring that is not known."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        check_ring(snapshot, agent, ring)
    return LogTail(office, agent, ring, lines)
