"""`turnout tasks`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from turnout.cli.connection import connected, print_json
from turnout.cli.tables import local_time, plain, release_label, show_table
from turnout.client import Client
from turnout.schemas import OutcomeView, TaskView

R = TypeVar("R")
_PAGE = 1_000  # the most that one request may ask for


def _filtered(command: Callable[..., R]) -> Callable[..., R]:
    """Give a verb the options that choose requests; it is called with `filters`."""

    @click.argument("agent", required=False)
    @click.option("--ring", help="Only of this ring.")
    @click.option("--release", help="Only of this version or digest.")
    @click.option("--arm", type=click.Choice(["stable", "candidate"]), help="Only of one side of a rollout.")
    @click.option("--rollout", help="Only of this rollout, named by its deployment.")
    @click.option(
        "--failed/--answered",
        default=None,
        help="Only those with a status of 500 and more or a failure as outcome, or only the others.",
    )
    @click.option("--since", help="From this time on: ISO 8601, or how long ago, such as 2h.")
    @click.option("--until", help="Before this time.")
    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> R:
        names = ("agent", "ring", "release", "arm", "rollout", "failed", "since", "until")
        return command(*args, filters={name: options.pop(name) for name in names}, **options)

    return run


@click.group()
def tasks() -> None:
    """List or export the requests that were served, with what became of their tasks."""


@tasks.command("list", short_help="List requests, newest first.")
@_filtered
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, _PAGE), help="At most so many.")
@connected
def list_(client: Client, filters: dict[str, Any], limit: int, as_json: bool) -> None:
    """List requests, newest first; of one AGENT if it is named."""
    found = client.tasks(**filters, limit=limit)
    if as_json:
        print_json(found)
        return
    show_table(
        ("AT", "TASK", "AGENT", "RING", "RELEASE", "ARM", "STATUS", "SECONDS", "OUTCOME"),
        [_row(item) for item in found["tasks"]],
    )


@tasks.command(short_help="Print requests as JSON lines, newest first.")
@_filtered
@click.option("--limit", type=click.IntRange(min=1), help="At most so many. Default: all.")
@connected
def export(client: Client, filters: dict[str, Any], limit: int | None, as_json: bool) -> None:  # noqa: ARG001
    """Print requests as JSON lines, newest first; of one AGENT if it is named."""
    for item in _pages(client, filters, limit):
        click.echo(json.dumps(item, ensure_ascii=False))


def describe_outcome(outcome: OutcomeView) -> str:
    """Such as `failure, intervention, cost 0.12`; `-` when nothing is known."""
    parts = []
    if outcome["success"] is not None:
        parts.append("success" if outcome["success"] else "failure")
    if outcome["intervention"]:
        parts.append("intervention")
    if outcome["cost"] is not None:
        parts.append(f"cost {outcome['cost']:g}")
    return ", ".join(parts) or "-"


def _pages(client: Client, filters: dict[str, Any], limit: int | None) -> Iterator[TaskView]:
    cursor: str | None = None
    left = limit
    while left is None or left > 0:
        asked = _PAGE if left is None else min(left, _PAGE)
        page = client.tasks(**filters, limit=asked, cursor=cursor)
        yield from page["tasks"]
        left = None if left is None else left - len(page["tasks"])
        cursor = page["next"]
        if cursor is None:
            return


def _row(item: TaskView) -> tuple[str, ...]:
    under_way = item["duration"] is None
    return (
        local_time(item["at"]),
        plain(item["task"]),
        item["agent"],
        item["ring"],
        release_label(item["version"], item["digest"]),
        item["arm"] or "-",
        "…" if under_way else str(item["status"]),
        "…" if item["duration"] is None else f"{item['duration']:.3f}",
        describe_outcome(item["outcome"]),
    )
