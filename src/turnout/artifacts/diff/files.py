"""The components that are archives of files: which came, went, changed or moved, texts as diffs, and dependencies.

An archive is read twice, and what is kept of it is bounded: first the digests, then the texts of those files that differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from turnout.artifacts.diff.changes import ABSENT
from turnout.artifacts.diff.lock import LONGEST_LOCK, Lock, diff_locks, parse_lock
from turnout.artifacts.diff.text import unified_diff
from turnout.artifacts.texts import decode_text
from turnout.artifacts.unpack import ArchivedFile
from turnout.schemas import ChangeView

MOST_FILES = 200_000
LONGEST_TEXT = 256 << 10  # bytes; a larger file is named, its lines are not shown
MOST_TEXT = 8 << 20  # bytes of one side that are kept to be compared
MOST_SHOWN = 1 << 20  # characters of all diffs
_TOO_MANY: ChangeView = {
    "kind": "file",
    "path": ".",
    "change": "changed",
    "note": f"there are more than {MOST_FILES:,} files: they were not compared one by one",
}


class Side(NamedTuple):
    """An archive that can be read again, and the path of the lock file in it."""

    read: Callable[[], Iterator[ArchivedFile]]
    lock: str | None = None


class Entry(NamedTuple):
    """What is kept of a file."""

    size: int
    digest: bytes
    executable: bool


def diff_files(before: Side, after: Side, kind: str) -> Iterator[ChangeView]:
    """Dependencies first, if a lock file differs, then files by path."""
    old, new = _entries(before), _entries(after)
    if old is None or new is None:
        yield _TOO_MANY
        return
    renamed = find_renamed(old, new)
    moved = {*renamed.values()}
    paths = [
        path
        for path in sorted({*old, *new})
        if path not in moved and (path in renamed or old.get(path) != new.get(path))
    ]
    differing = {path for path in paths if path not in renamed and _differs(path, old, new)}
    locks = {side.lock for side in (before, after) if side.lock}
    if before.lock == after.lock:
        locks &= differing
    texts = [_read_texts(side, differing | locks) for side in (before, after)]
    dependencies = _diff_dependencies(before, after, *texts) if locks else None
    yield from dependencies or ()
    shown = 0
    for path in paths:
        change = describe_file(kind, path, old.get(renamed.get(path, path)), new.get(path), renamed.get(path))
        if dependencies and path in locks:
            change["note"] = "its dependencies are compared by name"
        elif path in differing and shown >= MOST_SHOWN:
            change["note"] = "not shown: too much differs"
        elif path in differing:
            _show_text(change, _side(path, old, texts[0]), _side(path, new, texts[1]))
            shown += len(change.get("diff", ""))
        yield change


def find_renamed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Path → the one before, of files that have gone from one path and come, unchanged, at another. Each is used once."""
    gone: dict[Any, list[str]] = {}
    for path in sorted(old, reverse=True):
        if path not in new and old[path].size:
            gone.setdefault(old[path], []).append(path)
    found = {}
    for path in sorted(new):
        if path not in old and gone.get(new[path]):
            found[path] = gone[new[path]].pop()
    return found


def describe_file(kind: str, path: str, old: Entry | None, new: Entry | None, renamed: str | None) -> ChangeView:
    """A file that differs, without its text."""
    change: ChangeView = {"kind": kind, "path": path, "change": "renamed" if renamed else "changed"}
    if old is None:
        change["change"] = "added"
    else:
        change["before"] = {**_view(old), **({"path": renamed} if renamed else {})}
    if new is None:
        change["change"] = "removed"
    else:
        change["after"] = _view(new)
    if old and new and old.executable != new.executable:
        change["note"] = "executable now" if new.executable else "no longer executable"
    return change


def _entries(side: Side) -> dict[str, Entry] | None:
    """None when there are too many; the archive is read to its end all the same, which verifies it."""
    found: dict[str, Entry] | None = {}
    for file in side.read():
        if found is None:
            continue
        seen = hashlib.sha256()
        for part in file.content:
            seen.update(part)
        found[file.path] = Entry(file.size, seen.digest(), file.executable)
        if len(found) > MOST_FILES:
            found = None
    return found


def _view(entry: Entry) -> dict[str, Any]:
    return {"size": entry.size, "digest": f"sha256:{entry.digest.hex()}", "executable": entry.executable}


def _differs(path: str, old: Mapping[str, Entry], new: Mapping[str, Entry]) -> bool:
    """Whether the content at a path differs, and not only that it is there or may be executed."""
    left, right = old.get(path), new.get(path)
    return (left and left.digest) != (right and right.digest)


def _read_texts(side: Side, wanted: set[str]) -> dict[str, str]:
    """Those of the wanted files that are text and not too long, as far as there is room; a lock file may be longer."""
    texts: dict[str, str] = {}
    room = MOST_TEXT
    for file in side.read() if wanted else ():
        longest = LONGEST_LOCK if file.path == side.lock else min(LONGEST_TEXT, room)
        if file.path not in wanted or file.size > longest:
            continue
        text = decode_text(b"".join(file.content))
        if text is not None:
            texts[file.path] = text
            room -= file.size
    return texts


def _side(path: str, entries: Mapping[str, Entry], texts: Mapping[str, str]) -> Any:
    """The text, None for what has none to show, `ABSENT` for a file that is not there."""
    return texts.get(path) if path in entries else ABSENT


def _show_text(change: ChangeView, old: Any, new: Any) -> None:
    notes = [change["note"]] if "note" in change else []
    if old is None or new is None:
        notes.append(_why_hidden(change))
    else:
        diff, cut = unified_diff("" if old is ABSENT else old, "" if new is ABSENT else new)
        if diff:
            change["diff"] = diff
        notes += [cut] if cut else []
    if notes:
        change["note"] = "; ".join(notes)


def _why_hidden(change: ChangeView) -> str:
    sizes = [change[side]["size"] for side in ("before", "after") if side in change]
    return "too large to be shown" if max(sizes) > LONGEST_TEXT else "not a text, or too much text differs"


def _diff_dependencies(
    before: Side, after: Side, old: Mapping[str, str], new: Mapping[str, str]
) -> list[ChangeView] | None:
    """None when a lock cannot be read; an empty list when two differ in nothing that is known of dependencies."""
    left, right = _parse(before, old), _parse(after, new)
    return None if left is None or right is None else list(diff_locks(left, right))


def _parse(side: Side, texts: Mapping[str, str]) -> Lock | None:
    if side.lock is None:
        return Lock({})
    return parse_lock(side.lock, texts[side.lock]) if side.lock in texts else None
