"""Calls as lines of the gateway's journal, and back. Pure.

A line is one JSON object: `v`, `kind` (`model`, `tool`) and what differs from the defaults of the call. What a version adds
to a call does not change `v`: an older reader leaves it out.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from turnout.domain.calls import Attempt, Call, Ended, ModelCall, RouteChange, ToolCall
from turnout.domain.models import Digest

VERSION = 1
LARGEST_NUMBER = 1 << 53  # sums over a thousand of them are numbers that every database holds
LONGEST_NAME = 64  # characters
LONGEST_TASK = 256
MOST_ATTEMPTS = 64  # of a call, that are kept

_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_KINDS: dict[str, type[ModelCall | ToolCall]] = {"model": ModelCall, "tool": ToolCall}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def call_to_line(call: Call) -> bytes:
    """One line, with its line feed. Raises `ValueError` for numbers that are none."""
    record: dict[str, object] = {"v": VERSION, "kind": "model" if isinstance(call, ModelCall) else "tool"}
    for name, default in _DEFAULTS[type(call)]:
        value = getattr(call, name)
        if value != default:
            record[name] = value
    if isinstance(call, ModelCall) and call.attempts:
        record["attempts"] = [_attempt_record(attempt) for attempt in call.attempts]
    return _ENCODER.encode(record).encode() + b"\n"


def call_from_line(line: bytes) -> Call | None:
    """The call of a line; None for one of a newer version, a damaged one, and anything else."""
    record = _read(line)
    if record is None or record.get("v") != VERSION or (kind := _KINDS.get(str(record.get("kind")))) is None:
        return None
    try:
        values: dict[str, Any] = {name: read(record[name]) for name, read in _READERS[kind].items() if name in record}
        return kind(**values)
    except (ValueError, TypeError, KeyError, OverflowError):
        return None


def lost_to_line(lost: int) -> bytes:
    """The line that says how many calls are in no line."""
    return b'{"lost":%d}\n' % lost


def lost_from_line(line: bytes) -> int:
    """How many calls a line gives up; 0 for any other line."""
    record = _read(line) if line.startswith(b'{"lost":') else None
    lost = record["lost"] if record is not None else None
    return lost if isinstance(lost, int) and not isinstance(lost, bool) and lost > 0 else 0


def route_to_line(change: RouteChange) -> bytes:
    """The line that says that a route went down, or came back."""
    record = [change.at, change.route, change.down, change.why]
    return b'{"route":' + _ENCODER.encode(record).encode() + b"}\n"


def route_from_line(line: bytes) -> RouteChange | None:
    """What a line says of a route; None for any other line."""
    record = _read(line) if line.startswith(b'{"route":') else None
    if record is None:
        return None
    try:
        at, route, down, why = record["route"]
        return RouteChange(_number(at), _text(route), _flag(down), _text(why))
    except (ValueError, TypeError):
        return None


def _read(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _attempt_record(attempt: Attempt) -> list[object]:
    return [attempt.route, attempt.model, attempt.seconds, attempt.status, attempt.error]


def _attempts(value: object) -> tuple[Attempt, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list of attempts")
    found = []
    for route, model, seconds, status, error in value[:MOST_ATTEMPTS]:
        said = None if status is None else _count(status)
        found.append(Attempt(_text(route), _text(model), _number(seconds), said, _text(error)))
    return tuple(found)


def _text(value: object) -> str:
    """A text that any database holds: what a provider or a tool said may hold anything."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    if "\0" in value:
        value = value.replace("\0", "\ufffd")
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _name(value: object) -> str:
    text = _text(value)
    if not 0 < len(text) <= LONGEST_NAME:
        raise ValueError("a call has an id, an agent and a ring")
    return text


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value)


def _task(value: object) -> str | None:
    """A task with a longer name is none that the proxy knows."""
    text = _optional_text(value)
    return text if text and len(text) <= LONGEST_TASK else None


def _digest(value: object) -> Digest:
    text = _text(value)
    if not _DIGEST.fullmatch(text):
        raise ValueError(f"{text!r} is not a digest")
    return Digest(text)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is not a number of seconds")
    return float(value)


def _optional_number(value: object) -> float | None:
    return None if value is None else _number(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_NUMBER:
        raise ValueError(f"{value!r} is not a count")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


_BY_TYPE: Mapping[str, Callable[[Any], object]] = {
    "str": _text,
    "str | None": _optional_text,
    "int": _count,
    "float": _number,
    "float | None": _optional_number,
    "bool": _flag,
    "Digest": _digest,
    "Ended": Ended,
    "tuple[Attempt, ...]": _attempts,
}
_BY_NAME: Mapping[str, Callable[[Any], object]] = {"id": _name, "agent": _name, "ring": _name, "task": _task}
_READERS: Mapping[type, Mapping[str, Callable[[Any], object]]] = {
    kind: {field.name: _BY_NAME.get(field.name) or _BY_TYPE[str(field.type)] for field in fields(kind)}
    for kind in _KINDS.values()
}
_DEFAULTS: Mapping[type, tuple[tuple[str, object], ...]] = {  # what has none is always written
    kind: tuple((field.name, field.default) for field in fields(kind) if field.name != "attempts")
    for kind in _KINDS.values()
}
