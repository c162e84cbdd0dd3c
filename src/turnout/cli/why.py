"""`turnout why`."""

from __future__ import annotations

from pathlib import Path

import click

from turnout.alerts.page import build_page
from turnout.cli.connection import connected, note, print_json
from turnout.client import Client
from turnout.domain.errors import InvalidRequest, NotFound, TurnoutError
from turnout.schemas import DeploymentView, WhyView

_DEPLOYMENT = "dep_"  # an agent's name holds no underscore
_LOOKED_AT = 20  # deployments before a rollback, among which is the one that it left


@click.command()
@click.argument("name", metavar="DEPLOYMENT")
@click.option(
    "--ring", help="Ring of an agent, which is named instead of a deployment: its newest one, or what a rollback left."
)
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the page as HTML to this file instead."
)
@connected
def why(client: Client, name: str, ring: str | None, html: Path | None, as_json: bool) -> None:
    """Explain DEPLOYMENT on one page: what decided, the evidence, what differs, who, what was done, what to do next.

    `turnout why AGENT --ring RING` explains the newest deployment of a ring; after a rollback the one that was left.
    """
    if ring is not None and name.startswith(_DEPLOYMENT):
        raise click.UsageError(f"a deployment is in one ring and needs no --ring: `turnout why {name}`")
    view = _explain(client, name) if ring is None else client.why(_newest(client, name, ring))
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


def _explain(client: Client, name: str) -> WhyView:
    """Of a deployment. Whoever names an agent instead is told that a ring is missing."""
    try:
        return client.why(name)
    except TurnoutError as error:
        agents = client.agents()["agents"] if error.code == NotFound.code else []
        rings = next((item["rings"] for item in agents if item["agent"] == name), None)
        if rings is None:
            raise
        names = [item["ring"] for item in rings]
        raise NotFound(
            f"{name} is an agent, and which of its rings is not said",
            hint=f"`turnout why {name} --ring NAME`; its rings are {', '.join(names)}",
        ) from error


def _newest(client: Client, agent: str, ring: str) -> str:
    found = client.deployments(agent, ring, _LOOKED_AT)["deployments"]
    if not found:
        raise NotFound(f"nothing was ever deployed to {ring} of {agent}", hint=f"see `turnout status {agent}`")
    left = _find_left(found)
    if left is None:
        return found[0]["id"]
    note(f"{found[0]['version']} is back in {ring} by {found[0]['id']}; this is about what it left")
    return left["id"]


def _find_left(newest_first: list[DeploymentView]) -> DeploymentView | None:
    """What the newest deployment took out of the traffic, if it is a rollback: that tells what went wrong."""
    newest, *rest = newest_first
    if (newest["kind"], newest["state"]) != ("rollback", "active"):
        return None
    gone = [item for item in rest if item["state"] in ("rolling_back", "rolled_back")]
    since = [item for item in gone if item["state_since"] >= newest["created_at"]]
    # Of a candidate and the active release that went together the active one, which is older.
    return max(reversed(since), key=lambda item: item["state_since"], default=None)
