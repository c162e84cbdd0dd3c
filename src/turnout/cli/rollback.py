"""`turnout rollback`."""

from __future__ import annotations

import click

from turnout.cli.connection import connected, note
from turnout.cli.follow import follow
from turnout.cli.preview import show_preview
from turnout.cli.tables import release_label
from turnout.client import Client
from turnout.domain.errors import NotFound
from turnout.schemas import RingView


@click.command()
@click.argument("agent")
@click.option("--ring", required=True, help="Ring to roll back.")
@click.option("--version", help="Version or digest to go back to. Default: last-good.")
@click.option("--reason", default="", help="Why, for the history.")
@click.option("--override", help="Reason for going back to a version in quarantine; admins only.")
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
    override: str | None,
    quarantine: bool,
    dry_run: bool,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Undo the last change of a ring of AGENT.

    While a canary runs, the candidate is taken out. Otherwise the pointer flips to last-good, which is still warm. A
    version that is no longer warm is deployed and validated first; what is stable serves until then.
    """
    shown = find_ring(client, agent, ring)
    # Bound to what is there now: if somebody was quicker, nothing more is undone.
    leaving = shown["candidate"] or shown["stable"]
    body = {"version": version, "leaving": leaving, "override": override, "reason": reason, "quarantine": quarantine}
    if dry_run:
        show_preview(client.preview(agent, ring, "rollbacks", body), [], as_json=as_json)
        return
    name = shown["candidate_version"] or shown["stable_version"]
    note(f"rollback {agent} in {ring}: {release_label(name, leaving)} leaves")
    deployment = client.roll_back(agent, ring, body)
    # While a canary runs, what comes back is the deployment of its candidate, on its way out.
    wished = "active" if deployment["kind"] == "rollback" else "rolled_back"
    follow(client, deployment, wait=True, no_wait=no_wait, as_json=as_json, wished=wished)


def find_ring(client: Client, agent: str, ring: str) -> RingView:
    """What is where in a ring. Raises `NotFound`."""
    rings = client.agent(agent)["rings"]
    found = next((item for item in rings if item["ring"] == ring), None)
    if found is None:
        hint = f"its rings are {', '.join(item['ring'] for item in rings)}"
        raise NotFound(f"agent {agent} has no ring {ring!r}", hint=hint)
    return found
