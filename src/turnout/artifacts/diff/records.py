"""Documents within a data file, compared by id: files of JSON lines, and JSON files that hold a list.

Of lines only those are read that touch a chunk that differs: the others are on both sides. A file whose lines or items are
not all objects with an `id` is not taken apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, NamedTuple

from turnout.artifacts.chunks.index import ChunkRef, FileChunks
from turnout.artifacts.diff.align import Stretch, align
from turnout.schemas import ChangeView

MOST_READ = 128 << 20  # bytes of both sides in one diff
LONGEST_LIST = 8 << 20  # bytes of a JSON file, which is read as a whole
LONGEST_LINE = 4 << 20
MOST_RECORDS = 100_000  # that differ and are kept
_LONGEST_ID = 200
_MOST_HELD = 8 << 20  # bytes of lines
_MOST_NAMED = 20  # fields of a document that are named
_LINES = (".jsonl", ".ndjson")

Read = Callable[[ChunkRef], bytes]


class NotCompared(Exception):
    """Why a file was not compared by id; the message is for people. Empty when it is no file of documents at all."""


@dataclass
class Budget:
    """How many bytes may still be read in this diff."""

    left: int = MOST_READ

    def take(self, size: int) -> None:
        """Raises `NotCompared` when it is too much."""
        if size > self.left:
            raise NotCompared(f"not compared by id: more than {MOST_READ >> 20} MiB would have to be read")
        self.left -= size


def holds_records(path: str) -> bool:
    """Whether a file may hold documents, by its name."""
    return path.lower().endswith((*_LINES, ".json"))


def diff_records(
    before: FileChunks, after: FileChunks, read_before: Read, read_after: Read, budget: Budget
) -> list[ChangeView]:
    """The documents that differ between two versions of a file. Raises `NotCompared`; what reading raises passes through."""
    records = _Records()
    if before.path.lower().endswith(_LINES):
        for after_side, line in _differing_lines(before, after, read_before, read_after, budget):
            records.add_line(line, 1 if after_side else -1)
    else:
        if max(before.size, after.size) > LONGEST_LIST:
            raise NotCompared(f"not compared by id: a JSON file of more than {LONGEST_LIST >> 20} MiB is not read")
        budget.take(before.size + after.size)
        for file, read, sign in ((before, read_before, -1), (after, read_after, 1)):
            for item in _items(b"".join(read(chunk) for chunk in file.chunks)):
                records.add(item, sign)
    return list(records.changes(after.path))


def _items(content: bytes) -> list[Any]:
    try:
        items = json.loads(content)
    except (ValueError, RecursionError):
        raise NotCompared from None
    if not isinstance(items, list):
        raise NotCompared
    return items


# --- what a document is ----------------------------------------------------------------------------------------------


class _Print(NamedTuple):
    """Enough of a document to see whether, and in which fields, another differs."""

    fields: tuple[str, ...]
    hashes: bytes  # eight bytes a field


@dataclass
class _Records:
    """Documents that are on one side and not, or not yet, on the other: what is on both cancels itself out."""

    net: dict[tuple[str, _Print], int] = field(default_factory=dict)  # (id as JSON, print) → +1 after, −1 before
    lines: dict[bytes, int] = field(default_factory=dict)  # the same of lines, before they are taken apart
    held: int = 0  # bytes of these lines
    seen: bool = False

    def add_line(self, line: bytes, sign: int) -> None:
        """Lines are taken apart late: most are on both sides, byte by byte."""
        if not line.strip():
            return
        if not self.seen:
            _id_of(_parsed(line))  # so that a file of something else is given up at once
            self.seen = True
        count = self.lines.get(line, 0)
        self.lines[line] = count + sign
        self.held += len(line) * (abs(count + sign) - abs(count))
        if count + sign == 0:
            del self.lines[line]
        if self.held > _MOST_HELD:
            self.take_apart()

    def take_apart(self) -> None:
        """Turn lines into documents."""
        for line, count in self.lines.items():
            record = _parsed(line)
            for _ in range(abs(count)):
                self.add(record, count // abs(count))
        self.lines, self.held = {}, 0

    def add(self, record: Any, sign: int) -> None:
        key = (_id_of(record), _print(record))
        count = self.net.get(key, 0) + sign
        if count:
            self.net[key] = count
        else:
            del self.net[key]
        if len(self.net) > MOST_RECORDS:
            raise NotCompared(f"not compared by id: more than {MOST_RECORDS:,} documents differ")

    def changes(self, path: str) -> Iterator[ChangeView]:
        """By id: those that only went, only came, or are others now."""
        self.take_apart()
        sides: dict[str, tuple[list[_Print], list[_Print]]] = {}
        for (identity, found), count in self.net.items():
            sides.setdefault(identity, ([], []))[count > 0].extend([found] * abs(count))
        for identity in sorted(sides):
            yield _record_change(path, json.loads(identity), *sides[identity])


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise NotCompared("not compared by id: a line is no JSON") from None


def _id_of(record: Any) -> str:
    identity = record.get("id") if isinstance(record, dict) else None
    if isinstance(identity, bool) or not isinstance(identity, str | int) or len(str(identity)) > _LONGEST_ID:
        raise NotCompared
    if isinstance(identity, str) and not identity.isprintable():
        raise NotCompared("not compared by id: an id holds what cannot be printed")
    return json.dumps(identity)


def _print(record: dict[str, Any]) -> _Print:
    names = tuple(sorted(record))
    texts = (json.dumps(record[name], sort_keys=True) for name in names)
    return _Print(names, b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts))


def _record_change(path: str, identity: str | int, old: list[_Print], new: list[_Print]) -> ChangeView:
    change: ChangeView = {
        "kind": "document",
        "path": f"{path}#{identity}",
        "change": "changed" if old and new else "added" if new else "removed",
        "id": identity,
    }
    if len(old) == len(new) == 1:
        change["note"] = f"other: {', '.join(_changed_fields(old[0], new[0]))}"
    elif len(old) > 1 or len(new) > 1:
        change["note"] = (
            f"the id is there {len(old)} times before and {len(new)} times after, apart from what is the same"
        )
    return change


def _changed_fields(old: _Print, new: _Print) -> list[str]:
    left, right = _by_field(old), _by_field(new)
    names = [name for name in sorted({*left, *right}) if left.get(name) != right.get(name)]
    more = [f"and {len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    return [*(_named(name) for name in names[:_MOST_NAMED]), *more]


def _named(field_name: str) -> str:
    return field_name[:_LONGEST_ID].encode(errors="backslashreplace").decode()


def _by_field(found: _Print) -> dict[str, bytes]:
    return {name: found.hashes[8 * number : 8 * number + 8] for number, name in enumerate(found.fields)}


# --- which lines differ ----------------------------------------------------------------------------------------------


def _differing_lines(
    before: FileChunks, after: FileChunks, read_before: Read, read_after: Read, budget: Budget
) -> Iterator[tuple[bool, bytes]]:
    """(whether it is of `after`, line) for every line that touches what differs. Lines that do not are on both sides."""
    old, new = before.chunks, after.chunks
    sides = (_Lines(), _Lines())
    at_before = at_after = 0
    for stretch in [*align(old, new), Stretch(len(old), len(new), 0)]:
        gaps = zip_longest(old[at_before : stretch.before], new[at_after : stretch.after])
        for pair in gaps:  # by turns, so that what is on both sides cancels itself out soon
            for is_after, chunk, read in zip((False, True), pair, (read_before, read_after), strict=True):
                if chunk:
                    budget.take(chunk.length)
                    yield from ((is_after, line) for line in sides[is_after].feed(read(chunk)))
        at_before, at_after = stretch.before + stretch.size, stretch.after + stretch.size
        same = _Stretch(new[stretch.after : at_after], read_after, budget)
        at_start = at_after == stretch.size and at_before == stretch.size
        at_end = at_before == len(old) and at_after == len(new)
        for part in same.edges(head=not at_start, tail=not at_end):
            for is_after in (False, True):
                yield from ((is_after, line) for line in sides[is_after].feed(part))
    for is_after in (False, True):
        yield from ((is_after, line) for line in sides[is_after].rest())


class _Lines:
    """Bytes → lines."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, content: bytes) -> Iterator[bytes]:
        """The lines that are complete now."""
        *ended, last = content.split(b"\n")
        for line in ended:
            yield b"".join([*self._parts, line])
            self._parts, self._size = [], 0
        if last:
            self._parts.append(last)
            self._size += len(last)
        if self._size > LONGEST_LINE:
            raise NotCompared(f"not compared by id: a line is longer than {LONGEST_LINE >> 20} MiB")

    def rest(self) -> Iterator[bytes]:
        """The last line, if no line feed ended it."""
        if self._parts:
            yield b"".join(self._parts)


