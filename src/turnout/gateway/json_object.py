"""A JSON object as text, whose members can be changed without touching a byte of the others."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from json.decoder import JSONDecodeError
from typing import Any, NamedTuple, NoReturn

MOST_OBJECTS = 200_000  # and lists, of one text: each takes memory, and time in which nobody else is served
MOST_VALUES = 2_000_000
_LONG = 256  # characters of a value

_skip = re.compile(r"[ \t\n\r]*").match


class Member(NamedTuple):
    """A value and where it stands in the text."""

    value: Any
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class JsonObject:
    """`end` is where the closing brace stands."""

    text: str
    members: Mapping[str, Member]
    end: int

    def get(self, name: str) -> Any:
        """The value of a member; None where it is not there, or null."""
        member = self.members.get(name)
        return member.value if member is not None else None

    def without_values(self, *kept: str) -> JsonObject:
        """The same, for whoever only changes it: long values that were read take many times the room of their text."""
        members = {
            name: Member(None, member.start, member.end)
            if member.end - member.start > _LONG and name not in kept
            else member
            for name, member in self.members.items()
        }
        return JsonObject(self.text, members, self.end)

    def changed(self, changes: Mapping[str, Any]) -> bytes:
        """The text with other values, UTF-8; members that it does not have come at its end."""
        if not changes:
            return self.text.encode()
        edits: list[tuple[int, int, str]] = []
        added: list[str] = []
        for name, value in changes.items():
            member = self.members.get(name)
            if member is not None:
                edits.append((member.start, member.end, json.dumps(value)))
            else:
                added.append(f"{json.dumps(name)}:{json.dumps(value)}")
        if added:
            comma = "," if self.members else ""
            edits.append((self.end, self.end, comma + ",".join(added)))
        parts, at = [], 0
        for start, end, new in sorted(edits):
            parts += [self.text[at:start], new]
            at = end
        return ("".join(parts) + self.text[at:]).encode()


def parse_object(body: bytes) -> JsonObject:
    """Read a JSON object. Raises ValueError that says what is wrong.

    A name that is there twice is refused: who reads it after us may take the other one.
    """
    if len(body) > MOST_OBJECTS:
        _check_size(body)
    try:
        return _parse(body.decode())
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _check_size(body: bytes) -> None:
    """Counted before anything is read. (Of texts with braces too many are counted: no model takes so much of them.)"""
    if body.count(b"{") + body.count(b"[") > MOST_OBJECTS or body.count(b",") > MOST_VALUES:
        raise ValueError("it holds too many values")


def _parse(text: str) -> JsonObject:
    at = _skip(text, 0).end()  # type: ignore[union-attr]
    if text[at : at + 1] != "{":
        raise ValueError("it is not a JSON object")
    members: dict[str, Member] = {}
    at = _after(text, at + 1)
    if text[at : at + 1] == "}":
        return _ended(text, members, at)
    while True:
        if text[at : at + 1] != '"':
            raise JSONDecodeError("a name in quotes is missing", text, at)
        name, end = _decoder.raw_decode(text, at)
        if name in members:
            raise ValueError(f"the member {name[:40]!r} is there twice")
        at = _after(text, end)
        if text[at : at + 1] != ":":
            raise JSONDecodeError("a colon is missing", text, at)
        start = _after(text, at + 1)
        value, end = _decoder.raw_decode(text, start)
        members[name] = Member(value, start, end)
        at = _after(text, end)
        if text[at : at + 1] == "}":
            return _ended(text, members, at)
        if text[at : at + 1] != ",":
            raise JSONDecodeError("a comma is missing", text, at)
        at = _after(text, at + 1)


def _after(text: str, at: int) -> int:
    """Where the next sign stands that is no space."""
    return _skip(text, at).end()  # type: ignore[union-attr]


def _ended(text: str, members: dict[str, Member], at: int) -> JsonObject:
    if _after(text, at + 1) != len(text):
        raise JSONDecodeError("something follows the object", text, at + 1)
    return JsonObject(text, members, at)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse)
