"""`turnout budgets`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from turnout.cli.connection import connected, print_json
from turnout.cli.durations import Duration
from turnout.cli.tables import plain, release_label, show_table
from turnout.client import Client
from turnout.schemas import BudgetList, BudgetView, DeclaredBudgetView

_UNITS = click.Choice(["usd", "tokens", "calls"])


def _placed(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which budget is meant."""
    for option in (
        click.option("--window", type=Duration(), required=True, help="The sliding window, such as 24h."),
        click.option("--unit", type=_UNITS, default="usd", show_default=True, help="What it counts."),
        click.option("--ring", help="Only what runs in this ring of the agent."),
        click.option("--agent", help="Only what this agent spends. Default: everything that runs here."),
    ):
        command = option(command)
    return command


@click.group()
def budgets() -> None:
    """Show what is spent of budgets; set budgets for the whole instance."""


@budgets.command("list", short_help="Show budgets, and what is spent and held of them.")
@connected
def list_(client: Client, as_json: bool) -> None:
    """Show the budgets of the instance, those that releases declare, and what is settled and held on each account.

    Held is what calls under way may take at most. Settled and held together never exceed the limit.
    """
    found = client.budgets()
    if as_json:
        print_json(found)
        return
    _show(found)


@budgets.command("set", short_help="Set a budget of the instance, or its limit anew.")
@click.option("--limit", type=float, required=True, help="In dollars, tokens or calls.")
@_placed
@connected
def set_(
    client: Client, limit: float, agent: str | None, ring: str | None, unit: str, window: float, as_json: bool
) -> None:
    """Set a budget of the instance, or its limit anew. It counts for calls that begin from now on.

    What was spent in the window already counts too.
    """
    view = client.set_budget({"limit": limit, "window": window, "unit": unit, "agent": agent, "ring": ring})
    if as_json:
        print_json(view)
    else:
        click.echo(f"{_place(agent, ring)}: at most {_amount(limit, unit)} in {window:g} s")


@budgets.command(short_help="Forget a budget of the instance.")
@_placed
@connected
def unset(client: Client, agent: str | None, ring: str | None, unit: str, window: float, as_json: bool) -> None:
    """Forget a budget of the instance. What releases declare stays."""
    client.unset_budget(agent=agent, ring=ring, unit=unit, window=window)
    if as_json:
        print_json({"agent": agent, "ring": ring, "unit": unit, "window": window, "unset": True})
    else:
        click.echo(f"{_place(agent, ring)}: no budget of {unit} in {window:g} s any more")


def _show(found: BudgetList) -> None:
    rows = [
        (
            _place(item["agent"], item["ring"]),
            item["scope"],
            "instance",
            *_limit(item),
        )
        for item in found["budgets"]
    ]
    rows += [
        (
            _place(item["agent"], item["ring"]),
            item["scope"],
            release_label(item["version"], item["digest"]),
            *_limit(item),
        )
        for item in found["declared"]
    ]
    if rows:
        show_table(("WHERE", "SCOPE", "DECLARED BY", "LIMIT", "WINDOW"), rows)
    else:
        click.echo("no budget is set: `turnout budgets set`, or [[rings.NAME.budgets]] in turnout.toml")
    if found["accounts"]:
        click.echo()
        show_table(
            ("ACCOUNT", "SETTLED", "HELD", "LIMIT"),
            [
                (plain(item["name"]), *(_amount(item[name], item["unit"]) for name in ("settled", "held", "limit")))
                for item in found["accounts"]
            ],
        )
    if found["more"]:
        click.echo(f"… and {found['more']} more accounts of tasks")


def _limit(item: BudgetView | DeclaredBudgetView) -> tuple[str, str]:
    window = item["window"]
    return _amount(item["limit"], item["unit"]), "in all" if window is None else f"{window:g} s"


def _place(agent: str | None, ring: str | None) -> str:
    return "everything" if agent is None else agent if ring is None else f"{agent}/{ring}"


def _amount(value: float, unit: str) -> str:
    return f"${value:.6g}" if unit == "usd" else f"{value:.0f} {unit}"
