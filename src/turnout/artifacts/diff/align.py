"""Two sequences → the stretches that they have in common, in order.

Both ends first; between them, items that are there exactly once on either side are anchors, and stretches grow around them.
What has no anchor counts as different: that costs reading, never a wrong answer. Takes n log n steps, whatever repeats.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T", bound=Hashable)


class Stretch(NamedTuple):
    """`size` items from `before` on in one sequence are the same as those from `after` on in the other."""

    before: int
    after: int
    size: int


def align(before: Sequence[T], after: Sequence[T]) -> list[Stretch]:
    """The stretches in order; none is empty, none overlaps another, none touches the next on both sides."""
    start = 0
    shorter = min(len(before), len(after))
    while start < shorter and before[start] == after[start]:
        start += 1
    end = 0
    while end < shorter - start and before[-1 - end] == after[-1 - end]:
        end += 1
    left, right = len(before) - end, len(after) - end
    stretches = [Stretch(0, 0, start)] if start else []
    for one, other in _anchors(before, after, start, left, right):
        known = stretches[-1] if stretches else Stretch(start, start, 0)
        low_before, low_after = known.before + known.size, known.after + known.size
        if one < low_before or other < low_after:
            continue
        back = 0
        while (
            one - back > low_before and other - back > low_after and before[one - back - 1] == after[other - back - 1]
        ):
            back += 1
        ahead = 1
        while one + ahead < left and other + ahead < right and before[one + ahead] == after[other + ahead]:
            ahead += 1
        stretches.append(Stretch(one - back, other - back, back + ahead))
    if end:
        stretches.append(Stretch(left, right, end))
    return list(_joined(stretches))


def _anchors(before: Sequence[T], after: Sequence[T], start: int, left: int, right: int) -> list[tuple[int, int]]:
    """Places of items that are there once on each side, as many as can be taken in order: the longest growing run."""
    once_before = dict(_once(before, start, left))
    pairs = sorted((once_before[item], place) for item, place in _once(after, start, right) if item in once_before)
    ends: list[int] = []  # of runs of each length, the smallest last place
    lasts: list[int] = []  # which pair that is
    links: list[int] = []
    for number, (_, place) in enumerate(pairs):
        length = bisect_left(ends, place)
        links.append(lasts[length - 1] if length else -1)
        ends[length : length + 1] = [place]
        lasts[length : length + 1] = [number]
    chosen = []
    number = lasts[-1] if lasts else -1
    while number >= 0:
        chosen.append(pairs[number])
        number = links[number]
    return chosen[::-1]


def _once(items: Sequence[T], start: int, end: int) -> Iterator[tuple[T, int]]:
    counts = Counter(items[start:end])
    return ((items[place], place) for place in range(start, end) if counts[items[place]] == 1)


def _joined(stretches: Sequence[Stretch]) -> Iterator[Stretch]:
    held: Stretch | None = None
    for stretch in stretches:
        if held and (held.before + held.size, held.after + held.size) == stretch[:2]:
            held = held._replace(size=held.size + stretch.size)
            continue
        if held:
            yield held
        held = stretch
    if held:
        yield held
