"""What a verdict rests on, as frozen values. Whatever takes longer to say is computed when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from turnout.domain.judge.config import History, JudgeConfig
from turnout.domain.judge.power import Need, needed
from turnout.domain.judge.tallies import Tally, mean_interval, rate_interval
from turnout.domain.margins import COST, FAILURE, INTERVENTION, Margins

SAMPLE_RATIO = "sample_ratio"


class Kind(StrEnum):
    """What to do: take the candidate back, go no further for now, release it, or wait for more."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    HOLD = "hold"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Arm:
    """One metric in one arm, over the units that are past the last age or can change no more."""

    units: int
    missing: int  # of them, without a report of this metric
    mean: float  # share of bad ones, or cost of a unit
    low: float  # a confidence sequence: holds at all times at once
    high: float


@dataclass(frozen=True, slots=True)
class Level:
    """Margins of one metric, and how far the proof is that the candidate is inside them."""

    margin: float
    evidence: float
    threshold: float
    proven: bool


@dataclass(frozen=True, slots=True)
class MetricEvidence:
    """One metric: the evidence against the candidate (1 is none), the proofs for it, both arms."""

    metric: str
    against: float
    levels: tuple[Level, ...]
    tallies: tuple[Tally, Tally]  # stable, candidate
    alpha: float

    @property
    def stable(self) -> Arm:
        """The stable arm."""
        return self._arm(self.tallies[0])

    @property
    def candidate(self) -> Arm:
        """The candidate."""
        return self._arm(self.tallies[1])

    def _arm(self, tally: Tally) -> Arm:
        if self.metric == COST:
            known = tally.units - tally.missing
            low, high = mean_interval(tally, self.alpha)
            return Arm(tally.units, tally.missing, tally.total / known if known else 0.0, low, high)
        low, high = rate_interval(tally.total, tally.units, self.alpha)
        return Arm(tally.units, tally.missing, tally.total / tally.units if tally.units else 0.0, low, high)


@dataclass(frozen=True, slots=True)
class Weighed:
    """A unit that weighed: it multiplied the evidence of a metric against the candidate with `factor`."""

    task: str
    metric: str
    at: float  # when it began
    factor: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """What the router did: units that began, how many of them on the candidate, how many that should have been."""

    units: int
    candidates: int
    expected: float
    evidence: float
    mismatch: bool
    share: float  # that the router gave the candidate of late


@dataclass(frozen=True, slots=True)
class Point:
    """The evidence against the candidate at one moment, by metric."""

    at: float
    against: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a verdict rests on. `against` is the average of the metrics' evidence; 1 is none, 1/α aborts."""

    config: JudgeConfig
    at: float
    began: float | None  # when the first unit began
    against: float
    metrics: Mapping[str, MetricEvidence]
    ratio: Ratio
    proven: int  # how many levels of margins are proven for all metrics, from the coarsest
    weighed: tuple[Weighed, ...]  # heaviest first, a bounded list
    history: tuple[Point, ...]  # oldest first, thinned out as it grows
    open_units: int  # begun, and not past the last age
    bad: Mapping[str, int]  # what could not be used, by kind

    @property
    def levels(self) -> tuple[Margins, ...]:
        """The margins of the ramp, coarsest first."""
        return tuple(margins for margins, _ in self.config.levels)

    @property
    def needed(self) -> tuple[Need, ...]:
        """What each metric that is not proven needs, at the pace and the rates so far, if the candidate is equal."""
        hours = (self.at - self.began) / 3600 if self.began is not None else 0.0
        pace = self.ratio.units / hours if hours > 0 else 0.0
        config = replace(self.config, history=self._seen())
        return tuple(
            needed(config, name, found.levels[-1].evidence, self.ratio.share, pace)
            for name, found in self.metrics.items()
            if not found.levels[-1].proven
        )

    def _seen(self) -> History:
        """The stable arm of this rollout, in the form of a history."""
        history = self.config.history
        for name in (FAILURE, INTERVENTION):
            if name in self.metrics and self.metrics[name].tallies[0].units:
                history = replace(history, **{name: self.metrics[name].stable.mean})
        if COST in self.metrics and (spread := self.metrics[COST].tallies[0].log_spread):
            history = replace(history, spread=spread)
        return history

    def cost_per_success(self, *, candidate: bool) -> float | None:
        """Cost of all units of an arm over its successful ones. None without a success, or when cost is not judged."""
        if COST not in self.metrics or FAILURE not in self.metrics:
            return None
        cost, failure = (self.metrics[name].tallies[candidate] for name in (COST, FAILURE))
        good = failure.units - failure.total
        return cost.total / good if good > 0 else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge says at one moment. `metric`: why a fail or hold; of an inconclusive one the least proven."""

    kind: Kind
    metric: str | None
    evidence: Evidence
