"""Confidence bounds: for a share over cases that are repeated, for a mean, and for a difference of pairs. Pure.

Cases are what was sampled; repeats of one case resemble each other, so they count for less than as many cases would. The
share is bounded by Clopper and Pearson's interval at the effective number of runs (Korn and Graubard 1998, Survey
Methodology 24: the number of runs over the design effect), which is exact where repeats are independent, and stays honest at
0 % and 100 %, where an interval by the normal distribution has no width. Differences of pairs are bounded by the adjusted
Wald interval of Agresti and Min (2005, Statistics in Medicine 24), for the same reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, variance


def share_bounds(successes: float, runs: float, confidence: float) -> tuple[float, float]:
    """Clopper and Pearson's two one-sided bounds, each with this confidence; counts may be fractions of effective runs.

    0 and 1 without any run.
    """
    if runs <= 0:
        return 0.0, 1.0
    tail = 1.0 - confidence
    failures = runs - successes
    low = 0.0 if successes <= 0 else _beta_quantile(tail, successes, failures + 1.0)
    high = 1.0 if failures <= 0 else _beta_quantile(1.0 - tail, successes + 1.0, failures)
    return low, high


def clustered_share_bounds(cases: Sequence[Sequence[float]], confidence: float) -> tuple[float, float]:
    """One-sided bounds of the share over the population that the cases were drawn from. `cases`: the runs of each, 0 to 1.

    0 and 1 without any case.
    """
    if not cases:
        return 0.0, 1.0
    means = [fmean(runs) for runs in cases]
    share = fmean(means)
    effective = effective_runs(cases)
    return share_bounds(share * effective, effective, confidence)


def effective_runs(cases: Sequence[Sequence[float]]) -> float:
    """As how many independent runs these count: at least the number of cases, at most the number of runs."""
    count, runs = len(cases), sum(map(len, cases))
    means = [fmean(values) for values in cases]
    share = fmean(means)
    spread = share * (1.0 - share)
    if count < 2 or spread <= 0.0:
        return float(count)  # nothing is known of how repeats resemble each other
    of_mean = variance(means) / count
    if of_mean <= 0.0:
        return float(runs)
    # With few cases the spread itself is uncertain, which the ratio of the two quantiles pays for.
    penalty = (normal_quantile(0.975) / t_quantile(0.975, count - 1)) ** 2
    return min(float(runs), max(float(count), spread / of_mean * penalty))


def mean_bounds(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """Student's one-sided bounds of a mean. Infinite with fewer than two values."""
    if len(values) < 2:
        return -math.inf, math.inf
    middle = fmean(values)
    width = t_quantile(confidence, len(values) - 1) * math.sqrt(variance(values) / len(values))
    return middle - width, middle + width


def difference_bounds(differences: Sequence[float], confidence: float) -> tuple[float, float]:
    """One-sided bounds of the mean difference of pairs, each between -1 and 1.

    Half a case that speaks for, half a case that speaks against, and one that is equal are added.
    """
    if not differences:
        return -1.0, 1.0
    count = len(differences) + 2.0
    middle = sum(differences) / count
    square = (sum(value * value for value in differences) + 1.0) / count
    width = normal_quantile(confidence) * math.sqrt(max(0.0, square - middle * middle) / count)
    return max(-1.0, middle - width), min(1.0, middle + width)


def normal_quantile(probability: float) -> float:
    """Of the standard normal distribution."""
    return NormalDist().inv_cdf(probability)


def t_quantile(probability: float, degrees: int) -> float:
    """Of Student's distribution, by its relation to the beta distribution."""
    if probability < 0.5:
        return -t_quantile(1.0 - probability, degrees)
    if probability == 0.5:
        return 0.0
    # P(T > t) = I(ν / (ν + t²); ν/2, 1/2) / 2
    part = _beta_quantile(2.0 * (1.0 - probability), degrees / 2.0, 0.5)
    return math.sqrt(degrees * (1.0 - part) / part)


def _beta_quantile(probability: float, a: float, b: float) -> float:
    """Where the beta distribution reaches a probability, by halving: 60 steps are exact to the last digits."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if regularised_beta(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0


def regularised_beta(x: float, a: float, b: float) -> float:
    """I(x; a, b), by the continued fraction of DLMF 8.17.22, on the side where it converges fast."""
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - regularised_beta(1.0 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    return front / (a * _fraction(x, a, b))


def _fraction(x: float, a: float, b: float) -> float:
    """1 + d₁/(1 + d₂/(1 + …)), by Lentz's method; its inverse times the front factor over a is the function."""
    tiny = 1e-300
    value, numerator, denominator = 1.0, 1.0, 0.0
    for step in range(1, 10_000):
        half = step // 2
        if step % 2:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        else:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        denominator = 1.0 / ((1.0 + term * denominator) or tiny)
        numerator = (1.0 + term / numerator) or tiny
        change = numerator * denominator
        value *= change
        if abs(change - 1.0) < 1e-15:
            break
    return value
