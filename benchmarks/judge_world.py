"""The simulated ring that judges are compared in: units that begin, go to an arm, and report. Seeded, standard library.

1,000 units an hour for 24 hours; of the stable arm 92 % succeed, 5 % need a human, and the cost is lognormal with a mean of
$0.08 and σ 1.2, stopped at a ceiling of $2. What becomes of a unit is known 5 to 60 seconds after it began.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

HOUR = 3600.0
HOURS = 24
UNITS_AN_HOUR = 1000.0
FAILURE, INTERVENTION, COST, SPREAD, CEILING = 0.08, 0.05, 0.08, 1.2, 2.0
FAR_FUTURE = 1e9

Shares = Callable[[float], float]


class Unit(NamedTuple):
    """One unit: when it began, its arm, the share at that time, and what is known of it from `reported` on."""

    at: float
    candidate: bool
    share: float
    failed: bool
    intervened: bool
    cost: float
    reported: float  # FAR_FUTURE: never


@dataclass(frozen=True, slots=True)
class World:
    """What differs from one scenario to another. Effects are those of the candidate."""

    failure: float = 0.0  # points on top of the stable arm's rate, as a share
    intervention: float = 0.0
    cost: float = 0.0  # as a part: 0.5 is +50 %
    ceiling_hits: float = 0.0  # share of the candidate's units that run into the ceiling
    total: bool = False  # all units of the candidate fail
    onset: float = 0.0  # seconds from the start until the candidate is worse
    outage: bool = False  # both arms fail 60 % of their units between the hours 6 and 8
    drift: bool = False  # both arms: failures rise from 4 % to 14 %
    slow: bool = False  # successes take 10 to 50 minutes, failures seconds; 2 % never report
    sticky: bool = False  # a unit is a conversation of 5 tasks, of users who differ; 200 an hour
    unreported: float = 0.0  # share of the candidate's failures that never report


EQUAL = World()


def units(world: World, seed: int, shares: Shares) -> Iterator[Unit]:
    """The units in the order in which they begin. `shares` says the candidate's share at a time; it may change its mind."""
    chance = random.Random(seed)
    middle = math.log(COST) - SPREAD**2 / 2
    at, pace = 0.0, (UNITS_AN_HOUR / (5 if world.sticky else 1)) / HOUR
    while True:
        at += chance.expovariate(pace)
        if at >= HOURS * HOUR:
            return
        draws = [chance.random() for _ in range(5)]
        log = chance.gauss(middle, SPREAD)
        share = shares(at)
        candidate = draws[0] < share
        worse = candidate and at >= world.onset
        rate = _failure_rate(world, at, candidate=worse)
        cost, failed, intervened = math.exp(log), draws[1] < rate, draws[2] < INTERVENTION + world.intervention * worse
        if world.sticky:
            cost, failed, intervened = _conversation(chance, rate, INTERVENTION + world.intervention * worse)
        cost *= 1 + world.cost * worse
        if worse and draws[3] < world.ceiling_hits:
            cost = CEILING
        reported = at + _delay(world, draws[4], failed=failed)
        if failed and candidate and world.unreported and draws[3] < world.unreported:
            reported = FAR_FUTURE
        yield Unit(at, candidate, share, failed, intervened, min(cost, CEILING), reported)


def _failure_rate(world: World, at: float, *, candidate: bool) -> float:
    rate = 0.04 + 0.10 * at / (HOURS * HOUR) if world.drift else FAILURE
    if world.outage and 6 * HOUR <= at < 8 * HOUR:
        rate = 0.6
    if candidate:
        rate = 1.0 if world.total else min(rate + world.failure, 1.0)
    return rate


def _conversation(chance: random.Random, failure: float, intervention: float) -> tuple[float, bool, bool]:
    """Five tasks of one user: the tasks of one user are alike, the units are not."""
    trouble = chance.gammavariate(0.5, 2.0)  # mean 1
    middle = math.log(COST) - SPREAD**2 / 2 + chance.gauss(0.0, 0.5) - 0.125
    cost = sum(math.exp(chance.gauss(middle, SPREAD)) for _ in range(5)) / 5
    failed = chance.random() < min(failure * trouble, 1.0)
    intervened = chance.random() < min(intervention * trouble, 1.0)
    return cost, failed, intervened


def _delay(world: World, draw: float, *, failed: bool) -> float:
    if not world.slow:
        return 5 + 55 * draw
    if draw < 0.02:
        return FAR_FUTURE
    return 5 + 25 * draw if failed else 600 + 2400 * draw
