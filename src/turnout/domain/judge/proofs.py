"""The evidence that the candidate is not worse by a margin: one e-process for each margin of the ramp.

Only the last age proves anything: what was reported late or not at all is in it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from operator import mul
from typing import Any

from turnout.domain.judge.bets import (
    HIGHEST,
    PASS_COST_PARTS,
    PASS_RATE_WEIGHTS,
    PASS_RATES,
    Factors,
    Table,
    bounded,
    pass_stakes,
    pass_table,
)
from turnout.domain.judge.config import JudgeConfig
from turnout.domain.judge.evidence import Level
from turnout.domain.judge.tallies import Tally

_COST_KEPT = ("units", "total", "squares", "mean", "variance", "limit")
_WINSOR = 0.5  # of the ceiling: above it a cost counts as this much


class Proof:
    """What the proofs of rates and costs have in common."""

    places = 1
    weights: Factors = (1.0,)

    def __init__(self, margins: tuple[float, ...], thresholds: tuple[float, ...]) -> None:
        self.margins = margins
        self.thresholds = thresholds
        self.active = list(range(len(margins)))  # levels that are not proven
        self.wealth = [1.0] * (len(margins) * self.places)  # for the active levels
        self.evidence = [1.0] * len(margins)
        self.proven = [False] * len(margins)  # what was proven once stays proven
        self.tallies = (Tally(), Tally())  # stable, candidate

    def assess(self) -> None:
        """Note what is proven now. A level that is proven is not looked at again."""
        size, weights, found = self.places, self.weights, False
        for place, level in enumerate(self.active):
            part = self.wealth[place * size : (place + 1) * size]
            self.evidence[level] = min(sum(map(mul, part, weights)), HIGHEST)
            if self.evidence[level] >= self.thresholds[level]:
                self.proven[level] = found = True
        if found:
            self._shed()

    def _shed(self) -> None:
        """Drop the bets on levels that are proven."""
        size, kept = self.places, [place for place, level in enumerate(self.active) if not self.proven[level]]
        self.wealth = [value for place in kept for value in self.wealth[place * size : (place + 1) * size]]
        self.active = [self.active[place] for place in kept]
        self._prepare()

    def _prepare(self) -> None:
        raise NotImplementedError

    @property
    def standing(self) -> float:
        """How much of what the true margin needs is there, 1 or more once it is proven."""
        return 1.0 if self.proven[-1] else self.evidence[-1] / self.thresholds[-1]

    def levels(self) -> tuple[Level, ...]:
        """As values."""
        rows = zip(self.margins, self.evidence, self.thresholds, self.proven, strict=True)
        return tuple(Level(*row) for row in rows)

    def copy_tallies(self) -> tuple[Tally, Tally]:
        """As they are now."""
        stable, candidate = self.tallies
        return replace(stable), replace(candidate)

    def to_state(self) -> dict[str, Any]:
        """As values that JSON knows."""
        state = {"wealth": list(self.wealth), "evidence": list(self.evidence), "proven": list(self.proven)}
        return {**state, "tallies": [tally.to_state() for tally in self.tallies]}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `to_state`."""
        self.wealth, self.evidence, self.proven = (list(state[name]) for name in ("wealth", "evidence", "proven"))
        self.active = [level for level, proven in enumerate(self.proven) if not proven]
        stable, candidate = (Tally.from_state(tally) for tally in state["tallies"])
        self.tallies = (stable, candidate)


