"""What a replay found, on a terminal: the tasks in a table, and one task side by side."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from itertools import zip_longest

import click

from turnout.cli.tables import plain, release_label, show_table
from turnout.domain.replays import Came, Change, ChangeKind, ReplayReport, TaskDiff

_COLOURS = {Came.SAME: "green", Came.CHANGED: "yellow", Came.FAILED: "red", Came.UNUSABLE: "magenta"}
_MARKS = {ChangeKind.SAME: " ", ChangeKind.MISSING: "-", ChangeKind.EXTRA: "+", ChangeKind.ORDER: "↕"}
_NARROWEST = 24  # characters of a column
_WIDEST = 160  # of both


def show_report(report: ReplayReport, name: str, *, everything: bool = False) -> None:
    """Print what the tasks add up to, and those that did not come out the same. `everything`: the others too."""
    old = release_label(report.baseline_version, report.baseline)
    new = release_label(report.candidate_version, report.candidate)
    click.echo(f"{name}: tasks of {old} in {report.ring or 'any ring'}, asked of {new}; models {report.models}")
    summary = report.summary
    click.echo(summary.describe())
    ratios = (("cost", summary.cost_ratio), ("time", summary.latency_ratio))
    known = [f"{word} {ratio:.3g} times that of then" for word, ratio in ratios if ratio is not None]
    if known:
        click.echo(", ".join(known))
    if report.strays:
        click.echo(
            "a call belongs to no task where none is under way, or not the one that it tells: no threshold holds"
        )
    shown = [task for task in report.tasks if everything or task.verdict is not Came.SAME]
    if shown:
        click.echo()
        show_table(("task", "came out", "changes", "divergences", ""), (_row(task) for task in shown))


def show_task(report: ReplayReport, diff: TaskDiff, width: int | None = None) -> None:
    """Print what a task did then and does now, side by side. `width`: of the terminal, in characters."""
    click.echo(f"task {plain(diff.task)}: {_coloured(diff.verdict)}{f': {plain(diff.why)}' if diff.why else ''}")
    numbers = (
        ("cost", "${:.4f}", diff.cost_before, diff.cost_after),
        ("time", "{:.2f} s", diff.seconds_before, diff.seconds_after),
    )
    for word, form, before, after in numbers:
        if before is not None and after is not None:
            click.echo(f"{word} {form.format(before)} then, {form.format(after)} now")
    if not diff.steps:
        return
    column = max(_NARROWEST, (min(width or shutil.get_terminal_size().columns, _WIDEST) - 3) // 2)
    click.echo()
    heads = (plain(version) for version in (report.baseline_version, report.candidate_version))
    click.echo(click.style(" │ ".join(f"{head:<{column}}" for head in heads).rstrip(), bold=True))
    for step in diff.steps:
        for line in _side_by_side(step, column):
            click.echo(line)


def _row(task: TaskDiff) -> list[str]:
    kinds = dict.fromkeys(change.kind.value for change in task.changes)
    return [
        plain(task.task),
        _coloured(task.verdict),
        str(len(task.changes)),
        str(task.divergences),
        plain(task.why[:100]) or ", ".join(kinds),
    ]


def _coloured(verdict: Came) -> str:
    return click.style(verdict.value, fg=_COLOURS[verdict])


def _side_by_side(step: Change, column: int) -> Iterator[str]:
    same = step.kind is ChangeKind.SAME
    mark, title = _MARKS.get(step.kind, "~"), plain(step.where) + ("" if same else f" ({step.kind.value})")
    yield click.style(f"{mark} {title}", bold=not same, dim=same)
    sides = (_wrapped(step.before, column), _wrapped(step.after, column))
    for left, right in zip_longest(*sides, fillvalue=""):
        before = click.style(f"{left:<{column}}", fg=None if same else "red", dim=same)
        after = click.style(right, fg=None if same else "green", dim=same)
        yield f"{before} │ {after}".rstrip()


def _wrapped(text: str, column: int) -> list[str]:
    return [
        part
        for line in text.splitlines()
        for part in textwrap.wrap(plain(line), column - 2, initial_indent="  ", subsequent_indent="  ") or [""]
    ]
