"""`turnout approve` and `turnout reject`."""

from __future__ import annotations

import click

from turnout.cli.connection import connected, print_json
from turnout.cli.evidence_table import show_verdict
from turnout.cli.exits import EXIT_CODES
from turnout.client import Client
from turnout.domain.errors import Conflict
from turnout.domain.models import short_digest
from turnout.schemas import ApprovalView


@click.command()
@click.argument("agent")
@click.option("--ring", required=True, help="Ring that the approval is for.")
@click.option("--release", help="Version or digest. Default: the release that waits in the ring.")
@click.option("--comment", default="", help="For the history.")
@click.option("--dry-run", is_flag=True, help="Show what is to be approved, and decide nothing.")
@connected
def approve(
    client: Client, agent: str, ring: str, release: str | None, comment: str, dry_run: bool, as_json: bool
) -> None:
    """Approve a release of AGENT for a ring. Bound to its digest; it expires."""
    if dry_run:
        _show(client.approvals(agent, ring, release), as_json=as_json)
        return
    _decide(client, agent, ring, release, comment, approved=True, as_json=as_json)


@click.command()
@click.argument("agent")
@click.option("--ring", required=True, help="Ring that the rejection is for.")
@click.option("--release", help="Version or digest. Default: the release that waits in the ring.")
@click.option("--comment", default="", help="For the history.")
@connected
def reject(client: Client, agent: str, ring: str, release: str | None, comment: str, as_json: bool) -> None:
    """Reject a release of AGENT for a ring; a promotion that waits there fails."""
    _decide(client, agent, ring, release, comment, approved=False, as_json=as_json)


def _decide(
    client: Client, agent: str, ring: str, release: str | None, comment: str, *, approved: bool, as_json: bool
) -> None:
    view = client.decide(agent, ring, {"approved": approved, "release": release, "comment": comment})
    _show(view, as_json=as_json)
    stands = approved and view["message"].startswith("rejected")
    if stands and as_json:
        raise click.exceptions.Exit(EXIT_CODES["conflict"])
    if stands:
        raise Conflict("the rejection stands", hint="it ends when who rejected it approves, or when it expires")


def _show(view: ApprovalView, *, as_json: bool) -> None:
    if as_json:
        print_json(view)
        return
    click.echo(f"{view['agent']} in {view['ring']}: {view['message']}")
    if view["changed"]:
        both = f"ring:{view['ring']} {short_digest(view['digest'])}"
        click.echo(f"changes  {', '.join(view['changed'])}: turnout diff {both} --agent {view['agent']}")
    for run in view["evals"]:
        show_verdict(run["suite"], run["verdict"])
    if view["replay"] is not None:
        click.echo(f"replay   {view['replay']['id']}: {view['replay']['summary']['message']}")
