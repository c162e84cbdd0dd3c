"""`turnout deployments`."""

from __future__ import annotations

import click

from turnout.cli.connection import connected, print_json
from turnout.cli.follow import describe, next_steps
from turnout.cli.tables import local_time, release_label, show_table
from turnout.client import Client


@click.group()
def deployments() -> None:
    """List deployments, or show one with its transitions."""


@deployments.command("list", short_help="List deployments, newest first.")
@click.argument("agent", required=False)
@click.option("--ring", help="Only of this ring.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="At most so many.")
@connected
def list_(client: Client, agent: str | None, ring: str | None, limit: int, as_json: bool) -> None:
    """List deployments, newest first."""
    found = client.deployments(agent, ring, limit)
    if as_json:
        print_json(found)
        return
    show_table(
        ("ID", "AGENT", "RING", "VERSION", "KIND", "STATE", "BY", "SINCE"),
        [
            (
                item["id"],
                item["agent"],
                item["ring"],
                release_label(item["version"], item["digest"]),
                item["kind"],
                item["state"],
                item["actor"],
                local_time(item["state_since"]),
            )
            for item in found["deployments"]
        ],
    )


@deployments.command(short_help="Show a deployment and every transition it made.")
@click.argument("deployment")
@connected
def status(client: Client, deployment: str, as_json: bool) -> None:
    """Show a DEPLOYMENT and every transition it made."""
    view = client.deployment(deployment)
    if as_json:
        print_json(view)
        return
    click.echo(describe(view))
    show_table(
        ("AT", "STATE", "BY", "REASON"),
        [(local_time(item["at"]), item["to"], item["actor"], item["reason"]) for item in view.get("transitions", [])],
    )
    replay = view.get("replay")
    if replay is not None:
        click.echo(f"replay {replay['id']}: {replay['summary']['message']}")
    for line in next_steps(view):
        click.echo(line)
