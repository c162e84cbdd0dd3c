"""`turnout init`."""

from __future__ import annotations

from pathlib import Path

import click

from turnout.cli.connection import note, print_json
from turnout.domain.errors import Conflict


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".")
@click.option("--force", is_flag=True, help="Overwrite an existing turnout.toml.")
@click.option("--dry-run", is_flag=True, help="Print the file instead of writing it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with stable keys.")
def init(folder: Path, force: bool, dry_run: bool, as_json: bool) -> None:
    """Write a commented turnout.toml for an existing FOLDER: finds a start command, a lock file, prompts."""
    from turnout.manifest import MANIFEST_NAME, detect_project, load_manifest, render_manifest

    detected = detect_project(folder)
    text = render_manifest(detected)
    if dry_run:
        click.echo(text, nl=False)
        return
    path = folder / MANIFEST_NAME
    if path.exists() and not force:
        raise Conflict(f"{path} is there already", hint="--force overwrites it, --dry-run prints what would be written")
    path.write_text(text, encoding="utf-8")
    load_manifest(folder)
    found = {
        "start": list(detected.start) or None,
        "asgi": detected.asgi,
        "lock": detected.lock,
        "prompts": list(detected.prompts) or None,
        "tools": detected.tools,
        "data": detected.data,
        "health": detected.health,
    }
    if as_json:
        print_json({"path": str(path), "agent": detected.agent, "found": found})
        return
    click.echo(f"wrote {path} for agent {detected.agent}")
    for name, value in found.items():
        note(f"  {name}: {value if value else 'not found; see the comments in the file'}")
    note(f"next: turnout deploy {folder if str(folder) != '.' else ''}".rstrip())
