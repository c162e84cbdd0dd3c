"""`turnout approve` and `turnout reject`."""

from __future__ import annotations

import click

from turnout.cli.connection import connected, print_json
from turnout.cli.exits import EXIT_CODES
from turnout.client import Client
from turnout.domain.errors import Conflict


@click.command()
@click.argument("agent")
@click.option("--ring", required=True, help="Ring that the approval is for.")
@click.option("--release", help="Version or digest. Default: the release that waits in the ring.")
@click.option("--comment", default="", help="For the history.")
@connected
def approve(client: Client, agent: str, ring: str, release: str | None, comment: str, as_json: bool) -> None:
    """Approve a release of AGENT for a ring. Bound to its digest; it expires."""
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
    if as_json:
        print_json(view)
    else:
        click.echo(f"{agent} in {ring}: {view['message']}")
    stands = approved and view["message"].startswith("rejected")
    if stands and as_json:
        raise click.exceptions.Exit(EXIT_CODES["conflict"])
    if stands:
        raise Conflict("the rejection stands", hint="it ends when who rejected it approves, or when it expires")
