"""Other ways to judge a canary, written from their documented rules, on counts of what was reported minute by minute.

Each is a function from `Minutes` to the minute in which it aborts, or None: then it promotes at the end. What never reports
is not in the counts; none of these rules says anything about it. Thresholds are set from the true rate of the stable arm,
which is more than an operator knows.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import product

from benchmarks.judge_world import COST, FAILURE, FAR_FUTURE, HOURS, Unit

Z98, Z95, Z95_OF_THREE = 2.326, 1.645, 2.128  # one-sided 1 %, 5 %, and 5 % shared by three metrics
LEAST = 10  # units of the candidate before a test is made
Sums = tuple[float, float, float, float, float]  # units, failures, interventions, cost, squared cost


class Minutes:
    """Sums of what was reported up to the end of each minute, for stable and candidate."""

    def __init__(self, units: Iterable[Unit]) -> None:
        length = HOURS * 60
        columns = [[[0.0] * (length + 1) for _ in range(5)] for _ in range(2)]
        for unit in units:
            if unit.reported >= FAR_FUTURE:
                continue
            minute = int(unit.reported // 60) + 1
            if minute > length:
                continue
            values = (1.0, float(unit.failed), float(unit.intervened), unit.cost, unit.cost**2)
            for column, value in zip(columns[unit.candidate], values, strict=True):
                column[minute] += value
        for arm in columns:
            for column in arm:
                total = 0.0
                for minute, value in enumerate(column):
                    total += value
                    column[minute] = total
        self._columns = columns
        self.length = length

    def upto(self, minute: int, *, candidate: bool) -> Sums:
        """From the start to the end of a minute."""
        units, failures, interventions, cost, squares = (column[minute] for column in self._columns[candidate])
        return units, failures, interventions, cost, squares

    def between(self, first: int, last: int, *, candidate: bool) -> Sums:
        """After the end of one minute, to the end of another."""
        before, after = self.upto(first, candidate=candidate), self.upto(last, candidate=candidate)
        units, failures, interventions, cost, squares = (b - a for a, b in zip(before, after, strict=True))
        return units, failures, interventions, cost, squares


def flagger(minutes: Minutes) -> int | None:
    """A check each minute of that minute's success rate and mean cost; the fifth failed check in all rolls back."""
    return _thresholds(minutes, interval=1, allowed=4)


def argo(minutes: Minutes) -> int | None:
    """A measurement every five minutes of those five; more than three failed measurements in all abort."""
    return _thresholds(minutes, interval=5, allowed=3)


def _thresholds(minutes: Minutes, interval: int, allowed: int) -> int | None:
    failed = 0
    for minute in range(interval, minutes.length + 1, interval):
        units, failures, _, cost, _ = minutes.between(minute - interval, minute, candidate=True)
        if units:
            failed += failures / units > FAILURE + 0.03 or cost / units > 1.25 * COST
        if failed > allowed:
            return minute
    return None


def kayenta(minutes: Minutes) -> int | None:
    """Each hour a Mann-Whitney interval (98 %) over all half-hour means so far; a score under 75 of 100 aborts."""
    for minute in range(60, minutes.length + 1, 60):
        windows = [(at, at + 30) for at in range(0, minute, 30)]
        high = sum(_is_high(minutes, windows, column) for column in (1, 2, 3))
        if 100 * (3 - high) / 3 < 75:
            return minute
    return None


