"""Frozen values ↔ JSON documents, by the types of their fields. Pure.

Keys are sorted, and there is no white space: equal values give equal bytes. Reading is strict: what is missing, unknown or
of another kind is an error with its place.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from enum import StrEnum
from typing import Any, TypeVar

from turnout.domain.errors import InvalidRequest
from turnout.domain.models import Digest

Read = Callable[[Any, str], object]  # (value, its place) → what it stands for; raises `Misshapen`
V = TypeVar("V")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LARGEST = 1 << 53  # what every reader of JSON can hold


class Misshapen(Exception):
    """A value that is not what it has to be, and its place."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(f"{place}: {message}" if place else message)


class StrictDocuments:
    """Documents of one schema. `what`: such as "a recording"; `kinds`: the dataclasses that they are made of.

    `enums` and `more` are the types of fields beside texts, flags, numbers, digests and tuples of the kinds.
    """

    def __init__(
        self,
        what: str,
        schema: int,
        kinds: Iterable[type],
        enums: Iterable[type[StrEnum]] = (),
        more: Mapping[str, Read] | None = None,
    ) -> None:
        self._what = what
        self._schema = schema
        kinds = tuple(kinds)
        plain: dict[str, Read] = {"str": read_text, "bool": _flag, "int": _count, "float": _number, "Digest": _digest}
        plain |= {kind.__name__: _one_of(kind) for kind in enums} | dict(more or {})
        plain |= {f"{name} | None": _optional(read) for name, read in plain.items()}
        plain |= {f"tuple[{kind.__name__}, ...]": self._list_of(kind) for kind in kinds}
        self._readers = {kind: {field.name: plain[str(field.type)] for field in fields(kind)} for kind in kinds}

    def render(self, value: object, written: Callable[[object], object] = lambda value: value) -> bytes:
        """The document, without a line feed. `written`: how JSON holds values of fields that it does not know."""

        def plain(item: Any) -> dict[str, Any]:
            return {field.name: written(getattr(item, field.name)) for field in fields(item)}

        document = {"schema": self._schema, **plain(value)}
        return json.dumps(
            document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=plain
        ).encode(errors="replace")

    def parse(self, content: bytes, kind: type[V]) -> V:
        """The value of a document. Raises `InvalidRequest` that names the place which is wrong."""
        try:
            document = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self._invalid(f"no JSON document ({error})") from None
        if not isinstance(document, dict):
            raise self._invalid("expected an object")
        schema = document.pop("schema", None)
        if schema != self._schema or isinstance(schema, bool):
            raise self._invalid(f"schema: expected {self._schema}, found {str(schema)[:40]!r}")
        return self.read(document, kind)

    def read(self, document: Mapping[str, Any], kind: type[V], place: str = "") -> V:
        """The value of a part of a document. Raises `InvalidRequest`."""
        try:
            value = self._read(kind, document, place)
        except Misshapen as error:
            raise self._invalid(str(error)) from None
        assert isinstance(value, kind)  # noqa: S101  # for the type checker
        return value

    def _read(self, kind: type, value: object, place: str) -> Any:
        if not isinstance(value, Mapping):
            raise Misshapen(place, "expected an object")
        readers = self._readers[kind]
        for name in (*value.keys(), *readers.keys()):
            if name not in readers or name not in value:
                raise Misshapen(_join(place, str(name)[:40]), "unknown key" if name in value else "is missing")
        return kind(**{name: read(value[name], _join(place, name)) for name, read in readers.items()})

    def _list_of(self, kind: type) -> Read:
        def read(value: object, place: str) -> object:
            if not isinstance(value, list):
                raise Misshapen(place, "expected a list")
            return tuple(self._read(kind, item, f"{place}[{index}]") for index, item in enumerate(value))

        return read

    def _invalid(self, message: str) -> InvalidRequest:
        return InvalidRequest(f"not {self._what}: {message}")


def read_text(value: object, place: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise Misshapen(place, "expected a text")
    return value


def _flag(value: object, place: str) -> bool:
    if not isinstance(value, bool):
        raise Misshapen(place, "expected true or false")
    return value


def _count(value: object, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise Misshapen(place, "expected a whole number of at least 0")
    return value


def _number(value: object, place: str) -> float:
    if not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value < math.inf:
        try:
            return float(value)
        except OverflowError:
            pass
    raise Misshapen(place, "expected a number of at least 0")


def _digest(value: object, place: str) -> Digest:
    text = read_text(value, place)
    if not _DIGEST.fullmatch(text):
        raise Misshapen(place, "expected a digest")
    return Digest(text)


def _one_of(kind: type[StrEnum]) -> Read:
    def read(value: object, place: str) -> object:
        try:
            return kind(read_text(value, place))
        except ValueError:
            raise Misshapen(place, f"expected one of {', '.join(kind)}") from None

    return read


def _optional(read: Read) -> Read:
    return lambda value, place: None if value is None else read(value, place)


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
