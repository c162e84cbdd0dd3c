"""The evidence against the candidate of its cost: mean, logarithm, tail, and how often it meets the ceiling."""

from __future__ import annotations

import math
from operator import mul

from turnout.domain.judge.bets import (
    COST_PARTS,
    HIT_WEIGHTS,
    LOG_SHIFTS,
    LOG_WEIGHTS,
    MEAN_BETS,
    MEAN_WEIGHTS,
    TAIL_ODDS,
    TAIL_WEIGHTS,
    Z_LIMIT,
    Z_STEP,
    Factors,
    Table,
    abort_table,
    bounded,
    log_table,
    mean_stakes,
    round_rate,
)
from turnout.domain.judge.config import JudgeConfig
from turnout.domain.judge.lanes import TOGETHER, Lane, RateLane
from turnout.domain.judge.proofs import CostProof
from turnout.domain.judge.units import Unit, Value
from turnout.domain.margins import COST

SMALLEST_COST = 1e-7  # of the ceiling; what costs less counts as this where a logarithm is taken
NEAR_CEILING = 0.9
_P99 = 2.326  # standard deviations above the mean of a normal distribution
_SMALLEST_LOG = math.log(SMALLEST_COST)
_HEAD = len(MEAN_BETS) + len(LOG_SHIFTS)  # bets that differ from unit to unit; those on the tail come after them


def make_lane(metric: str, ages: tuple[float, ...], config: JudgeConfig) -> Lane:
    """The lane of a metric for some of the ages of the configuration. One with the last age proves things too."""
    return (CostLane if metric == COST else RateLane)(metric, ages, config)


class CostLane(Lane):
    """The lane of the cost: its mean, its logarithm, its tail as 99th percentile and as ceiling."""

    weights = tuple(
        part * weight
        for part, weights in zip(COST_PARTS, (MEAN_WEIGHTS, LOG_WEIGHTS, TAIL_WEIGHTS, HIT_WEIGHTS), strict=True)
        for weight in weights
    )
    sums = ("units", "mean", "logs", "squares", "tails", "hits")
    measured = ("typical", "centre", "scale", "p99", "tail_rate", "hit_rate")
    quiet = ("plain_units",)

    def __init__(self, metric: str, ages: tuple[float, ...], config: JudgeConfig) -> None:
        super().__init__(metric, ages, config)
        history = config.history
        self.ceiling = config.ceiling
        self.tolerance = 1 / (1 + config.tolerance.cost)
        mean = min(max(history.cost / config.ceiling if history.cost is not None else 0.05, SMALLEST_COST), 1.0)
        middle = math.log(mean) - history.spread**2 / 2
        # Sums over the stable arm, faded: of units, cost as a part of the ceiling, its logarithm, the square of that,
        # of units above the 99th percentile, of units near the ceiling.
        self.units = history.units
        self.mean = self.units * mean
        self.logs = self.units * middle
        self.squares = self.units * (middle**2 + history.spread**2)
        self.tails = self.units * 0.01
        self.hits = self.units * max(history.ceiling_hits, 1e-4)
        self.plain_units = 0  # of the stable arm, not in the tail
        last = ages[-1] == config.ages[-1]
        self.proof: CostProof | None = CostProof(config, mean, history.spread) if last else None
        self.typical = self.centre = self.scale = self.p99 = self.tail_rate = self.hit_rate = 0.0
        self.stakes: tuple[Factors, Factors] = ((), ())
        self.log_factors: tuple[tuple[Factors, ...], tuple[Factors, ...]] = ((), ())
        self.tail_table: Table = ((), (), (), ())
        self.hit_table: Table = ((), (), (), ())
        self.plain: Factors = ()

    def judge(self, unit: Unit, value: Value | None) -> float:
        """See `Lane`."""
        self.next += 1
        if unit.period != self.period or unit.share != self.share:
            self._keep_up(unit)
        candidate = unit.candidate
        if self.proof is not None:
            self.proof.take(value, candidate)
        if value is None:
            return 1.0
        part = value / self.ceiling
        hit = part >= NEAR_CEILING
        if candidate:
            part *= self.tolerance
        log = math.log(part) if part > SMALLEST_COST else _SMALLEST_LOG
        tail = log > self.p99
        step = int((log - self.centre) * self.scale + Z_LIMIT + 0.5)
        step = 0 if step < 0 else min(step, 2 * Z_LIMIT)
        away = part - self.typical
        head = [1 + stake * away for stake in self.stakes[candidate]]
        head += self.log_factors[candidate][step]
        if candidate:
            self.settle()
            return self._multiply((*head, *self.tail_table[2 + tail], *self.hit_table[2 + hit]))
        self.units += 1
        self.mean += part
        self.logs += log
        self.squares += log * log
        if tail or hit:
            self.tails += tail
            self.hits += hit
            self.settle()
            head += (*self.tail_table[tail], *self.hit_table[hit])
            self.wealth = list(map(mul, self.wealth, head))
        else:
            self.plain_units += 1
            self.wealth[:_HEAD] = map(mul, self.wealth, head)
            if self.plain_units == TOGETHER:
                self.settle()
        return 1.0

    def settle(self) -> None:
        """See `Lane`."""
        plain = self.plain_units
        if plain:
            self.wealth[_HEAD:] = [value * a**plain for value, a in zip(self.wealth[_HEAD:], self.plain, strict=False)]
            self.plain_units = 0
        self.wealth = bounded(self.wealth)
        if self.proof is not None:
            self.proof.bound()

    def _fade(self, factor: float) -> None:
        factor = max(factor, min(1.0, 1 / self.units))
        for name in self.sums:
            setattr(self, name, getattr(self, name) * factor)
        if self.proof is not None:
            self.proof.fade(factor)

    def _measure(self) -> bool:
        self.typical = max(self.mean / self.units, SMALLEST_COST)
        self.centre = self.logs / self.units
        spread = math.sqrt(max(self.squares / self.units - self.centre**2, 1e-4))
        self.scale = 1 / (spread * Z_STEP)
        self.p99 = self.centre + _P99 * spread
        self.tail_rate = round_rate(self.tails / self.units)
        self.hit_rate = round_rate(self.hits / self.units)
        if self.proof is not None:
            self.proof.measure()
        return True

    def _choose(self) -> None:
        share = self.share
        stakes = mean_stakes(self.typical, share)
        self.stakes = (tuple(-stake * share / (1 - share) for stake in stakes), stakes)
        self.log_factors = log_table(share)
        self.tail_table = abort_table(self.tail_rate, share, 0.0, TAIL_ODDS)
        self.hit_table = abort_table(self.hit_rate, share, 0.0, TAIL_ODDS)
        self.plain = (*self.tail_table[0], *self.hit_table[0])
        if self.proof is not None:
            self.proof.choose(share)
