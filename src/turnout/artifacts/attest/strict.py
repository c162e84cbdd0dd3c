"""JSON from outside, read so that it can mean one thing only: bounded, no name twice, no value that is not JSON."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from turnout.artifacts.digest import canonical_json
from turnout.domain.errors import BuildFailed, InvalidRequest

_Model = TypeVar("_Model", bound=BaseModel)


def parse_strict(model: type[_Model], content: bytes, what: str, *, limit: int) -> _Model:
    """Read a document of at most `limit` bytes. `what` names it in the message. Raises `InvalidRequest`."""
    if len(content) > limit:
        raise InvalidRequest(f"{what} is larger than {limit} bytes")
    try:
        json.loads(content.decode(), object_pairs_hook=_check_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{what} cannot be read: {_reason(error)}") from None
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise InvalidRequest(f"{what} cannot be read: {first_fault(error)}") from None


def first_fault(error: ValidationError) -> str:
    """The first fault with its place; never the value, which may be secret."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = printable(".".join(str(part) for part in first["loc"])[:100])
    return f"{place}: {first['msg']}" if place else first["msg"]


def printable(text: str) -> str:
    """Text from outside as it may be shown: nothing in it can command a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def to_canonical(value: Any, what: str) -> bytes:
    """A value as canonical JSON. Raises `InvalidRequest` for one that has no such form."""
    try:
        return canonical_json(value)
    except BuildFailed as error:
        raise InvalidRequest(f"{what} cannot be written: {error.message}") from None


def _check_unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in an object")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"it is not JSON ({error.msg} at character {error.pos})"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
