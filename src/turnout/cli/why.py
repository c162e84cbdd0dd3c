"""`turnout why`."""

from __future__ import annotations

from pathlib import Path

import click

from turnout.alerts.page import build_page
from turnout.cli.connection import connected, note, print_json
from turnout.client import Client
from turnout.domain.errors import InvalidRequest, NotFound


@click.command()
@click.argument("name", metavar="DEPLOYMENT")
@click.option("--ring", help="Ring of an agent, which is named instead of a deployment: its newest deployment.")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the page as HTML to this file instead."
)
@connected
def why(client: Client, name: str, ring: str | None, html: Path | None, as_json: bool) -> None:
    """Explain DEPLOYMENT on one page: what decided, the evidence, what differs, who, what was done, what to do next.

    `turnout why AGENT --ring RING` explains the newest deployment of a ring.
    """
    view = client.why(name if ring is None else _newest(client, name, ring))
    if html is not None:
        from turnout.alerts.page_html import build_html_page

        try:
            html.write_text(build_html_page(view), encoding="utf-8")
        except OSError as error:
            raise InvalidRequest(f"{html} cannot be written: {error.strerror}") from error
        note(f"the page is in {html}")
    if as_json:
        print_json(view)
    elif html is None:
        click.echo(build_page(view), nl=False)


def _newest(client: Client, agent: str, ring: str) -> str:
    found = client.deployments(agent, ring, 1)["deployments"]
    if not found:
        raise NotFound(f"nothing was ever deployed to {ring} of {agent}", hint=f"see `turnout status {agent}`")
    return found[0]["id"]
