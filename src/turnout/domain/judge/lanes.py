"""The evidence against the candidate of one metric, as units pass by in the order in which they began.

A lane stands for one age, or for several for as long as they saw the same: what is known before the first age is known at
all of them. It branches at the first unit of which the ages see different things.

A lane bets on each unit with rates of the stable arm that it has seen before, never with what comes later. Rates, bets and
restarts change with the period (of a minute, as a rule) in which a unit began, so nothing depends on when somebody asks.

Most units are good ones of the stable arm. All of them in a period have the same factors, so they are counted and taken
together: the order of factors does not matter to their product.
"""

from __future__ import annotations

import math
from operator import mul
from typing import Any

from turnout.domain.judge.bets import RATE_ODDS, RATE_WEIGHTS, Factors, Table, abort_table, bounded, round_rate
from turnout.domain.judge.config import METRICS, JudgeConfig
from turnout.domain.judge.proofs import Proof, RateProof
from turnout.domain.judge.units import Unit, Value
from turnout.domain.margins import FAILURE

HOUR = 3600.0
TOGETHER = 64  # units that are taken together at most, so that no product leaves what a number can hold
_KEPT = ("next", "period", "began", "begun", "share", "wealth", "cash", "evidence")


class Lane:
    """What the lanes of rates and costs have in common: the order of units, the clock of the bets, restarts."""

    weights: Factors = ()  # of the grid; they add up to 1
    sums: tuple[str, ...] = ()  # over the stable arm, faded
    measured: tuple[str, ...] = ()  # from the sums, at the start of a period
    quiet: tuple[str, ...] = ()  # counts of units that are still to be taken together
    proof: Proof | None

    def __init__(self, metric: str, ages: tuple[float, ...], config: JudgeConfig) -> None:
        self.metric = metric
        self.column = METRICS.index(metric)
        self.wait_for(ages)
        self.half_life = config.half_life / config.period  # in periods
        self.restarts = math.ceil(config.horizon / HOUR) - 1
        first = config.first_weight if self.restarts > 0 else 1.0
        self.later = (1 - first) / sum(1 / hour for hour in range(1, max(self.restarts, 1) + 1))
        self.next = 0  # number of the unit that comes next
        self.period = -1  # number of that in which the latest unit began
        self.began = 0.0  # when the first unit began
        self.begun = 0  # restarts so far
        self.share = 0.0
        self.wealth: list[float] = [first] * len(self.weights)
        self.cash = 1 - first  # what was not bet yet; it counts as it is
        self.evidence = 1.0

    def judge(self, unit: Unit, value: Value | None) -> float:
        """Take the next unit, of which `value` was known at the age of this lane. What it multiplied the evidence with."""
        raise NotImplementedError

    def wait_for(self, ages: tuple[float, ...]) -> None:
        """Stand for these ages from now on."""
        self.ages, self.age = ages, ages[0]

    def freeze(self) -> None:
        """Bet no more: what is decided stays decided."""
        self.cash, self.wealth, self.weights = self.evidence, [], ()
        self.begun = self.restarts

    def to_state(self) -> dict[str, Any]:
        """As values that JSON knows."""
        names = (*_KEPT, *self.sums, *self.measured, *self.quiet)
        state: dict[str, Any] = {name: getattr(self, name) for name in names}
        state |= {"metric": self.metric, "ages": list(self.ages), "wealth": list(self.wealth)}
        if self.proof is not None:
            state["proof"] = self.proof.to_state()
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `to_state` of a lane of the same metric."""
        for name in (*_KEPT, *self.sums, *self.measured, *self.quiet):
            setattr(self, name, state[name])
        self.wealth = list(self.wealth)
        if not self.wealth:
            self.weights = ()
        if self.proof is not None:
            self.proof.load(state["proof"])
        if self.share:
            self._choose()

    # --- the clock of the bets ------------------------------------------------------------------------------------

    def _keep_up(self, unit: Unit) -> None:
        """Before a unit that began in another period or with another share than the one before it."""
        if unit.period != self.period:
            self._turn(unit)
        if unit.share != self.share:
            self.settle()
            self.share = unit.share
            self._choose()

    def _turn(self, unit: Unit) -> None:
        """A unit of another period: fade what was seen, begin the bets of the hour, make the bets anew."""
        self.settle()
        if self.period >= 0:
            self._fade(0.5 ** ((unit.period - self.period) / self.half_life))
        else:
            self.began = unit.at
        self.period = unit.period
        due = min(int((unit.at - self.began) // HOUR), self.restarts)
        if due > self.begun:
            fresh = sum(self.later / hour for hour in range(self.begun + 1, due + 1))
            self.wealth = [value + fresh for value in self.wealth]
            self.cash -= fresh
            self.begun = due
        self.evidence = self._worth()
        if self.proof is not None:
            self.proof.assess()
        if self._measure() and self.share:
            self._choose()

    def _worth(self) -> float:
        worth: float = self.cash + sum(map(mul, self.wealth, self.weights))
        return worth

    def _multiply(self, factors: Factors) -> float:
        """Take a unit of the candidate. What it multiplied the evidence with."""
        before = self._worth()
        self.wealth = bounded(list(map(mul, self.wealth, factors)))
        self.evidence = self._worth()
        return self.evidence / before if before > 0 else 1.0

    def settle(self) -> None:
        """Take the units that were only counted."""
        raise NotImplementedError

    def _fade(self, factor: float) -> None:
        raise NotImplementedError

    def _measure(self) -> bool:
        """Fix what the bets are made with, from what was seen so far. Whether they are others now."""
        raise NotImplementedError

    def _choose(self) -> None:
        raise NotImplementedError


class RateLane(Lane):
    """The lane of a bad thing that happens or does not: a failure, an intervention."""

    weights = RATE_WEIGHTS
    sums = ("bad", "units")
    measured = ("rate",)
    quiet = ("good_units", "bad_units")

    def __init__(self, metric: str, ages: tuple[float, ...], config: JudgeConfig) -> None:
        super().__init__(metric, ages, config)
        last = ages[-1] == config.ages[-1]
        known = config.history.failure if metric == FAILURE else config.history.intervention
        self.units = config.history.units  # of the stable arm, faded
        self.bad = known * self.units  # of them
        self.good_units = self.bad_units = 0  # of the stable arm
        self.tolerance = config.tolerance.of(metric)
        self.missing_is_bad = last and metric == FAILURE and config.missing_fails
        self.proof: RateProof | None = RateProof(metric, config) if last else None
        self.rate = 0.0
        self.table: Table = ((), (), (), ())

    def judge(self, unit: Unit, value: Value | None) -> float:
        """See `Lane`."""
        self.next += 1
        if unit.period != self.period or unit.share != self.share:
            self._keep_up(unit)
        candidate, bad = unit.candidate, self.missing_is_bad if value is None else bool(value)
        if self.proof is not None:
            self.proof.tallies[candidate].count(bad, value is None)
        if candidate:
            self.settle()
            if self.proof is not None:
                self.proof.multiply(2 + bad)
            return self._multiply(self.table[2 + bad])
        if bad:
            self.bad_units += 1
        else:
            self.good_units += 1
        if self.good_units + self.bad_units == TOGETHER:
            self.settle()
        return 1.0

    def settle(self) -> None:
        """See `Lane`."""
        good, bad = self.good_units, self.bad_units
        if not good and not bad:
            return
        for_good, for_bad = self.table[0], self.table[1]
        wealth = [value * a**good * b**bad for value, a, b in zip(self.wealth, for_good, for_bad, strict=False)]
        self.wealth = bounded(wealth)
        if self.proof is not None:
            self.proof.settle(good, bad)
        self.bad += bad
        self.units += good + bad
        self.good_units = self.bad_units = 0

    def _fade(self, factor: float) -> None:
        factor = max(factor, min(1.0, 1 / self.units))
        self.bad *= factor
        self.units *= factor

    def _measure(self) -> bool:
        before = self.rate
        self.rate = round_rate(self.bad / self.units)
        return self.rate != before

    def _choose(self) -> None:
        self.table = abort_table(self.rate, self.share, self.tolerance, RATE_ODDS)
        if self.proof is not None:
            self.proof.choose(self.rate, self.share)
