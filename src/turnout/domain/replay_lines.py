"""Recordings in a file, one a line; those that cannot be read are named and stop nothing. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from turnout.domain.errors import InvalidRequest
from turnout.domain.recording_document import parse_recording
from turnout.domain.recordings import Recording
from turnout.domain.replays import Unreadable


def read_recordings(lines: Iterable[bytes]) -> Iterator[Recording | Unreadable]:
    """The recordings of a file, such as `turnout recordings export` writes it."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield _read_line(line)
        except InvalidRequest as error:
            yield Unreadable(_task_of(line) or f"line {number}", error.message)


def unreadable_line(item: Unreadable) -> bytes:
    """One that cannot be read, as a line of the file, without a line feed."""
    return json.dumps(asdict(item)).encode()


def _read_line(line: bytes) -> Recording | Unreadable:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and document.keys() == {"task", "why"}:
        return Unreadable(str(document["task"]), str(document["why"]))
    return parse_recording(line)


def _task_of(line: bytes) -> str | None:
    try:
        task = json.loads(line)["task"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    return task if isinstance(task, str) else None