def _is_high(minutes: Minutes, windows: list[tuple[int, int]], column: int) -> bool:
    series: list[list[float]] = [[], []]
    for first, last in windows:
        for arm in (False, True):
            sums = minutes.between(first, last, candidate=arm)
            if sums[0]:
                series[arm].append(sums[column] / sums[0])
    stable, candidate = series
    if not stable or not candidate:
        return False
    differences = sorted(b - a for a, b in product(stable, candidate))
    pairs = len(differences)
    rank = pairs / 2 - Z98 * math.sqrt(pairs * (len(stable) + len(candidate) + 1) / 12)
    if rank < 1:
        return False
    estimate = (differences[(pairs - 1) // 2] + differences[pairs // 2]) / 2
    return differences[int(rank) - 1] > 0.25 * abs(estimate)


def peeking(minutes: Minutes) -> int | None:
    """A z-test of each metric, looked at every minute."""
    return _first(minutes, range(1, minutes.length + 1), lambda _: Z95_OF_THREE)


def fixed(minutes: Minutes) -> int | None:
    """A z-test of each metric, looked at once, at the end."""
    return _first(minutes, [minutes.length], lambda _: Z95_OF_THREE)


def pocock(minutes: Minutes) -> int | None:
    """Group-sequential, a look every hour, the same boundary at each."""
    boundary = _boundaries()[0]
    return _first(minutes, range(60, minutes.length + 1, 60), lambda _: boundary)


def obrien_fleming(minutes: Minutes) -> int | None:
    """Group-sequential, a look every hour, the boundary high at first."""
    boundary = _boundaries()[1]
    return _first(minutes, range(60, minutes.length + 1, 60), lambda part: boundary / math.sqrt(part))


def growthbook(minutes: Minutes) -> int | None:
    """An asymptotic confidence sequence for each metric (95 %, tuned for 5,000 units), looked at every minute."""
    rho = math.sqrt((-2 * math.log(0.05) + math.log(-2 * math.log(0.05) + 1)) / 5000)

    def width(units: float) -> float:
        scaled = units * rho**2 + 1
        return math.sqrt(units) * math.sqrt(2 * scaled / (units**2 * rho**2) * math.log(math.sqrt(scaled) / 0.05))

    for minute in range(1, minutes.length + 1):
        stable, candidate = (minutes.upto(minute, candidate=arm) for arm in (False, True))
        if candidate[0] >= LEAST and max(_scores(stable, candidate)) > width(stable[0] + candidate[0]):
            return minute
    return None


PEERS: dict[str, Callable[[Minutes], int | None]] = {
    "Flagger's thresholds": flagger,
    "Argo's thresholds": argo,
    "Kayenta's Mann-Whitney": kayenta,
    "z-test, each minute": peeking,
    "z-test, at the end": fixed,
    "Pocock, each hour": pocock,
    "O'Brien-Fleming, each hour": obrien_fleming,
    "GrowthBook's sequence": growthbook,
}


def _first(minutes: Minutes, looks: Iterable[int], boundary: Callable[[float], float]) -> int | None:
    for minute in looks:
        stable, candidate = (minutes.upto(minute, candidate=arm) for arm in (False, True))
        if candidate[0] >= LEAST and max(_scores(stable, candidate)) > boundary(minute / minutes.length):
            return minute
    return None


def _scores(stable: Sums, candidate: Sums) -> list[float]:
    """How many standard errors the candidate is worse by: failures, interventions, cost."""
    scores = []
    for column in (1, 2):
        pooled = (stable[column] + candidate[column]) / (stable[0] + candidate[0])
        error = math.sqrt(pooled * (1 - pooled) * (1 / stable[0] + 1 / candidate[0])) if 0 < pooled < 1 else math.inf
        scores.append((candidate[column] / candidate[0] - stable[column] / stable[0]) / error)
    variances = [max(sums[4] / sums[0] - (sums[3] / sums[0]) ** 2, 1e-12) / sums[0] for sums in (stable, candidate)]
    scores.append((candidate[3] / candidate[0] - stable[3] / stable[0]) / math.sqrt(sum(variances)))
    return scores


@lru_cache(maxsize=1)
def _boundaries() -> tuple[float, float]:
    """Of Pocock and of O'Brien and Fleming, for a look an hour and a third of 5 %, from simulated Brownian paths."""
    chance, runs = random.Random(1), 40_000
    flat, falling = [], []
    for _ in range(runs):
        total, highest, lowest = 0.0, -math.inf, -math.inf
        for look in range(1, HOURS + 1):
            total += chance.gauss(0.0, 1.0)
            highest = max(highest, total / math.sqrt(look))
            lowest = max(lowest, total / math.sqrt(HOURS))
        flat.append(highest)
        falling.append(lowest)
    place = int(runs * (1 - 0.05 / 3))
    return sorted(flat)[place], sorted(falling)[place]
