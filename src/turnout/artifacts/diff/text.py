"""Two texts → a unified diff of bounded length."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

_MOST_COMPARED = 10_000  # lines of one side; comparing takes up to the square of it
_MOST_SHOWN = 400
_LONGEST_LINE = 4_000
_NO_NEWLINE = "\\ No newline at end of file"


def unified_diff(before: str, after: str) -> tuple[str, str | None]:
    """The diff from its first `@@` on, with three lines of context, and None; or what there is of it, and why not all.

    Only a line feed ends a line: carriage returns and other separators are part of the text, so a change of them shows.
    """
    old, new = _lines(before), _lines(after)
    if max(len(old), len(new)) > _MOST_COMPARED:
        return "", f"{len(old):,} and {len(new):,} lines are too many to be compared"
    shown: list[str] = []
    left_out, cut = 0, False
    for line in _diff_lines(old, new):
        if len(shown) >= _MOST_SHOWN:
            left_out += 1
            continue
        cut = cut or len(line) > _LONGEST_LINE
        shown.append(line if len(line) <= _LONGEST_LINE else line[:_LONGEST_LINE] + "…")
    reasons = ([f"{left_out:,} more lines"] if left_out else []) + (["long lines are shortened"] if cut else [])
    return "\n".join(shown), ", ".join(reasons) or None


def _lines(text: str) -> list[str]:
    """With their ends, so that a last line without one differs from one with it."""
    *ended, last = text.split("\n")
    return [f"{line}\n" for line in ended] + ([last] if last else [])


def _diff_lines(old: list[str], new: list[str]) -> Iterator[str]:
    for number, line in enumerate(difflib.unified_diff(old, new, n=3)):
        if number < 2:  # the names of the files
            continue
        if line.endswith("\n"):
            yield line[:-1]
        else:
            yield line
            yield _NO_NEWLINE
