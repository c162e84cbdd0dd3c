"""The data: which files came, went, changed or moved, how much of them, and within files of documents which ones by id.

The indexes tell all but the last, without reading data; for that, only chunks that differ are read, up to a bound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from turnout.artifacts.chunks.index import ChunkRef, DataIndex, FileChunks
from turnout.artifacts.diff.files import find_renamed
from turnout.artifacts.diff.records import Budget, NotCompared, diff_records, holds_records
from turnout.schemas import ByteCounts, ChangeView


@dataclass(frozen=True, slots=True)
class Side:
    """The index, and how to read a chunk that it names."""

    index: DataIndex
    read: Callable[[ChunkRef], bytes]


def diff_data(before: Side, after: Side) -> Iterator[ChangeView]:
    """Files by path; a file of documents is followed by those that differ in it."""
    old, new = _files(before.index), _files(after.index)
    renamed = find_renamed(*({path: _key(file) for path, file in side.items()} for side in (old, new)))
    moved = {*renamed.values()}
    budget = Budget()
    for path in sorted({*old, *new}):
        source, left, right = renamed.get(path), old.get(path), new.get(path)
        if path in moved or left == right:
            continue
        if source:
            left = old[source]
        change = _describe(path, left, right, source)
        documents: list[ChangeView] = []
        if left and right and not source and left.chunks != right.chunks:
            documents = _documents(change, left, right, (before, after), budget)
        yield change
        yield from documents


def count_bytes(before: DataIndex, after: DataIndex) -> ByteCounts:
    """How much of the data differs, by chunks."""
    old, new = _files(before), _files(after)
    differing = [path for path in {*old, *new} if old.get(path) != new.get(path)]
    return _count(
        before.size,
        after.size,
        (chunk for path in differing if path in old for chunk in old[path].chunks),
        (chunk for path in differing if path in new for chunk in new[path].chunks),
    )


class _Key(NamedTuple):
    size: int
    executable: bool
    chunks: tuple[ChunkRef, ...]


def _documents(
    change: ChangeView, old: FileChunks, new: FileChunks, sides: tuple[Side, Side], budget: Budget
) -> list[ChangeView]:
    """Those that differ in a file. What there is to say about the comparison is noted at the file's own change."""
    if not holds_records(new.path):
        return []
    try:
        found = diff_records(old, new, sides[0].read, sides[1].read, budget)
    except NotCompared as error:
        found, note = [], str(error)
    else:
        note = "" if found else "the same documents, written in another way or order"
    if note:
        change["note"] = "; ".join([*([change["note"]] if "note" in change else []), note])
    return found


def _files(index: DataIndex) -> dict[str, FileChunks]:
    return {file.path: file for file in index.files}


def _key(file: FileChunks) -> _Key:
    return _Key(file.size, file.executable, file.chunks)


def _describe(path: str, old: FileChunks | None, new: FileChunks | None, source: str | None) -> ChangeView:
    change: ChangeView = {"kind": "file", "path": path, "change": "renamed" if source else "changed"}
    if old:
        change["before"] = {"size": old.size, "executable": old.executable, **({"path": source} if source else {})}
    else:
        change["change"] = "added"
    if new:
        change["after"] = {"size": new.size, "executable": new.executable}
    else:
        change["change"] = "removed"
    if old and new and old.chunks != new.chunks:
        change["bytes"] = _count(old.size, new.size, old.chunks, new.chunks)
    if old and new and old.executable != new.executable:
        change["note"] = "executable now" if new.executable else "no longer executable"
    return change


def _count(size_before: int, size_after: int, before: Iterable[ChunkRef], after: Iterable[ChunkRef]) -> ByteCounts:
    net = Counter(after)
    net.subtract(before)
    added = sum(chunk.length * count for chunk, count in net.items() if count > 0)
    removed = -sum(chunk.length * count for chunk, count in net.items() if count < 0)
    share = (added + removed) / (size_before + size_after) if size_before + size_after else 0.0
    return {"before": size_before, "after": size_after, "removed": removed, "added": added, "share": round(share, 6)}
