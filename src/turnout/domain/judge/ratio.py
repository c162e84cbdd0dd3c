"""Whether the arms get the share of the units that the router meant: a test that may be looked at all the time."""

from __future__ import annotations

from functools import lru_cache
from operator import mul
from typing import Any

from turnout.domain.judge.bets import bounded

_ODDS = (0.01, 0.3, 0.6, 0.85, 1.18, 1.6, 3.0, 30.0)
_DOUBT = 10.0
_TOGETHER = 16
_KEPT = ("wealth", "share", "waiting", "units", "candidates", "expected", "evidence", "mismatch")


class SampleRatio:
    """Bets on the arm of each unit that starts, against the probability that the router gave it."""

    __slots__ = (
        "_threshold",
        "candidates",
        "evidence",
        "expected",
        "mismatch",
        "share",
        "units",
        "waiting",
        "wealth",
    )

    def __init__(self, alpha: float) -> None:
        self._threshold = 1 / alpha
        self.wealth = [1.0] * len(_ODDS)
        self.share = 0.0
        self.waiting = 0  # units of the stable arm with this share
        self.units = 0
        self.candidates = 0
        self.expected = 0.0  # candidates, if the router did what it said
        self.evidence = 1.0
        self.mismatch = False  # once found it stays: what was seen before cannot be mended

    def count(self, candidate: bool, share: float) -> None:
        """Add a unit that starts. Units of the stable arm are taken together, a few at a time."""
        self.units += 1
        self.candidates += candidate
        self.expected += share
        if share != self.share:
            self._settle()
            self.share = share
        if not candidate:
            self.waiting += 1
        if candidate or self.waiting == _TOGETHER:
            self._settle()
            if candidate:
                self.wealth = list(map(mul, self.wealth, _factors(share)[1]))
            self._assess()

    def _settle(self) -> None:
        if self.waiting:
            self.wealth = [v * a**self.waiting for v, a in zip(self.wealth, _factors(self.share)[0], strict=True)]
            self.waiting = 0

    def _assess(self) -> None:
        self.evidence = sum(self.wealth) / len(_ODDS)
        if self.evidence >= self._threshold:
            self.mismatch = True
            self.wealth = bounded(self.wealth)

    @property
    def doubtful(self) -> bool:
        """Whether the shares may well be others. A wrong share speaks against the candidate, so nothing is blamed on it."""
        return self.mismatch or self.evidence >= _DOUBT

    def to_state(self) -> dict[str, Any]:
        """As values that JSON knows."""
        return {name: getattr(self, name) for name in _KEPT}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `to_state`."""
        for name in _KEPT:
            setattr(self, name, state[name])
        self.wealth = list(self.wealth)


@lru_cache(maxsize=1024)
def _factors(share: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    shares = [share * ratio / (1 - share + share * ratio) for ratio in _ODDS]
    return tuple((1 - other) / (1 - share) for other in shares), tuple(other / share for other in shares)
