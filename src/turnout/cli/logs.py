"""`turnout logs`."""

from __future__ import annotations

import json

import click

from turnout.cli.connection import connected
from turnout.client import Client


@click.command()
@click.argument("agent")
@click.option("--ring", required=True, help="Ring whose replicas are shown.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option(
    "-n", "--lines", default=100, show_default=True, type=click.IntRange(0, 10_000), help="Last lines of each."
)
@connected
def logs(client: Client, agent: str, ring: str, follow: bool, lines: int, as_json: bool) -> None:
    """Show what the replicas of a ring of AGENT print. With --json, one object a line."""
    for event in client.follow_logs(agent, ring, lines=lines, follow=follow):
        line = event.data
        if as_json:
            click.echo(json.dumps(line))
        else:
            click.echo(f"{click.style(line['replica'], fg='cyan')}  {_printable(line['line'])}")


def _printable(text: str) -> str:
    """What an agent prints must not act on the terminal of who reads it."""
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
