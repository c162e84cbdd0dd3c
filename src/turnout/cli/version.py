"""`turnout version`."""

from __future__ import annotations

import click

from turnout import __version__
from turnout.cli.connection import print_json


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON with stable keys.")
def version(as_json: bool) -> None:
    """Print the version."""
    if as_json:
        print_json({"version": __version__})
    else:
        click.echo(f"turnout {__version__}")
