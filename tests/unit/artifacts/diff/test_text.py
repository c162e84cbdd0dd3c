"""Unified diffs: exact, as short as the difference, and bounded."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from turnout.artifacts.diff.text import unified_diff

TEXTS = st.lists(st.sampled_from(["a", "b", "c\r", "", "\u2028d", "\x0c"]), max_size=12).flatmap(
    lambda lines: st.sampled_from(["\n".join(lines), "\n".join([*lines, ""])])
)


def apply_diff(before: str, diff: str) -> str:
    """What `patch` would make of the text."""
    lines = [f"{line}\n" for line in before.split("\n")]
    lines[-1] = lines[-1][:-1]
    old = [line for line in lines if line]
    new: list[str] = []
    read, added = 0, False
    for line in diff.split("\n") if diff else []:
        hunk = re.fullmatch(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,\d+)? @@", line)
        if hunk:
            start = int(hunk[1]) - (hunk[2] != "0")
            new += old[read:start]
            read = start
        elif line.startswith("\\"):
            if added:
                new[-1] = new[-1][:-1]
        else:
            added = line[:1] in " +"
            if line[:1] in " -":
                assert old[read].rstrip("\n") == line[1:]
                read += 1
            if added:
                new.append(line[1:] + "\n")
    return "".join([*new, *old[read:]])


@given(TEXTS, TEXTS)
@example("a", "a\n")
@example("a\n", "")
@example("a\r\n", "a\n")
def test_a_diff_makes_the_one_text_out_of_the_other(before: str, after: str) -> None:
    diff, cut = unified_diff(before, after)
    assert cut is None
    assert (diff == "") == (before == after)
    assert apply_diff(before, diff) == after


def test_a_long_diff_ends_with_how_much_is_left_out() -> None:
    diff, cut = unified_diff("", "".join(f"{number}\n" for number in range(1_000)))
    assert len(diff.splitlines()) == 400
    assert cut == "601 more lines"


def test_long_lines_are_shortened() -> None:
    diff, cut = unified_diff("a" * 50_000, "b" * 50_000)
    assert len(diff) < 10_000
    assert cut == "long lines are shortened"


def test_too_many_lines_are_not_compared() -> None:
    assert unified_diff("a\n" * 20_000, "b\n") == ("", "20,000 and 1 lines are too many to be compared")
