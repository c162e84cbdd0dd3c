"""`turnout init`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from turnout.cli.connection import note, print_json
from turnout.domain.errors import Conflict, ManifestError


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".")
@click.option("--force", is_flag=True, help="Overwrite an existing turnout.toml.")
@click.option("--dry-run", is_flag=True, help="Print the file instead of writing it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with stable keys.")
def init(folder: Path, force: bool, dry_run: bool, as_json: bool) -> None:
    """Write a commented turnout.toml for an existing FOLDER: finds a start command, a lock file, prompts."""
    from turnout.manifest import MANIFEST_NAME, detect_project, render_manifest

    detected = detect_project(folder)
    text = render_manifest(detected)
    path = folder / MANIFEST_NAME
    found = {
        "start": list(detected.start) or detected.asgi,
        "lock": detected.lock,
        "prompts": list(detected.prompts) or None,
        "tools": detected.tools,
        "data": detected.data,
        "health": detected.health,
    }
    if not dry_run:
        if path.exists() and not force:
            hint = "--force overwrites it, --dry-run prints what would be written"
            raise Conflict(f"{path} is there already", hint=hint)
        path.write_text(text, encoding="utf-8")
    left = _left_to_do(folder) if not dry_run else ()
    if as_json:
        print_json(
            {
                "path": str(path),
                "agent": detected.agent,
                "found": found,
                "text": text,
                "to_do": left,
                "dry_run": dry_run,
            }
        )
    elif dry_run:
        click.echo(text, nl=False)
    else:
        click.echo(f"wrote {path} for agent {detected.agent}")
        for name, value in found.items():
            note(f"  {name:<8} {_show(value) if value else 'none found; see the comments in the file'}")
        for problem in left:
            note(f"to do: {problem}")
        note(f"next: turnout deploy{'' if str(folder) == '.' else f' {shlex.quote(str(folder))}'}")


def _left_to_do(folder: Path) -> tuple[str, ...]:
    """What only the author knows, such as a start command that was not found."""
    from turnout.manifest import load_manifest

    try:
        load_manifest(folder)
    except ManifestError as error:
        return error.problems
    return ()


def _show(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
