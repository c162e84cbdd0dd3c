"""What two sequences have in common: never wrong, and of usual changes nearly everything."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from turnout.artifacts.diff.align import Stretch, align

ITEMS = st.lists(st.integers(0, 8), max_size=30)


@given(ITEMS, ITEMS)
def test_stretches_are_the_same_on_both_sides_and_in_order(before: list[int], after: list[int]) -> None:
    at_before = at_after = 0
    for stretch in align(before, after):
        assert stretch.size > 0
        assert stretch.before >= at_before
        assert stretch.after >= at_after
        end_before, end_after = stretch.before + stretch.size, stretch.after + stretch.size
        assert before[stretch.before : end_before] == after[stretch.after : end_after]
        assert (stretch.before, stretch.after) != (at_before, at_after) or at_before == 0
        at_before, at_after = end_before, end_after


@given(ITEMS)
def test_a_sequence_is_the_same_as_itself(items: list[int]) -> None:
    assert align(items, items) == ([Stretch(0, 0, len(items))] if items else [])


def test_scattered_changes_leave_the_rest_aligned() -> None:
    before = list(range(1_000))
    after = [-item if item % 100 == 50 else item for item in before]
    after[500:500] = [-1, -2]
    del after[700:710]
    assert sum(stretch.size for stretch in align(before, after)) == 1_000 - 10 - 10
    assert align([1, 2, 3], [0, 2, 3, 4]) == [Stretch(1, 1, 2)]


def test_what_repeats_does_not_take_long() -> None:
    started = time.process_time()
    align([0] * 200_000, [1, *[0] * 199_998, 1])
    align([number % 7 for number in range(200_000)], [number % 5 for number in range(200_000)])
    assert time.process_time() - started < 5
