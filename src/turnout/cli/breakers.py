"""`turnout breakers`."""

from __future__ import annotations

import click

from turnout.cli.connection import connected, print_json
from turnout.cli.tables import local_time, plain, release_label, show_table
from turnout.client import Client
from turnout.schemas import BreakerList, BreakerView

_COLOURS = {"open": "red", "half_open": "yellow"}


@click.group()
def breakers() -> None:
    """Show the breakers of rings; let calls of a release through again."""


@breakers.command("list", short_help="Show every breaker: what it sees, and whether it is open.")
@click.argument("agent", required=False)
@connected
def list_(client: Client, agent: str | None, as_json: bool) -> None:
    """Show every breaker that a ring declares, and every one that is open; of one AGENT if it is named.

    A closed breaker looks at its window; an open one lets no call of its release through; a half open one tries.
    """
    found = client.breakers(agent)
    if as_json:
        print_json(found)
    else:
        _show(found)


@breakers.command(short_help="Let calls of a release through again.")
@click.argument("agent")
@click.argument("ring")
@click.option("--half-open", is_flag=True, help="On trial: for the length of its window one fault opens it again.")
@click.option("--metric", help="Only breakers on this, such as cost. Default: all that are open.")
@click.option("--release", help="Only of the release with this digest.")
@click.option("--reason", default="", help="Why, for the history.")
@connected
def reset(
    client: Client,
    agent: str,
    ring: str,
    half_open: bool,
    metric: str | None,
    release: str | None,
    reason: str,
    as_json: bool,
) -> None:
    """Let calls through again that breakers of RING of AGENT stopped. Their windows begin anew.

    The pointer of the ring stays where it is.
    """
    body = {"half_open": half_open, "metric": metric, "release": release, "reason": reason}
    found = client.reset_breakers(agent, ring, body)
    if as_json:
        print_json(found)
    else:
        _show(found)


def _show(found: BreakerList) -> None:
    if not found["breakers"]:
        click.echo("no ring declares a breaker: see [[rings.NAME.breakers]] in turnout.toml")
        return
    show_table(
        ("AGENT", "RING", "RELEASE", "BREAKER", "LIMIT", "NOW", "STATE", "SINCE", "WHY"),
        [_row(item) for item in found["breakers"]],
    )


def _row(item: BreakerView) -> tuple[str, ...]:
    state = item["state"].replace("_", " ")
    value = "-" if item["value"] is None else _amount(item, item["value"])
    return (
        item["agent"],
        item["ring"],
        release_label(item["version"], item["digest"]),
        f"{item['scope']} {item['metric']}",
        f"{_amount(item, item['above'])} in {item['window']:g} s",
        value + (f" ({plain(item['task'])})" if item["task"] else ""),
        click.style(state, fg=_COLOURS[item["state"]]) if item["state"] in _COLOURS else state,
        local_time(item["since"]) if item["since"] else "-",
        plain(item["reason"]) if item["reason"] and item["state"] != "closed" else "-",
    )


def _amount(item: BreakerView, value: float) -> str:
    return f"{value:g}" if item["metric"] == "cost" or item["scope"] == "run" else f"{value:.1%}"
