"""`turnout rollout`."""

from __future__ import annotations

import click

from turnout.cli.connection import connected, print_json
from turnout.cli.follow import describe
from turnout.client import Client


@click.group()
def rollout() -> None:
    """Steer the canary of a ring."""


@rollout.command(short_help="Leave the present canary step without waiting.")
@click.argument("agent")
@click.option("--ring", required=True, help="Ring whose canary goes on.")
@connected
def advance(client: Client, agent: str, ring: str, as_json: bool) -> None:
    """Leave the present canary step without waiting for its time and tasks."""
    before = client.steer(agent, ring, {"action": "advance"})
    for event in client.follow_deployment(before["id"]):
        if event.name == "rollout.stepped" and event.data["data"]["step"] > before["step"]:
            break
    view = client.deployment(before["id"])
    if as_json:
        print_json(view)
    else:
        click.echo(describe(view))


@rollout.command(short_help="End the deployment in progress in a ring.")
@click.argument("agent")
@click.option("--ring", required=True, help="Ring whose deployment in progress ends.")
@click.option("--reason", default="", help="Why, for the history.")
@click.option("--quarantine", is_flag=True, help="Put the release into quarantine if callers had reached it.")
@connected
def abort(client: Client, agent: str, ring: str, reason: str, quarantine: bool, as_json: bool) -> None:
    """End the deployment in progress in a ring; what is stable goes on serving."""
    view = client.steer(agent, ring, {"action": "abort", "reason": reason, "quarantine": quarantine})
    for event in client.follow_deployment(view["id"]):
        if event.name == "settled":
            view = event.data
    if as_json:
        print_json(view)
    else:
        click.echo(describe(view))
