"""Counts of one metric in one arm, and what they say: confidence sequences, which hold at all times at once.

Sources: Robbins' method of mixtures, with a beta prior for rates; Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
time-uniform central limit theory, for means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

_TUNED_FOR = 500.0  # units at which the sequence of a mean is tightest


@dataclass(slots=True)
class Tally:
    """Units judged at the last age, how many of them were not reported, and the sums of the values."""

    units: int = 0
    missing: int = 0
    total: float = 0.0
    squares: float = 0.0

    def count(self, value: float, missing: bool) -> None:
        """Add a unit."""
        self.units += 1
        self.missing += missing
        self.total += value
        self.squares += value * value

    @property
    def log_spread(self) -> float:
        """The standard deviation of the logarithm of a lognormal cost with this mean and variance; 0 when unknown."""
        known = self.units - self.missing
        if known < 2 or self.total <= 0:
            return 0.0
        return math.sqrt(max(math.log(self.squares * known / self.total**2), 0.0))

    def to_state(self) -> list[float]:
        """As values that JSON knows."""
        return list(astuple(self))

    @classmethod
    def from_state(cls, state: Sequence[float]) -> Tally:
        """From `to_state`."""
        units, missing, total, squares = state
        return cls(int(units), int(missing), total, squares)


def rate_interval(bad: float, units: int, alpha: float) -> tuple[float, float]:
    """Where the rate of a bad thing lies, at all times at once with probability 1 − `alpha`, for a rate that stays."""
    if units == 0:
        return 0.0, 1.0
    good = units - bad
    prior = _log_beta(bad + 0.5, good + 0.5) - _log_beta(0.5, 0.5)
    bound = prior - math.log(1 / alpha)

    def outside(rate: float) -> bool:
        return bad * math.log(rate) + good * math.log(1 - rate) < bound

    seen = min(max(bad / units, 1e-12), 1 - 1e-12)
    low = 0.0 if bad == 0 else _border(seen, 0.0, outside)
    high = 1.0 if good == 0 else _border(seen, 1.0, outside)
    return low, high


def mean_interval(tally: Tally, alpha: float) -> tuple[float, float]:
    """Where the mean of a cost lies, in the limit of many units at all times at once with probability 1 − `alpha`."""
    units = tally.units - tally.missing
    if units < 2:
        return 0.0, math.inf
    mean = tally.total / units
    variance = max(tally.squares / units - mean * mean, 0.0)
    log = math.log(1 / alpha)
    rho = (2 * log + math.log(2 * log + 1)) / _TUNED_FOR
    width = math.sqrt(2 * (units * rho + 1) / (units * units * rho) * math.log(math.sqrt(units * rho + 1) / alpha))
    half = width * math.sqrt(variance)
    return max(mean - half, 0.0), mean + half


def _border(inside: float, outermost: float, outside: Callable[[float], bool]) -> float:
    near, far = inside, outermost
    for _ in range(60):
        middle = (near + far) / 2
        if outside(middle):
            far = middle
        else:
            near = middle
    return near


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
