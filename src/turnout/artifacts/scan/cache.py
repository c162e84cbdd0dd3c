"""What earlier scans found, so that a file that did not change is not scanned again.

A file counts as unchanged by size, times, inode and device. The cache holds places, rules and tags, no values; without it
the findings are the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from turnout.artifacts.scan.scanner import Hit
from turnout.durable import replace_file

Known = Mapping[str, tuple[str, tuple[Hit, ...]]]  # path in the release → (signature, hits)

_Rows = tuple[tuple[str, int, str, int], ...]
_Content = dict[str, dict[str, tuple[str, _Rows]]]  # scanner → path → (signature, (member, line, rule, tag)…)
_CONTENT: TypeAdapter[_Content] = TypeAdapter(_Content)
_SETTLED = 2_000_000_000  # nanoseconds: a file that was written just now may be written again under the same time


class ScanCache:
    """The cache in a file; with None there is none. A file that is damaged or from elsewhere counts as empty."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def read(self, scanner: str) -> Known:
        """What a scanner of this identity found. The hits' names are the paths in the release."""
        known = self._read().get(scanner, {})
        return {path: (sign, tuple(Hit(path, *row) for row in rows)) for path, (sign, rows) in known.items()}

    def write(self, found: Mapping[str, Known]) -> None:
        """Replace the content: scanner → what it found. A cache that cannot be written is no fault of the build."""
        if self._path is None:
            return
        content: _Content = {
            scanner: {
                path: (sign, tuple((hit.member, hit.line, hit.rule, hit.tag) for hit in hits))
                for path, (sign, hits) in known.items()
            }
            for scanner, known in found.items()
        }
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._path, _CONTENT.dump_json(content))

    def _read(self) -> _Content:
        if self._path is None:
            return {}
        try:
            return _CONTENT.validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return {}


def file_signature(status: os.stat_result) -> str:
    """What tells whether a file is the same as before."""
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}:{status.st_dev}"


def is_settled(status: os.stat_result, scanned_at_ns: int) -> bool:
    """Whether a file was last written long enough before it was scanned that a later change shows in its times."""
    return status.st_mtime_ns < scanned_at_ns - _SETTLED
