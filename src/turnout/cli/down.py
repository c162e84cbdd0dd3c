"""`turnout down`."""

from __future__ import annotations

from pathlib import Path

import click

from turnout.cli.connection import print_json
from turnout.settings import default_state


@click.command()
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="State folder of the instance.")
@click.option("--grace", default=10.0, show_default=True, type=click.FloatRange(0, 3600), help="Seconds to end in.")
@click.option("--server-only", is_flag=True, help="End the server alone; agents and proxy go on serving.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with stable keys.")
def down(state: Path | None, grace: float, server_only: bool, as_json: bool) -> None:
    """Stop the server, the proxy and every agent of this machine's instance. The state stays; `up` starts it again."""
    from turnout.server import shut_down

    ended = shut_down((state or default_state()).absolute(), grace, server_only=server_only)
    if as_json:
        print_json({"ended": ended})
    else:
        click.echo(f"ended: {', '.join(ended)}" if ended else "nothing ran")
