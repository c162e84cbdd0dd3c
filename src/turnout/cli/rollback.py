"""`turnout rollback`."""

from __future__ import annotations

import click

from turnout.cli.connection import connected
from turnout.cli.follow import follow
from turnout.cli.preview import show_preview
from turnout.client import Client


@click.command()
@click.argument("agent")
@click.option("--ring", required=True, help="Ring to roll back.")
@click.option("--version", help="Version or digest to go back to. Default: last-good.")
@click.option("--reason", default="", help="Why, for the history.")
@click.option("--quarantine/--no-quarantine", default=True, help="Whether the release that is left is quarantined.")
@click.option("--dry-run", is_flag=True, help="Print what would happen and change nothing.")
@click.option("--no-wait", is_flag=True, help="Return at once.")
@connected
def rollback(
    client: Client,
    agent: str,
    ring: str,
    version: str | None,
    reason: str,
    quarantine: bool,
    dry_run: bool,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Undo the last change of a ring of AGENT.

    While a canary runs, the candidate is taken out. Otherwise the pointer flips to last-good, which is still warm. A
    version that is no longer warm is deployed and validated first; what is stable serves until then.
    """
    body = {"version": version, "reason": reason, "quarantine": quarantine}
    if dry_run:
        show_preview(client.preview(agent, ring, "rollbacks", body), [], as_json=as_json)
        return
    deployment = client.roll_back(agent, ring, body)
    # While a canary runs, what comes back is the deployment of its candidate, on its way out.
    wished = "active" if deployment["kind"] == "rollback" else "rolled_back"
    follow(client, deployment, wait=True, no_wait=no_wait, as_json=as_json, wished=wished)