class _Stretch:
    """Chunks that both sides have: of their lines only the first and the last can touch what differs."""

    def __init__(self, chunks: Sequence[ChunkRef], read: Read, budget: Budget) -> None:
        self._chunks = chunks
        self._read_chunk = read
        self._budget = budget

    def edges(self, *, head: bool, tail: bool) -> Iterator[bytes]:
        """What comes up to the first line feed, if `head`, and after the last one, if `tail`."""
        first, rest = 0, b""  # the first chunk that was not read yet, and what is left of the one before
        if head:
            ended = False
            while first < len(self._chunks) and not ended:
                content = self._read(self._chunks[first])
                cut = content.find(b"\n") + 1
                ended = cut > 0
                yield content[:cut] if ended else content
                rest = content[cut:] if ended else b""
                first += 1
        if tail:
            yield from self._tail(first, rest)

    def _tail(self, first: int, rest: bytes) -> Iterator[bytes]:
        parts: list[bytes] = []
        size = 0
        for chunk in reversed(self._chunks[first:]):
            content = self._read(chunk)
            cut = content.rfind(b"\n") + 1
            parts.append(content[cut:])
            size += len(parts[-1])
            if cut:
                break
            if size > LONGEST_LINE:
                raise NotCompared(f"not compared by id: a line is longer than {LONGEST_LINE >> 20} MiB")
        else:
            parts.append(rest[rest.rfind(b"\n") + 1 :])
        yield from reversed(parts)

    def _read(self, chunk: ChunkRef) -> bytes:
        self._budget.take(chunk.length)
        return self._read_chunk(chunk)
