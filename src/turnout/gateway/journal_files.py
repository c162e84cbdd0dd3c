"""`ports.CallLog` over the folder of journals: one log a gateway process, read by the server."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from turnout.line_log import parse_cursor, read_lines, remove_read
from turnout.ports import AccessLogChunk

_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,40}\.jsonl)(\.\d{6,})?")


class JournalFiles:
    """What `Journal` writes. Files that are full are removed once they are read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> tuple[str, ...]:
        """See `ports.CallLog`."""
        found = (_NAME.fullmatch(path.name) for path in self._folder.glob("*"))
        return tuple(sorted({match[1] for match in found if match}))

    def read(self, name: str, cursor: str | None, limit: int = 2_000) -> AccessLogChunk:
        """See `ports.CallLog`."""
        read = read_lines(self._folder / name, cursor, limit)
        return AccessLogChunk(read.lines, read.cursor, read.ended)

    def forget(self, name: str, cursor: str) -> None:
        """See `ports.CallLog`. The file that the cursor names stays: no other can have its inode meanwhile."""
        inode, _ = parse_cursor(cursor)
        with contextlib.suppress(OSError):  # for the gateway, which gives up what nobody has read when there is no room
            read_mark(self._folder / name).write_text(cursor, encoding="ascii")
        remove_read(self._folder / name, inode)


def read_mark(path: Path) -> Path:
    """Where a reader notes how far it has read a log."""
    return path.with_name(f"{path.name}.read")
