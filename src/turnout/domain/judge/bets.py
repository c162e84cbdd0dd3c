"""The factors that one outcome multiplies the evidence with. Pure functions of rates and shares, remembered.

All of them are bets on which arm an outcome came from, with the share π of the candidate known. Under the null each has an
expectation of at most 1 whatever the base rate does, so products of them are test martingales. Sources: Turner, Ly and
Grünwald, safe tests for two data streams; Waudby-Smith and Ramdas, estimating means by betting.

A table holds the factors for (stable, 0), (stable, 1), (candidate, 0), (candidate, 1), each for a whole grid.
"""

from __future__ import annotations

import math
from functools import lru_cache

Factors = tuple[float, ...]
Table = tuple[Factors, Factors, Factors, Factors]

# The weights of a grid add up to 1. How they were chosen: docs/decisions/0028-weights-of-the-bets-are-searched-for.md.
RATE_ODDS = (1.15, 1.4, 2.0, 3.0, 6.0, 20.0, 300.0)
RATE_WEIGHTS = (0.19, 0.09, 0.19, 0.26, 0.12, 0.02, 0.13)
TAIL_ODDS = (1.5, 2.5, 5.0, 15.0, 60.0)
TAIL_WEIGHTS = (0.10, 0.35, 0.20, 0.20, 0.15)
HIT_WEIGHTS = (0.18, 0.18, 0.28, 0.24, 0.12)
COST_PARTS = (0.27, 0.26, 0.07, 0.40)  # of the evidence of the cost: mean, logarithm, 99th percentile, ceiling
LOG_SHIFTS = (0.06, 0.12, 0.25, 0.5, 1.0)
LOG_WEIGHTS = (0.04, 0.09, 0.15, 0.64, 0.08)
MEAN_BETS = (0.01, 0.025, 0.05, 0.1)
MEAN_WEIGHTS = (0.70, 0.08, 0.07, 0.15)
PASS_RATES = (0.0, 0.3, -0.5)  # where the candidate is believed to be, in margins above the stable arm
PASS_RATE_WEIGHTS = (0.7, 0.15, 0.15)
PASS_COST_PARTS = (0.35, 0.7, 1.2)  # of the stake that grows fastest when the arms cost the same
Z_STEP = 0.1
Z_LIMIT = 60  # steps to each side of the mean
_STEP = 0.02  # of the logarithm of the odds, in which running rates are rounded so that tables are shared
_REACH = 400  # steps to each side of even odds
HIGHEST = 1e100  # wealth of a bet: far beyond every decision, and far from what a number can hold


def bounded(wealth: list[float]) -> list[float]:
    """The wealth of bets, none of it beyond all bounds. Giving wealth away keeps a test valid."""
    return [min(value, HIGHEST) for value in wealth] if max(wealth, default=0.0) > HIGHEST else wealth


def round_rate(rate: float) -> float:
    """The rate that tables are made for: within 1 % of `rate`, and neither 0 nor 1."""
    clipped = min(max(rate, 1e-9), 1 - 1e-9)
    step = round(math.log(clipped / (1 - clipped)) / _STEP)
    return 1 / (1 + math.exp(-_STEP * min(max(step, -_REACH), _REACH)))


@lru_cache(maxsize=8192)
def abort_table(rate: float, share: float, tolerance: float, odds: Factors) -> Table:
    """Bets that the candidate's rate is above `rate + tolerance`, by each odds ratio of `odds`."""
    least = rate + tolerance
    if least >= 1:
        return _transpose([(1.0, 1.0, 1.0, 1.0)] * len(odds))
    columns = []
    for ratio in odds:
        raised = least / (1 - least) * ratio
        columns.append(_rate_factors(raised / (1 + raised), rate, share, tolerance))
    return _transpose(columns)


@lru_cache(maxsize=8192)
def pass_table(rate: float, share: float, margin: float) -> Table:
    """Bets that the candidate's rate is below `rate + margin`, for each place of `PASS_RATES`."""
    places = (max(rate + part * margin, rate / 2) for part in PASS_RATES)
    return _transpose([_rate_factors(place, rate, share, margin) for place in places])


@lru_cache(maxsize=256)
def log_table(share: float) -> tuple[tuple[Factors, ...], tuple[Factors, ...]]:
    """For stable and candidate: the factors of a logarithm of cost that lies `index - Z_LIMIT` steps above the mean."""
    stable, candidate = [], []
    for index in range(2 * Z_LIMIT + 1):
        z = (index - Z_LIMIT) * Z_STEP
        ratios = [math.exp(shift * z - shift * shift / 2) for shift in LOG_SHIFTS]
        stable.append(tuple(1 / (1 - share + share * ratio) for ratio in ratios))
        candidate.append(tuple(ratio / (1 - share + share * ratio) for ratio in ratios))
    return tuple(stable), tuple(candidate)


def mean_stakes(mean: float, share: float) -> Factors:
    """The stakes λ on the mean cost, which is a part of the ceiling."""
    most = 0.95 * (1 - share) / (share * max(1 - mean, 0.05))
    return tuple(min(part / mean, most, 0.95 / mean) for part in MEAN_BETS)


def pass_stakes(mean: float, variance: float, share: float, margin: float, limit: float) -> Factors:
    """The stakes that the candidate costs less than `1 + margin` times the stable mean; cost is winsorised at `limit`."""
    gap, centre = margin * mean, (1 + margin) * mean
    odds = share / (1 - share)
    best = gap / (variance + gap * gap + odds * (1 + margin) ** 2 * variance)
    most = 0.95 / max(limit - centre, odds * centre, 1e-9)
    return tuple(min(part * best, most) for part in PASS_COST_PARTS)


def project(high: float, low: float, share: float, shift: float) -> float:
    """The stable rate x of the null in which the candidate's is x + `shift`, nearest to the rates `high` and `low`.

    `high` is the candidate's rate, `low` the stable arm's. Nearest in the expected logarithm of the factor, which makes
    the ratio to it a bet whose expectation is at most 1 in the whole null.
    """
    bottom, top = sorted((low, min(max(high - shift, 0.0), 1.0 - shift)))
    for _ in range(60):
        x = (bottom + top) / 2
        if _slope(x, high, low, share, shift) > 0:
            top = x
        else:
            bottom = x
    return (bottom + top) / 2


def _slope(x: float, high: float, low: float, share: float, shift: float) -> float:
    moved = x + shift
    if x <= 0:
        return -1.0
    if moved >= 1:
        return 1.0
    return share * (moved - high) / (moved * (1 - moved)) + (1 - share) * (x - low) / (x * (1 - x))


def _rate_factors(high: float, low: float, share: float, shift: float) -> tuple[float, float, float, float]:
    if low + shift >= 1:
        return 1.0, 1.0, 1.0, 1.0
    x = project(high, low, share, shift)
    moved = x + shift
    return (1 - low) / (1 - x), low / x, (1 - high) / (1 - moved), high / moved


def _transpose(columns: list[tuple[float, float, float, float]]) -> Table:
    first, second, third, fourth = (tuple(column[row] for column in columns) for row in range(4))
    return first, second, third, fourth
