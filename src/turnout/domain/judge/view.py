"""A verdict as plain values: what is kept with a rollout as JSON, and what pages and terminals draw."""

from __future__ import annotations

import math
from dataclasses import asdict

from turnout.domain.judge.evidence import Arm, Evidence, MetricEvidence, Verdict


def view_evidence(verdict: Verdict) -> dict[str, object]:
    """A verdict with its evidence as values that JSON knows; what is not known or has no bound is None.

    Times in seconds on the clock of the records, rates as shares of units, cost in the unit of the ceiling, `needed` in
    units of the candidate and hours. `against` is 1 without evidence; from `abort_at` a release is aborted, from `hold_at`
    it goes no further. `proven` counts levels of margins, coarsest first, that hold for all metrics.
    """
    evidence = verdict.evidence
    return {
        "kind": verdict.kind.value,
        "metric": verdict.metric,
        "at": _number(evidence.at),
        "began": evidence.began,
        "against": _number(evidence.against),
        "hold_at": evidence.config.hold_at,
        "abort_at": evidence.config.abort_at,
        "metrics": {name: _view_metric(metric) for name, metric in evidence.metrics.items()},
        "ratio": asdict(evidence.ratio),
        "proven": evidence.proven,
        "weighed": [asdict(weighed) for weighed in evidence.weighed],
        "history": [{"at": point.at, "against": dict(point.against)} for point in evidence.history],
        "needed": [asdict(need) for need in evidence.needed],
        "open_units": evidence.open_units,
        "bad": dict(evidence.bad),
        "cost_per_success": _view_success(evidence),
    }


def _view_metric(found: MetricEvidence) -> dict[str, object]:
    return {
        "against": _number(found.against),
        "levels": [asdict(level) for level in found.levels],
        "stable": _view_arm(found.stable),
        "candidate": _view_arm(found.candidate),
    }


def _view_arm(arm: Arm) -> dict[str, object]:
    return {
        "units": arm.units,
        "missing": arm.missing,
        "mean": arm.mean,
        "low": arm.low,
        "high": _number(arm.high),
    }


def _view_success(evidence: Evidence) -> dict[str, object]:
    return {
        "stable": evidence.cost_per_success(candidate=False),
        "candidate": evidence.cost_per_success(candidate=True),
    }


def _number(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None
