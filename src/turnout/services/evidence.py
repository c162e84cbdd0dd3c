"""What a judge left in the database → what the page of an incident shows. Pure; whatever is not there is left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from turnout.domain.outcomes import TALLY_SECONDS, Tally
from turnout.schemas import WhyArm, WhyBreaker, WhyEvidence, WhyMetric, WhyPoint
from turnout.services.views import view_time

_MOST_TASKS = 5
_MOST_POINTS = 60


def read_evidence(verdict: Mapping[str, object]) -> WhyEvidence:
    """A verdict, as `judge.view_evidence` gives it."""
    ratio = _mapping(verdict.get("ratio"))
    metrics = {name: _mapping(found) for name, found in _mapping(verdict.get("metrics")).items()}
    weighed = [_mapping(item) for item in _sequence(verdict.get("weighed"))]
    return {
        "kind": str(verdict.get("kind", "inconclusive")),
        "metric": str(verdict["metric"]) if verdict.get("metric") else None,
        "at": view_time(_number(verdict.get("at"))),
        "against": _or_none(verdict.get("against")),
        "hold_at": _number(verdict.get("hold_at"), 10.0),
        "abort_at": _number(verdict.get("abort_at"), 20.0),
        "units": int(_number(ratio.get("units"))),
        "candidates": int(_number(ratio.get("candidates"))),
        "expected": _number(ratio.get("expected")),
        "metrics": [_read_metric(name, found) for name, found in metrics.items()],
        "tasks": [
            {
                "task": str(item.get("task", "")),
                "metric": str(item.get("metric", "")),
                "at": view_time(_number(item.get("at"))),
                "factor": _number(item.get("factor")),
            }
            for item in weighed[:_MOST_TASKS]
        ],
    }


def read_series(verdict: Mapping[str, object]) -> list[WhyPoint]:
    """The course of the evidence, thinned out evenly; the last point is always there."""
    points = [_mapping(item) for item in _sequence(verdict.get("history"))]
    if not points:
        return []
    began = _number(points[0].get("at"))
    series: list[WhyPoint] = [
        {
            "seconds": _number(point.get("at")) - began,
            "against": {
                name: _number(value, 1.0)
                for name, value in _mapping(point.get("against")).items()
                if isinstance(value, int | float)
            },
        }
        for point in points
    ]
    now = {str(name): _or_none(_mapping(found).get("against")) for name, found in _mapping(verdict["metrics"]).items()}
    known = {name: value for name, value in now.items() if value is not None}
    if known:
        series.append({"seconds": max(_number(verdict.get("at")) - began, 0.0), "against": known})
    step = max(1, math.ceil(len(series) / _MOST_POINTS))
    return [point for index, point in enumerate(series) if (len(series) - 1 - index) % step == 0]


def read_breaker(data: Mapping[str, object]) -> WhyBreaker:
    """The data of an event `breaker.tripped`."""
    return {
        "scope": str(data.get("scope", "")),
        "metric": str(data.get("metric", "")),
        "value": _number(data.get("value")),
        "above": _number(data.get("above")),
        "window": _number(data.get("window")),
        "task": str(data["task"]) if data.get("task") else None,
    }


def build_course(metric: str, sums: Sequence[Tally]) -> list[WhyPoint]:
    """What a breaker looked at, over time. `sums`: since each of several moments, a step apart; the last is the end."""
    series: list[WhyPoint] = []
    for index, (tally, later) in enumerate(pairwise(sums)):
        amount = {
            "error_rate": tally.errors - later.errors,
            "intervention_rate": tally.interventions - later.interventions,
            "model_error_rate": tally.failed_calls - later.failed_calls,
            "cost": tally.cost - later.cost,
        }.get(metric, 0.0)
        base = tally.calls - later.calls if metric == "model_error_rate" else tally.requests - later.requests
        if metric != "cost" and base <= 0:
            continue  # no task, no rate
        value = amount if metric == "cost" else amount / base
        series.append({"seconds": float(index * TALLY_SECONDS), "against": {metric: max(value, 0.0)}})
    return series


def _read_metric(name: str, found: Mapping[str, Any]) -> WhyMetric:
    return {
        "metric": name,
        "against": _or_none(found.get("against")),
        "stable": _read_arm(_mapping(found.get("stable"))),
        "candidate": _read_arm(_mapping(found.get("candidate"))),
    }


def _read_arm(arm: Mapping[str, Any]) -> WhyArm:
    return {
        "units": int(_number(arm.get("units"))),
        "missing": int(_number(arm.get("missing"))),
        "mean": _number(arm.get("mean")),
        "low": _number(arm.get("low")),
        "high": _or_none(arm.get("high")),
    }


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _number(value: object, otherwise: float = 0.0) -> float:
    found = _or_none(value)
    return otherwise if found is None else found


def _or_none(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
