"""Two JSON values → the places where they differ, as dotted paths: `rings.production.canary[0].weight`.

Lists of named things are compared by name, so that one added in front does not change all that follow. Other lists of
objects are compared by position, and lists of plain values as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from typing import Any

from turnout.artifacts.diff.changes import ABSENT, value_change
from turnout.schemas import ChangeView

Parts = tuple[str | int, ...]
_PLAIN = re.compile(r"[A-Za-z0-9_$/@:+-][A-Za-z0-9_$/@:+.-]*")


def diff_values(before: Any, after: Any, kind: Callable[[Parts], str], at: Parts = ()) -> Iterator[ChangeView]:
    """The differences of two values at a place; `ABSENT` stands for a side that has none. `kind`: what a place is."""
    if same(before, after):
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            yield from diff_values(before.get(key, ABSENT), after.get(key, ABSENT), kind, (*at, key))
        return
    old, new = by_name(before), by_name(after)
    if old is not None and new is not None:
        yield from diff_named(old, new, kind, at)
    elif _are_objects(before) and _are_objects(after):
        for number, (left, right) in enumerate(zip_longest(before, after, fillvalue=ABSENT)):
            yield from diff_values(left, right, kind, (*at, number))
    else:
        yield value_change(kind(at), render(at), before, after)


def diff_named(
    before: Mapping[str, Any], after: Mapping[str, Any], kind: Callable[[Parts], str], at: Parts
) -> Iterator[ChangeView]:
    """Things that have a name and an order."""
    for name in {**before, **after}:
        yield from diff_values(before.get(name, ABSENT), after.get(name, ABSENT), kind, (*at, name))
    yield from diff_order(list(before), list(after), kind(at), render(at))


def diff_order(before: list[str], after: list[str], kind: str, path: str) -> Iterator[ChangeView]:
    """Whether names that are on both sides are in another order."""
    if [name for name in before if name in after] != [name for name in after if name in before]:
        yield value_change(kind, path, before, after, "another order")


def by_name(value: Any) -> dict[str, Any] | None:
    """A list of things with names of their own, by name; None for anything else."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return None
    names = [item.get("name") for item in value]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        return None
    return dict(zip(names, value, strict=True))


def same(before: Any, after: Any) -> bool:
    """Whether two JSON values are the same; unlike for Python, true is not 1."""
    if before is ABSENT or after is ABSENT:
        return before is after
    return json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True)


def render(parts: Parts) -> str:
    """`rings.dev.env.A`, `canary[0]`, `smoke["answers a question"].path`."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{json.dumps(part, ensure_ascii=False)}]"
    return text


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)
