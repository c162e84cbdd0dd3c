"""`turnout tokens`."""

from __future__ import annotations

import click

from turnout.cli.connection import connected, note, print_json
from turnout.cli.tables import local_time, show_table
from turnout.client import Client
from turnout.domain.policy import Role


@click.group()
def tokens() -> None:
    """Create, list and revoke tokens. A token is a person or a program; approvals count by token."""


@tokens.command(short_help="Make a token and print it.")
@click.argument("name")
@click.option(
    "--role",
    required=True,
    type=click.Choice([role.value for role in Role]),
    help="What it may be used for.",
)
@connected
def create(client: Client, name: str, role: str, as_json: bool) -> None:
    """Make a token called NAME and print it. It is shown once; use it as TURNOUT_TOKEN."""
    view = client.create_token(name, role)
    if as_json:
        print_json(view)
        return
    click.echo(view["token"])
    note("keep it: it is not shown again; use it as TURNOUT_TOKEN")


@tokens.command("list")
@connected
def list_(client: Client, as_json: bool) -> None:
    """List all tokens, without their text."""
    found = client.tokens()
    if as_json:
        print_json(found)
    else:
        rows = [(item["name"], item["role"], local_time(item["created_at"])) for item in found["tokens"]]
        show_table(("NAME", "ROLE", "CREATED"), rows)


@tokens.command(short_help="Forget a token; it is refused from now on.")
@click.argument("name")
@connected
def revoke(client: Client, name: str, as_json: bool) -> None:
    """Forget the token called NAME; it is refused from now on."""
    client.revoke_token(name)
    if as_json:
        print_json({"name": name, "revoked": True})
    else:
        click.echo(f"revoked {name}")
