"""How much worse a release may be: the metrics, a number for each, and what they say together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FAILURE, INTERVENTION, COST = "failure", "intervention", "cost"


@dataclass(frozen=True, slots=True)
class Margins:
    """How much worse: failure and intervention as shares of units (0.03 is 3 points), cost as a part (0.25 is +25 %)."""

    failure: float
    intervention: float
    cost: float

    def of(self, metric: str) -> float:
        """The margin of one metric."""
        return {FAILURE: self.failure, INTERVENTION: self.intervention, COST: self.cost}[metric]


MARGINS, NO_MARGINS = Margins(0.03, 0.025, 0.25), Margins(0.0, 0.0, 0.0)


def average_evidence(against: Mapping[str, float]) -> float:
    """What the evidence of all metrics is together, as the judge counts it: their average; 1, which is none, without any."""
    return sum(against.values()) / len(against) if against else 1.0
