"""The proxy's access log: the durable record of every request. Files are removed once they have been read to their end."""

from __future__ import annotations

import base64
import binascii
import json
import re
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from turnout.domain.models import FULL_WEIGHT, Arm, Digest, Task
from turnout.line_log import find_files, read_lines, remove_read
from turnout.ports import AccessLogChunk
from turnout.traffic.begun import BEGUN

LARGEST_FILE = 64 << 20  # bytes
KEPT = 2  # rotated files that stay although they have been read

LONGEST_REPORT = 1_000  # characters of the header

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class EnvoyAccessLog:
    """A `ports.AccessLog` over the file that Envoy writes. `reopen` makes Envoy go on in a new file."""

    def __init__(
        self, path: Path, reopen: Callable[[], None], *, largest: int = LARGEST_FILE, kept: int = KEPT
    ) -> None:
        self._path = path
        self._reopen = reopen
        self._largest = largest
        self._kept = kept
        self._lock = threading.Lock()
        self._reading: int | None = None  # inode of the file that the last cursor named

    def read(self, cursor: str | None, limit: int = 5_000) -> AccessLogChunk:
        """See `ports.AccessLog`. A cursor that names no kept file starts again from the oldest: nothing is skipped."""
        with self._lock:
            read = read_lines(self._path, cursor, limit)
            self._reading = read.inode
            return AccessLogChunk(read.lines, read.cursor, read.ended)

    def rotate(self) -> bool:
        """Begin a new file if this one has grown large, and remove those that were read. True when one was begun.

        Raises `RouterUnavailable` when Envoy cannot be asked; the next call asks again.
        """
        with self._lock:
            remove_read(self._path, self._reading, self._kept)
            files = find_files(self._path)
            if not files:
                return False
            newest = files[-1]
            if newest.path != self._path:  # renamed earlier; Envoy has written nothing since
                self._reopen()
                return False
            if newest.size < self._largest:
                return False
            number = 1 + max((file.number for file in files[:-1]), default=0)
            newest.path.rename(newest.path.with_name(f"{self._path.name}.{number:06d}"))
            self._reopen()
            return True


def parse_access_line(line: bytes) -> Task | None:
    """The request that a line tells of; None for one that belongs to no ring. Raises `ValueError` for what is no such line.

    `release` is the one that was chosen, also when no replica of it was live; None when none was chosen.
    """
    try:
        record = json.loads(line)
        return _build_task(record) if record["agent"] and record["ring"] else None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"not a line of the access log: {error!r}") from error


def _build_task(record: dict[str, Any]) -> Task:
    release = record["release"]
    if release is not None and not _DIGEST.fullmatch(release):
        raise ValueError(f"{release!r} is not a digest")
    flags = _text(record["flags"])
    begun = record["type"] == BEGUN
    rollout = record.get("rollout")
    encodings = _text(record.get("encodings") or "- -").split(" ")
    return Task(
        request=_text(record["request"]),
        task=_text(record["task"]),
        agent=_text(record["agent"]),
        ring=_text(record["ring"]),
        release=None if release is None else Digest(release),
        at=datetime.fromisoformat(record["start"]).timestamp(),
        duration=None if begun else int(record["duration"]) / 1_000,
        status=0 if begun else int(record["status"]),
        method=_text(record["method"])[:16],
        path=_text(record["path"])[:2048],
        bytes_in=int(record["bytes_in"]),
        bytes_out=int(record["bytes_out"]),
        flags="" if begun or flags == "-" else flags[:64],
        pinned=bool(record.get("pinned")),
        report=_report(record.get("outcome")),
        question=_payload(record.get("question"), encodings[0]),
        answer=_payload(record.get("answer"), encodings[-1]),
        **({} if rollout is None or release is None else _assigned(record, rollout)),
    )


def _assigned(record: dict[str, Any], rollout: object) -> dict[str, Any]:
    arm = Arm.CANDIDATE if record["release"] == record["candidate"] else Arm.STABLE
    beside = record.get("beside")
    if beside is not None and not _DIGEST.fullmatch(beside):
        raise ValueError(f"{beside!r} is not a digest")
    return {
        "rollout": _text(rollout),
        "arm": arm,
        "probability": int(record["share"]) / FULL_WEIGHT,
        "judged_by": beside and Digest(beside),
    }


def _report(value: object) -> str | None:
    """What the agent said; nothing if it is too long to be read as a whole."""
    return None if value is None or len(_text(value)) > LONGEST_REPORT else _text(value)


def _payload(value: object, encoding: str) -> bytes | None:
    """What was captured, unless it is compressed: nobody could read it, and nothing in it could be redacted."""
    if value is None or encoding not in ("-", "identity"):
        return None
    try:
        return base64.b64decode(_text(value), validate=True)
    except binascii.Error:
        return None


def _text(value: object) -> str:
    """A text that any database can hold."""
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"{value!r} is not a text")
    value.encode()  # raises for half a surrogate pair
    return value
