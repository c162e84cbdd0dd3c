"""Two lists of calls side by side: which call stands for which, with as few changes as there can be. Pure.

A call is (tool, digest of its arguments). Equal calls are a pair; two calls of one tool with other arguments may be a pair,
which is one change; every other call stands alone, which is one change too. `difflib` is no help here: it looks for long
blocks, not for few changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

Key = tuple[str, str]
_MOST_CELLS = 4_000_000  # of the table; longer lists are paired by position


@dataclass(frozen=True, slots=True)
class Pair:
    """Places in the two lists; None where the other list has nothing for it."""

    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class Moved:
    """A call that is in both lists, at different places."""

    before: int
    after: int


def align_calls(before: Sequence[Key], after: Sequence[Key]) -> tuple[Pair, ...]:
    """Pairs in order, with the least number of changes; of those, with the most equal calls."""
    start, shortest = 0, min(len(before), len(after))
    while start < shortest and before[start] == after[start]:
        start += 1
    end = 0
    while end < shortest - start and before[-1 - end] == after[-1 - end]:
        end += 1
    middle = _align(before[start : len(before) - end], after[start : len(after) - end])
    return (
        *(Pair(place, place) for place in range(start)),
        *(Pair(_shift(pair.before, start), _shift(pair.after, start)) for pair in middle),
        *(Pair(len(before) - rest, len(after) - rest) for rest in range(end, 0, -1)),
    )


def find_moves(pairs: Sequence[Pair], before: Sequence[Key], after: Sequence[Key]) -> tuple[Moved, ...]:
    """Calls that are missing at one place and came in addition at another: each is one change of order, not two changes."""
    missing = defaultdict[Key, list[int]](list)
    for pair in pairs:
        if pair.after is None and pair.before is not None:
            missing[before[pair.before]].append(pair.before)
    moves = []
    for pair in pairs:
        if pair.before is None and pair.after is not None and missing[after[pair.after]]:
            moves.append(Moved(missing[after[pair.after]].pop(0), pair.after))
    return tuple(moves)


def _align(before: Sequence[Key], after: Sequence[Key]) -> list[Pair]:
    """By the table of edit distances: (changes, fewer equal calls), from the ends to the beginnings."""
    rows, columns = len(before), len(after)
    if rows * columns > _MOST_CELLS:
        return _by_position(before, after)
    weight = rows + columns + 1  # a change weighs more than all equal calls together
    costs = [[0] * (columns + 1) for _ in range(rows + 1)]
    for row in range(rows, -1, -1):
        for column in range(columns, -1, -1):
            if row < rows or column < columns:
                costs[row][column] = min(_steps(costs, before, after, row, column, weight))[0]
    pairs: list[Pair] = []
    row = column = 0
    while row < rows or column < columns:
        _, step = min(_steps(costs, before, after, row, column, weight))
        pairs.append(Pair(row if step != _EXTRA else None, column if step != _MISSING else None))
        row += step != _EXTRA
        column += step != _MISSING
    return pairs


_BOTH, _MISSING, _EXTRA = range(3)


def _steps(
    costs: Sequence[Sequence[int]], before: Sequence[Key], after: Sequence[Key], row: int, column: int, weight: int
) -> list[tuple[int, int]]:
    """(cost from here to the end, step) of each step that can be taken here."""
    steps = []
    if row < len(before) and column < len(after):
        if before[row] == after[column]:
            steps.append((costs[row + 1][column + 1] - 1, _BOTH))
        elif before[row][0] == after[column][0]:
            steps.append((costs[row + 1][column + 1] + weight, _BOTH))
    if row < len(before):
        steps.append((costs[row + 1][column] + weight, _MISSING))
    if column < len(after):
        steps.append((costs[row][column + 1] + weight, _EXTRA))
    return steps


def _by_position(before: Sequence[Key], after: Sequence[Key]) -> list[Pair]:
    """Good enough for thousands of calls: the first with the first of the same tool."""
    pairs: list[Pair] = []
    for place in range(max(len(before), len(after))):
        there, here = place < len(before), place < len(after)
        if there and here and before[place][0] == after[place][0]:
            pairs.append(Pair(place, place))
        else:
            pairs += [Pair(place, None)] * there + [Pair(None, place)] * here
    return pairs


def _shift(place: int | None, start: int) -> int | None:
    return None if place is None else place + start
