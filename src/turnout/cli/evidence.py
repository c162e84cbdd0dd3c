"""What a judge knows of a candidate, on a terminal. From plain values, as the API gives them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from turnout.alerts.page import clean, format_span, format_value, metric_name, spark
from turnout.cli.tables import show_table
from turnout.domain.margins import average_evidence

COLOURS = {"pass": "green", "fail": "red", "hold": "yellow"}
MEANINGS = {
    "pass": "proven to be no worse than the margins allow",
    "fail": "worse than the stable release; take it back",
    "hold": "something speaks against it; no further step",
    "inconclusive": "neither proven good nor shown to be bad",
}
_ARMS = ("stable", "candidate")
_BARS = 60  # of a picture at most


def show_evidence(view: Mapping[str, Any], *, running: bool = True) -> None:
    """Print a verdict with all that it rests on. `view`: of `turnout.domain.judge.view_evidence`, or from the API.

    `running`: whether more tasks can come, so that it is worth saying how many would be enough.
    """
    kind = view["kind"]
    about = f" ({metric_name(view['metric'])})" if view["metric"] else ""
    click.echo(f"{click.style(kind, fg=COLOURS.get(kind), bold=True)}{about}: {MEANINGS.get(kind, '')}")
    click.echo(
        f"evidence against the candidate: {_evidence(view['against'])} "
        f"(1 is none, {view['hold_at']:g} holds, {view['abort_at']:g} takes it back)"
    )
    click.echo()
    show_table(("", "against", *(f"{arm} [confidence sequence]" for arm in _ARMS)), _metric_rows(view["metrics"]))
    click.echo()
    show_table(("within", *(f"{metric_name(name)}" for name in view["metrics"])), _level_rows(view["metrics"]))
    for line in (*_pictures(view), *_remarks(view), *(_needs(view) if running else ()), *_faults(view)):
        click.echo(line)


def _metric_rows(metrics: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, metric in metrics.items():
        yield [metric_name(name), _evidence(metric["against"]), *(_arm(name, metric[arm]) for arm in _ARMS)]


def _arm(metric: str, arm: Mapping[str, Any]) -> str:
    if not arm["units"]:
        return "no task is over yet"
    low, high = format_value(metric, arm["low"]), format_value(metric, arm["high"])
    missing = f", {arm['missing']:,} not reported" if arm["missing"] else ""
    return f"{format_value(metric, arm['mean'])} [{low}, {high}] of {arm['units']:,}{missing}"


def _level_rows(metrics: Mapping[str, Any]) -> Iterator[list[str]]:
    """A line for each level of margins, coarsest first: how far the proof is."""
    levels = [[(name, level) for level in metric["levels"]] for name, metric in metrics.items()]
    for number, row in enumerate(zip(*levels, strict=True), start=1):
        label = "true margins" if number == len(levels[0]) else f"coarse margins {number}"
        yield [label, *(_level(name, level) for name, level in row)]


def _level(metric: str, level: Mapping[str, Any]) -> str:
    mark = click.style("proven", fg="green") if level["proven"] else f"{_evidence(level['evidence'])} of "
    return f"{_margin(metric, level['margin'])}: {mark}" + ("" if level["proven"] else f"{level['threshold']:g}")


def _pictures(view: Mapping[str, Any]) -> Iterator[str]:
    """The course of the evidence, all metrics on one scale: powers of ten, a full bar takes the candidate back."""
    points: Sequence[Mapping[str, Any]] = view["history"]
    if len(points) < 2:
        return
    span = format_span(points[-1]["at"] - points[0]["at"])
    thinned = [points[round(place)] for place in _spread(len(points))]
    yield ""
    yield f"evidence over {span} (a full bar: {view['abort_at']:g})"
    names = list(view["metrics"])
    filled = [{name: point["against"].get(name, 1.0) for name in names} for point in thinned]
    rows = {metric_name(name): [against[name] for against in filled] for name in names}
    if len(names) > 1:
        rows["average"] = [average_evidence(against) for against in filled]
    width = max(len(name) for name in rows)
    for name, values in rows.items():
        logs = [math.log10(max(value, 1e-3)) for value in values]
        yield f"  {name:<{width}}  {spark(logs, 0.0, math.log10(view['abort_at']))}"


def _spread(count: int) -> list[float]:
    bars = min(count, _BARS)
    return [number * (count - 1) / (bars - 1) for number in range(bars)]


def _remarks(view: Mapping[str, Any]) -> Iterator[str]:
    ratio, cost = view["ratio"], view["cost_per_success"]
    said = click.style("NOT what the router meant", fg="red") if ratio["mismatch"] else "as the router meant"
    yield ""
    yield (
        f"tasks: {ratio['units']:,} began, {ratio['candidates']:,} of them on the candidate "
        f"({ratio['expected']:,.1f} expected): {said}; {view['open_units']:,} are not past the last age"
    )
    if any(cost[arm] is not None for arm in _ARMS):
        known = (f"{arm} {cost[arm]:.4g}" for arm in _ARMS if cost[arm] is not None)
        yield f"cost of a success: {', '.join(known)}"
    if view["weighed"]:
        yield "weighed most:"
    for unit in view["weighed"]:
        after = f"{format_span(unit['at'] - view['began'])} after the first task"
        yield f"  {clean(unit['task'])}  {metric_name(unit['metric'])} ×{unit['factor']:.3g}, {after}"


def _needs(view: Mapping[str, Any]) -> Iterator[str]:
    """Before the first task there are no rates by which anything could be said."""
    if view["needed"] and view["kind"] != "fail" and view["ratio"]["units"]:
        yield "still needed for a pass, if the candidate is as good as the stable release:"
        yield from (f"  {_need(need)}" for need in view["needed"])


def _faults(view: Mapping[str, Any]) -> Iterator[str]:
    if view["bad"]:
        yield "records that were not as they should be:"
        yield from (f"  {count:,} × {clean(kind)}" for kind, count in sorted(view["bad"].items()))


def _need(need: Mapping[str, Any]) -> str:
    label = f"{metric_name(need['metric'])} within {_margin(need['metric'], need['margin'])}"
    if need["tasks"] is None:
        return f"{label}: no number of tasks is enough at this share and these rates"
    hours = f", about {format_span(need['hours'] * 3600)}" if need["hours"] is not None else ""
    return f"{label}: about {need['tasks']:,} more tasks of the candidate{hours}"


def _margin(metric: str, margin: float) -> str:
    return f"+{margin:.0%}" if metric == "cost" else f"+{100 * margin:g} points"


def _evidence(value: float | None) -> str:
    if value is None:
        return "∞"
    if value < 0.001:
        return "<0.001"
    return f"{value:.3g}" if value < 1e4 else f"{value:.0e}"
