"""A suite as it was declared → what it demands, by metric. Pure."""

from __future__ import annotations

from turnout.domain.evals import COST, LATENCY, SCORE, SUCCESS, Bar
from turnout.manifest.eval_schema import Evals


def build_bar(suite: Evals) -> Bar:
    """What the runs of a suite must show."""
    require, margins = suite.require, suite.no_worse
    at_least = {SUCCESS: require.success} | {SCORE + name: value for name, value in require.scores.items()}
    at_most = {COST: require.cost, LATENCY: require.latency}
    no_worse: dict[str, float | None] = {}
    if margins is not None:
        no_worse = {SUCCESS: margins.success, COST: margins.cost, LATENCY: margins.latency}
        no_worse |= {SCORE + name: value for name, value in margins.scores.items()}
    return Bar(suite.confidence, _given(at_least), _given(at_most), _given(no_worse))


def _given(values: dict[str, float | None]) -> dict[str, float]:
    return {metric: value for metric, value in values.items() if value is not None}
