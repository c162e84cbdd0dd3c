"""What a judge is told before it starts: metrics, margins, ages, levels of evidence. Checked once, here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from turnout.domain.errors import InvalidRequest
from turnout.domain.margins import COST, FAILURE, INTERVENTION, MARGINS, NO_MARGINS, Margins

METRICS = (FAILURE, INTERVENTION, COST)
SHORTEST_AGE = 0.01  # seconds
LONGEST_HORIZON = 1e8  # seconds
_LONGEST_TICK, _TICKS_IN_AGE = 10.0, 12  # seconds; of the first age
_LONGEST_PERIOD, _PERIODS_IN_AGE = 60.0, 2


@dataclass(frozen=True, slots=True)
class History:
    """What the stable release did before the rollout. It only tunes the bets; a wrong history costs time, not validity."""

    failure: float = 0.05  # share of units
    intervention: float = 0.05  # share of units
    cost: float | None = None  # mean cost of a unit; None: a twentieth of the ceiling
    spread: float = 1.2  # standard deviation of the logarithm of the cost
    ceiling_hits: float = 0.001  # share of units whose cost reaches nine tenths of the ceiling
    units: float = 30.0  # how many units of the stable arm it weighs as much as


@dataclass(frozen=True, slots=True)
class JudgeConfig:
    """All settings of a judge, with the defaults of a production ring. Times in seconds, cost in the unit of `ceiling`.

    Raises `InvalidRequest` for values that make no sense together.
    """

    metrics: tuple[str, ...] = METRICS
    ceiling: float = 2.0  # cost at which a task is stopped; what is reported above it counts as much as it
    alpha: float = 0.05  # probability of a wrong abort, and for each metric of a wrong pass
    hold_at: float = 10.0  # evidence against the candidate from which it takes no further step
    ages: tuple[float, ...] = (120.0, 600.0, 3600.0)
    margins: Margins = MARGINS
    coarse_margins: tuple[Margins, ...] = (Margins(0.10, 0.10, 1.0), Margins(0.05, 0.05, 0.5))
    coarse_evidence: float = 10.0
    tolerance: Margins = NO_MARGINS  # worse by less than this is no reason to abort
    minimum_units: int = 20  # of the candidate, before anything can be proven
    horizon: float = 86_400.0  # the time over which faults that begin late are looked for
    first_weight: float = 0.6  # of the evidence that counts from the start; the rest is spread over the hours
    half_life: float = 7_200.0  # of the stable arm's running rates
    ratio_alpha: float = 0.001  # probability of a wrong complaint about the share that the router gave
    missing_fails: bool = True  # whether a unit of which nothing is known at the last age has failed
    listed_units: int = 10  # how many of the units that weighed most are remembered
    history: History = History()

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise InvalidRequest(f"the judge cannot work with this configuration: {problem}")

    @property
    def abort_at(self) -> float:
        """The evidence from which a release is aborted, or a metric proven."""
        return 1.0 / self.alpha

    @property
    def tick(self) -> float:
        """Seconds between the moments at which units reach an age: 10, and less when the first age is under 2 minutes."""
        return min(_LONGEST_TICK, self.ages[0] / _TICKS_IN_AGE)

    @property
    def period(self) -> float:
        """Seconds after which bets are made anew: 60, and less when the first age is under 2 minutes."""
        return min(_LONGEST_PERIOD, self.ages[0] / _PERIODS_IN_AGE)

    @property
    def levels(self) -> tuple[tuple[Margins, float], ...]:
        """Margins and the evidence that proves them: the coarse ones of the ramp in order, the true ones last."""
        return (*((margins, self.coarse_evidence) for margins in self.coarse_margins), (self.margins, self.abort_at))

    def to_state(self) -> dict[str, Any]:
        """As values that JSON knows."""
        state = asdict(self)
        return {
            **state,
            "metrics": list(self.metrics),
            "ages": list(self.ages),
            "coarse_margins": [asdict(margins) for margins in self.coarse_margins],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> JudgeConfig:
        """From `to_state`, or from a part of it: what is not named has its default. Raises `InvalidRequest`."""
        default = cls()
        values: dict[str, Any] = {}
        try:
            for name, value in _known(state, cls).items():
                if name in ("margins", "tolerance", "history"):
                    section = getattr(default, name)
                    values[name] = replace(section, **_known(value, type(section), f"{name}."))
                elif name == "coarse_margins":
                    values[name] = tuple(Margins(**_known(margins, Margins, f"{name}.")) for margins in value)
                else:
                    values[name] = tuple(value) if name in ("metrics", "ages") else value
            return cls(**values)
        except (TypeError, AttributeError, OverflowError) as error:
            raise InvalidRequest(f"the settings of a judge have a value of the wrong kind: {error}") from error


def _known(state: Mapping[str, Any], kind: type[Any], path: str = "") -> Mapping[str, Any]:
    if not isinstance(state, Mapping):
        raise InvalidRequest(f"the judge's setting {path.rstrip('.') or 'file'!r} is not a table of settings")
    if unknown := sorted(str(name) for name in state.keys() - {field.name for field in fields(kind)}):
        raise InvalidRequest(f"the judge has no setting {path + unknown[0]!r}")
    return state


def _problems(config: JudgeConfig) -> list[str]:
    rates = (config.history.failure, config.history.intervention, config.history.ceiling_hits)
    cost = config.history.cost
    positive = (config.ceiling, config.horizon, config.half_life, config.history.units, config.history.spread)
    checks = (
        (bool(config.metrics) and set(config.metrics) <= set(METRICS), f"metrics are some of {', '.join(METRICS)}"),
        (len(set(config.metrics)) == len(config.metrics), "a metric is named twice"),
        (0 < config.alpha < 1 and 0 < config.ratio_alpha < 1, "alpha and ratio_alpha lie between 0 and 1"),
        (config.hold_at > 1 and config.hold_at * config.alpha <= 1, "hold_at lies between 1 and 1/alpha"),
        (config.coarse_evidence > 1, "coarse_evidence is more than 1"),
        (bool(config.ages) and config.ages[0] >= SHORTEST_AGE, f"there is an age, and none under {SHORTEST_AGE} s"),
        (all(a < b for a, b in zip(config.ages, config.ages[1:], strict=False)), "ages rise"),
        (
            all(math.isfinite(value) and value > 0 for value in (*positive, *config.ages)),
            "times and sizes are positive",
        ),
        (config.horizon <= LONGEST_HORIZON, f"horizon is at most {LONGEST_HORIZON:g} s"),
        (0 < config.first_weight <= 1, "first_weight is a part of 1"),
        (config.minimum_units >= 1 and config.listed_units >= 0, "minimum_units is at least 1"),
        (all(0 <= rate <= 1 for rate in rates), "rates of the history lie between 0 and 1"),
        (cost is None or (math.isfinite(cost) and cost >= 0), "the cost of the history is not negative"),
        (
            all(_is_margin(margins) for margins in (*config.coarse_margins, config.margins)),
            "margins are positive, those of rates below 1",
        ),
        (_is_tolerance(config), "a tolerance is not negative, and inside the margin"),
    )
    return [problem for holds, problem in checks if not holds]


def _is_margin(margins: Margins) -> bool:
    return all(0 < margins.of(metric) < (math.inf if metric == COST else 1.0) for metric in METRICS)


def _is_tolerance(config: JudgeConfig) -> bool:
    return all(0 <= config.tolerance.of(metric) < config.margins.of(metric) for metric in METRICS)
