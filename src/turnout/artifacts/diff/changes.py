"""One thing that differs, as it is told; and many of them, counted, with a bound on how many are listed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from turnout.artifacts.diff.text import unified_diff
from turnout.schemas import ChangeCounts, ChangeView

ABSENT: Final = object()
"""Stands for a value that is not there; null is a value."""

MOST_LISTED = 2_000
_LONGEST_VALUE = 8 << 10  # characters of JSON; a longer one is shortened
_SHOWN = 2_000
_NOUNS = {
    "dependency": ("dependency", "dependencies"),
    "env": ("variable", "variables"),
    "health": ("health setting", "health settings"),
    "option": ("option of the lock", "options of the lock"),
    "ring": ("ring setting", "ring settings"),
    "smoke": ("smoke task", "smoke tasks"),
}


def value_change(kind: str, path: str, before: Any = ABSENT, after: Any = ABSENT, note: str = "") -> ChangeView:
    """A JSON value that is on one side only, or another on each. Texts of several lines get a diff."""
    change: ChangeView = {
        "kind": kind,
        "path": path,
        "change": "added" if before is ABSENT else "removed" if after is ABSENT else "changed",
    }
    notes = [note] if note else []
    if before is not ABSENT:
        change["before"] = _bounded(before)
    if after is not ABSENT:
        change["after"] = _bounded(after)
    if isinstance(before, str) and isinstance(after, str) and "\n" in before + after:
        change["diff"], cut = unified_diff(before, after)
        notes += [cut] if cut else []
    elif (change.get("before"), change.get("after")) != (_plain(before), _plain(after)):
        notes.append("shortened")
    if notes:
        change["note"] = "; ".join(notes)
    return change


class Collected(NamedTuple):
    """Changes, the first of them listed. `kinds` counts all, by kind."""

    listed: list[ChangeView]
    left_out: int
    kinds: dict[str, ChangeCounts]


def collect(changes: Iterable[ChangeView]) -> Collected:
    """Count and list changes."""
    listed: list[ChangeView] = []
    left_out = 0
    kinds: dict[str, ChangeCounts] = {}
    for change in changes:
        counts = kinds.setdefault(change["kind"], {"added": 0, "removed": 0, "changed": 0, "renamed": 0})
        match change["change"]:
            case "added":
                counts["added"] += 1
            case "removed":
                counts["removed"] += 1
            case "renamed":
                counts["renamed"] += 1
            case _:
                counts["changed"] += 1
        if len(listed) < MOST_LISTED:
            listed.append(change)
        else:
            left_out += 1
    return Collected(listed, left_out, kinds)


def describe_counts(kinds: Mapping[str, ChangeCounts]) -> str:
    """`2 dependencies changed, 1 file added`."""
    return ", ".join(
        f"{count:,} {_noun(kind, count)} {change}"
        for kind, counts in kinds.items()
        for change, count in counts.items()
        if isinstance(count, int) and count
    )


def _noun(kind: str, count: int) -> str:
    one, many = _NOUNS.get(kind, (kind, f"{kind}s"))
    return one if count == 1 else many


def _plain(value: Any) -> Any:
    return None if value is ABSENT else value


def _bounded(value: Any) -> Any:
    """The value; of a long text its beginning, of another long value its size and digest."""
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_VALUE else value[:_SHOWN] + "…"
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= _LONGEST_VALUE:
        return value
    content = text.encode()
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