class RateProof(Proof):
    """That a rate is not higher by a margin."""

    places = len(PASS_RATES)
    weights = PASS_RATE_WEIGHTS

    def __init__(self, metric: str, config: JudgeConfig) -> None:
        levels = config.levels
        super().__init__(tuple(margins.of(metric) for margins, _ in levels), tuple(limit for _, limit in levels))
        self.rate = self.share = 0.0
        self.table: Table = ((), (), (), ())

    def choose(self, rate: float, share: float) -> None:
        """Make the bets anew for a rate of the stable arm and a share of the candidate."""
        self.rate, self.share = rate, share
        self._prepare()

    def _prepare(self) -> None:
        tables = [pass_table(self.rate, self.share, self.margins[level]) for level in self.active]
        first, second, third, fourth = (tuple(value for table in tables for value in table[row]) for row in range(4))
        self.table = (first, second, third, fourth)

    def settle(self, good: int, bad: int) -> None:
        """Add units of the stable arm."""
        for_good, for_bad = self.table[0], self.table[1]
        wealth = [value * a**good * b**bad for value, a, b in zip(self.wealth, for_good, for_bad, strict=True)]
        self.wealth = bounded(wealth)

    def multiply(self, row: int) -> None:
        """Add a unit of the candidate: 2 a good one, 3 a bad one."""
        self.wealth = list(map(mul, self.wealth, self.table[row]))
        self.assess()


class CostProof(Proof):
    """That the mean cost is not higher by a part of it."""

    places = len(PASS_COST_PARTS)
    weights = (1 / len(PASS_COST_PARTS),) * len(PASS_COST_PARTS)

    def __init__(self, config: JudgeConfig, mean: float, spread: float) -> None:
        levels = config.levels
        super().__init__(tuple(margins.cost for margins, _ in levels), tuple(limit for _, limit in levels))
        self.ceiling = config.ceiling
        self.units = config.history.units  # of the stable arm, faded, like the two sums
        self.total = self.units * mean
        self.squares = self.units * mean * mean * min(math.exp(spread**2), 1 / mean)
        self.mean = self.variance = self.share = self.odds = 0.0
        self.limit = _WINSOR
        self.candidate_line: tuple[Factors, Factors] = ((), ())  # slope and bias of the factor as a line in the cost
        self.stable_line: tuple[Factors, Factors] = ((), ())

    def fade(self, factor: float) -> None:
        """Forget some of what was seen."""
        self.units *= factor
        self.total *= factor
        self.squares *= factor

    def measure(self) -> None:
        """Fix what the bets are made with, from what was seen so far."""
        self.mean = max(self.total / self.units, 1e-7)
        self.variance = max(self.squares / self.units - self.mean**2, 1e-3 * self.mean**2)
        self.limit = min(1.0, max(_WINSOR, 3 * (1 + max(self.margins)) * self.mean))

    def choose(self, share: float) -> None:
        """Make the bets anew for a share of the candidate."""
        self.odds = share / (1 - share)
        self.share = share
        self._prepare()

    def _prepare(self) -> None:
        stakes: list[float] = []
        biases: list[float] = []
        scales: list[float] = []
        for level in self.active:
            above = 1 + self.margins[level]
            chosen = pass_stakes(self.mean, self.variance, self.share, self.margins[level], self.limit)
            stakes += [-stake for stake in chosen]
            biases += [1 + stake * above * self.mean for stake in chosen]
            scales += [stake * above * self.odds for stake in chosen]
        self.candidate_line = tuple(stakes), tuple(biases)
        self.stable_line = tuple(scales), tuple(1 - scale * self.mean for scale in scales)

    def take(self, value: float | None, candidate: bool) -> None:
        """Add a unit that cost `value`. What is missing counts against the candidate in either arm."""
        self.tallies[candidate].count(value or 0.0, value is None)
        part = None if value is None else min(value / self.ceiling, self.limit)
        if candidate:
            cost, (slopes, biases) = self.limit if part is None else part, self.candidate_line
        else:
            cost, (slopes, biases) = part or 0.0, self.stable_line
        if self.active:
            factors = [bias + slope * cost for slope, bias in zip(slopes, biases, strict=True)]
            self.wealth = list(map(mul, self.wealth, factors))
        if candidate:
            self.assess()
            return
        if part is not None:
            self.units += 1
            self.total += cost
            self.squares += cost * cost

    def bound(self) -> None:
        """Keep the wealth within what a number can hold."""
        self.wealth = bounded(self.wealth)

    def to_state(self) -> dict[str, Any]:
        """As values that JSON knows."""
        return {**super().to_state(), **{name: getattr(self, name) for name in _COST_KEPT}}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `to_state`."""
        super().load(state)
        for name in _COST_KEPT:
            setattr(self, name, state[name])
