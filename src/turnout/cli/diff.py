"""`turnout diff`."""

from __future__ import annotations

from pathlib import Path

import click

from turnout.cli.connection import connected, print_json
from turnout.client import Client
from turnout.domain.errors import NotFound
from turnout.schemas import DiffView

_MARKS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--agent", help="Agent of the releases. Default: the one of turnout.toml in this folder.")
@connected
def diff(client: Client, a: str, b: str, agent: str | None, as_json: bool) -> None:
    """Show what differs from release A to release B (versions, digests, or ring:NAME), by component."""
    view = client.diff(agent or _agent_here(), a, b)
    if as_json:
        print_json(view)
    else:
        _show(view)


def _show(view: DiffView) -> None:
    click.echo(f"{view['a_version']} → {view['b_version']}: {', '.join(view['changed']) or 'the same release'}")
    for component in view["components"]:
        click.echo(click.style(f"\n{component['component']}", bold=True))
        for change in component["changes"]:
            mark, colour = _MARKS[change["change"]]
            click.echo(click.style(f"  {mark} {change['path']}", fg=colour))
            for line in change.get("diff", "").splitlines():
                click.echo("      " + click.style(line, fg={"+": "green", "-": "red"}.get(line[:1])))


def _agent_here() -> str:
    from turnout.manifest import MANIFEST_NAME, load_manifest

    if not Path(MANIFEST_NAME).exists():
        raise NotFound("no agent was named and there is no turnout.toml here", hint="name it with --agent")
    return load_manifest(Path()).agent
