"""What a suite found, on a terminal. From plain values, as the API gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from turnout.cli.tables import plain, show_table
from turnout.domain.eval_report import metric_name
from turnout.domain.evals import COST, LATENCY, SUCCESS

_SHOWN = 5  # failed cases that are named


def show_verdict(suite: str, verdict: Mapping[str, Any], *, err: bool = False) -> None:
    """Each demand with its mean, the bound that is held against it, and what is missing. `err`: on standard error."""
    mark = click.style("passed", fg="green") if verdict["passed"] else click.style("not passed", fg="red")
    click.echo(f"{suite}: {mark}  ({verdict['runs']:,} runs of {verdict['cases']:,} cases)", err=err)
    for problem in verdict["problems"]:
        click.echo(f"  - {plain(problem)}", err=err)
    if verdict["findings"]:
        show_table(("  metric", "mean", "bound", "demanded", ""), _rows(verdict), err=err)
    failed = verdict["failed"]
    if failed:
        more = f" and {len(failed) - _SHOWN:,} more" if len(failed) > _SHOWN else ""
        click.echo(f"  not passed: {plain(', '.join(failed[:_SHOWN]))}{more}", err=err)


def describe_value(metric: str, value: float | None) -> str:
    """A value of a metric in its unit."""
    if value is None:
        return "-"
    if metric == SUCCESS:
        return f"{value:.1%}"
    if metric == COST:
        return f"${value:.4g}"
    return f"{value:.3g} s" if metric == LATENCY else f"{value:.3g}"


def _rows(verdict: Mapping[str, Any]) -> Iterator[list[str]]:
    for finding in verdict["findings"]:
        metric = finding["metric"]
        mark = click.style("held", fg="green") if finding["passed"] else click.style("not held", fg="red")
        note = f"  {plain(finding['note'])}" if finding["note"] else ""
        yield [
            f"  {metric_name(metric)}",
            describe_value(metric, finding["mean"]),
            _bound(finding),
            _demand(finding),
            mark + note,
        ]


def _bound(finding: Mapping[str, Any]) -> str:
    if finding["kind"] != "no_worse":
        return describe_value(finding["metric"], finding["bound"])
    if finding["bound"] is None:
        return "-"
    return f"worse by {_difference(finding['metric'], finding['bound'])} at most"


def _demand(finding: Mapping[str, Any]) -> str:
    metric, limit = finding["metric"], finding["limit"]
    if finding["kind"] == "no_worse":
        stable = describe_value(metric, finding["stable"])
        margin = f"{limit:.0%}" if metric in (COST, LATENCY) else _difference(metric, limit)
        return f"no worse than stable ({stable}) by {margin}"
    return f"{'≥' if finding['kind'] == 'at_least' else '≤'} {describe_value(metric, limit)}"


def _difference(metric: str, value: float) -> str:
    return f"{100 * value:.1f} points" if metric == SUCCESS else describe_value(metric, value)
