"""`turnout promote`."""

from __future__ import annotations

from typing import Any

import click

from turnout.cli.connection import connected, note
from turnout.cli.follow import follow
from turnout.cli.preview import show_preview
from turnout.client import Client
from turnout.domain.errors import NotFound


@click.command()
@click.argument("agent")
@click.option("--to", "ring", required=True, help="Ring to promote to.")
@click.option("--from", "source", help="Ring to promote from. Default: the one before.")
@click.option("--release", help="Release to promote (version or digest). Default: what is active in the source ring.")
@click.option("--force", is_flag=True, help="Promote again even if the ring runs this release already.")
@click.option("--override", help="Reason for passing over a policy (order of rings, quarantine, evals, replay); admins only.")
@click.option("--reason", default="", help="Why, for the history.")
@click.option("--dry-run", is_flag=True, help="Print what would happen and change nothing.")
@click.option("--wait", is_flag=True, help="Wait through approvals and canary steps too.")
@click.option("--no-wait", is_flag=True, help="Return at once.")
@connected
def promote(
    client: Client,
    agent: str,
    ring: str,
    source: str | None,
    dry_run: bool,
    wait: bool,
    no_wait: bool,
    as_json: bool,
    **wish: Any,
) -> None:
    """Promote the release of one ring of AGENT to the next: the same digest, nothing is rebuilt."""
    body = {"source": source or _ring_before(client, agent, ring), **wish}
    preview = client.preview(agent, ring, "promotions", body)
    if dry_run:
        show_preview(preview, [], as_json=as_json)
        return
    for difference in preview["config"]:
        note(f"config   {difference}")
    deployment = client.promote(agent, ring, body)
    note(f"promote  {agent} {deployment['version']} from {body['source']} to {ring}")
    follow(client, deployment, wait=wait, no_wait=no_wait, as_json=as_json)


def _ring_before(client: Client, agent: str, ring: str) -> str:
    rings = [item["ring"] for item in client.agent(agent)["rings"]]
    if ring not in rings:
        raise NotFound(f"agent {agent} has no ring {ring!r}", hint=f"its rings are {', '.join(rings)}")
    if ring == rings[0]:
        raise NotFound(f"{ring} is the first ring of {agent}", hint="releases come to it by `turnout deploy`")
    return rings[rings.index(ring) - 1]
