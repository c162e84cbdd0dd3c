"""Confidence bounds: for a share over cases that are repeated, for a mean, and for a difference of pairs. Pure.

Cases are what was sampled; repeats of one case resemble each other, so they count for less than as many cases would. The
share is bounded by Clopper and Pearson's interval at the effective number of runs (Korn and Graubard 1998, Survey
Methodology 24: the number of runs over the design effect), which is exact where repeats are independent, and stays honest at
0 % and 100 %, where an interval by the normal distribution has no width. Differences of pairs are bounded by the adjusted
Wald interval of Agresti and Min (2005, Statistics in Medicine 24), for the same reason.

Costs and times are skewed: a few cases are dear, and most samples hold too few of them, so that Student's upper bound is
below the truth far too often. `skewed_mean_bound` takes the largest of three bounds: Student's, Hall's (1992, Journal of the
Royal Statistical Society B 54), which corrects for skewness, and, where the values look log-normal, Cox's (Zhou and Gao
1997, Statistics in Medicine 16).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, variance

_JARQUE_BERA = 5.991  # what 5 % of samples of a normal distribution exceed


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


def skewed_mean_bound(values: Sequence[float], confidence: float) -> float:
    """The one-sided upper bound of a mean of costs or times, of which a few may be large. Infinite with fewer than two."""
    if len(values) < 2:
        return math.inf
    count, middle = len(values), fmean(values)
    deviation = math.sqrt(variance(values))
    bounds = [mean_bounds(values, confidence)[1]]
    if deviation <= 1e-12 * abs(middle):
        return bounds[0]
    quantile = t_quantile(confidence, count - 1)
    skewness, _ = _shape(values)
    if skewness > 1e-6:
        bounds.append(middle - deviation * _hall(-quantile / math.sqrt(count), skewness, count))
    if _looks_log_normal(values):
        logs = [math.log(value) for value in values]
        spread = variance(logs)
        width = quantile * math.sqrt(spread / count + spread * spread / (2.0 * (count - 1)))
        bounds.append(math.exp(min(700.0, fmean(logs) + spread / 2.0 + width)))
    return max(bounds)


def _hall(bound: float, skewness: float, count: int) -> float:
    """Where Hall's transformation g(t) = t + γt²/3 + γ²t³/27 + γ/6n of the deviation from the mean, in standard deviations,
    reaches a bound."""
    inner = 1.0 + skewness * (bound - skewness / (6.0 * count))
    return 3.0 / skewness * (math.copysign(abs(inner) ** (1.0 / 3.0), inner) - 1.0)


def _looks_log_normal(values: Sequence[float]) -> bool:
    """Whether the test of Jarque and Bera on the logarithms does not speak against it, at 5 %."""
    if min(values) <= 0.0:
        return False
    logs = [math.log(value) for value in values]
    if variance(logs) <= 1e-12:
        return False
    skewness, excess = _shape(logs)
    return len(values) / 6.0 * (skewness * skewness + excess * excess / 4.0) <= _JARQUE_BERA


def _shape(values: Sequence[float]) -> tuple[float, float]:
    """(skewness, excess kurtosis) of values that differ."""
    middle = fmean(values)
    unit = math.sqrt(fmean((value - middle) ** 2 for value in values))
    parts = [(value - middle) / unit for value in values]
    return fmean(part**3 for part in parts), fmean(part**4 for part in parts) - 3.0


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
