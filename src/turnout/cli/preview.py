"""What a dry run prints."""

from __future__ import annotations

import click

from turnout.cli.connection import print_json
from turnout.schemas import PreviewView


def show_preview(preview: PreviewView, pushes: list[str], *, as_json: bool) -> None:
    """What would happen, step by step."""
    if as_json:
        print_json({**preview, "steps": [*pushes, *preview["steps"]], "dry_run": True})
        return
    click.echo(
        f"dry run: {preview['kind']} of {preview['agent']} {preview['version']} to {preview['ring']}; nothing was changed"
    )
    click.echo(f"  digest   {preview['digest']}")
    if preview["changed"]:
        click.echo(f"  changes  {', '.join(preview['changed'])}")
    for text in preview["config"]:
        click.echo(f"  config   {text}")
    for text in preview["overrides"]:
        click.echo(f"  overrides {text}")
    for number, step in enumerate([*pushes, *preview["steps"]], 1):
        click.echo(f"  {number}. {step}")
    for ring, gates in preview["later"].items():
        click.echo(f"  later, for {ring}:")
        for gate in gates:
            click.echo(f"     {gate}")
