"""Recordings ↔ JSON documents, which are stored under their digest and exported one a line. Pure.

    {"schema": 1, "agent": …, "ring": …, "requests": [{"method": "POST", …}], "tools": […], "models": […], …}

Keys are sorted, and there is no white space: equal recordings give equal bytes. A body is a text where it is UTF-8, and
`{"base64": …}` where it is not. Reading is strict: what is missing, unknown or of another kind is an error with its place.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from turnout.domain.calls import Ended
from turnout.domain.errors import InvalidRequest
from turnout.domain.models import Digest
from turnout.domain.recordings import RecordedModel, RecordedRequest, RecordedTool, Recording

SCHEMA = 1
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LARGEST = 1 << 53


def render_recording(recording: Recording) -> bytes:
    """The document, without a line feed."""
    document = {"schema": SCHEMA, **_plain(recording)}
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain
    ).encode(errors="replace")


def parse_recording(content: bytes) -> Recording:
    """The recording of a document. Raises `InvalidRequest` that names the place which is wrong."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _invalid("", f"no JSON document ({error})") from None
    if not isinstance(document, dict):
        raise _invalid("", "expected an object")
    schema = document.pop("schema", None)
    if schema != SCHEMA or isinstance(schema, bool):
        raise _invalid("schema", f"expected {SCHEMA}, found {str(schema)[:40]!r}")
    recording = _read(Recording, document, "")
    assert isinstance(recording, Recording)  # noqa: S101  # for the type checker
    return recording


def _plain(value: Any) -> dict[str, Any]:
    return {field.name: _written(getattr(value, field.name)) for field in fields(value)}


def _written(value: object) -> object:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _read(kind: type, value: object, place: str) -> Any:
    if not isinstance(value, dict):
        raise _invalid(place, "expected an object")
    readers = _READERS[kind]
    for name in (*value.keys(), *readers.keys()):
        if name not in readers or name not in value:
            raise _invalid(_join(place, str(name)[:40]), "unknown key" if name in value else "is missing")
    return kind(**{name: read(value[name], _join(place, name)) for name, read in readers.items()})


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise _invalid(place, "expected a text")
    return value


def _flag(value: object, place: str) -> bool:
    if not isinstance(value, bool):
        raise _invalid(place, "expected true or false")
    return value


def _count(value: object, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise _invalid(place, "expected a whole number of at least 0")
    return value


def _number(value: object, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise _invalid(place, "expected a number of at least 0")
    return float(value)


def _digest(value: object, place: str) -> Digest:
    text = _text(value, place)
    if not _DIGEST.fullmatch(text):
        raise _invalid(place, "expected a digest")
    return Digest(text)


def _ended(value: object, place: str) -> Ended:
    try:
        return Ended(_text(value, place))
    except ValueError:
        raise _invalid(place, f"expected one of {', '.join(Ended)}") from None


def _bytes(value: object, place: str) -> bytes:
    if isinstance(value, str):
        return value.encode(errors="replace")
    try:
        if isinstance(value, dict) and value.keys() == {"base64"}:
            return base64.b64decode(_text(value["base64"], place), validate=True)
    except (binascii.Error, ValueError):
        pass
    raise _invalid(place, 'expected a text or {"base64": …}')


def _optional(read: Callable[[object, str], object]) -> Callable[[object, str], object]:
    return lambda value, place: None if value is None else read(value, place)


def _list_of(kind: type) -> Callable[[object, str], object]:
    def read(value: object, place: str) -> object:
        if not isinstance(value, list):
            raise _invalid(place, "expected a list")
        return tuple(_read(kind, item, f"{place}[{index}]") for index, item in enumerate(value))

    return read


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _invalid(place: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"not a recording: {place}: {message}" if place else f"not a recording: {message}")


_BY_TYPE: Mapping[str, Callable[[Any, str], object]] = {
    "str": _text,
    "str | None": _optional(_text),
    "bool": _flag,
    "bool | None": _optional(_flag),
    "int": _count,
    "float": _number,
    "float | None": _optional(_number),
    "bytes | None": _optional(_bytes),
    "Digest": _digest,
    "Ended": _ended,
    "tuple[RecordedRequest, ...]": _list_of(RecordedRequest),
    "tuple[RecordedTool, ...]": _list_of(RecordedTool),
    "tuple[RecordedModel, ...]": _list_of(RecordedModel),
}
_READERS: Mapping[type, Mapping[str, Callable[[Any, str], object]]] = {
    kind: {field.name: _BY_TYPE[str(field.type)] for field in fields(kind)}
    for kind in (Recording, RecordedRequest, RecordedTool, RecordedModel)
}
