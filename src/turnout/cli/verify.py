"""`turnout verify`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from turnout.cli.connection import print_json
from turnout.cli.exits import EXIT_CODES
from turnout.domain.errors import DamagedContent, NotFound
from turnout.settings import INSTANCE_FILE, default_state


@click.command()
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="State folder of the instance.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with stable keys.")
def verify(state: Path | None, as_json: bool) -> None:
    """Read the whole artifact store of this machine's instance and name every blob that is damaged or missing."""
    from turnout.artifacts.open import open_store

    folder = (state or default_state()).absolute()
    registry = _registry(folder)
    if registry is None and not (folder / "artifacts").exists():
        raise NotFound(f"there is no artifact store in {folder}", hint="name the state folder with --state")
    found = open_store(folder, registry, os.environ).damages()
    damages = [{"digest": digest, "damage": text} for digest, text in found]
    if as_json:
        print_json({"damages": damages})
        raise click.exceptions.Exit(EXIT_CODES["damaged_content"] if damages else 0)
    if damages:
        raise DamagedContent(
            "; ".join(item["damage"] for item in damages),
            hint="build and push the release again: missing and damaged blobs are replaced",
        )
    click.echo("every blob has its digest")


def _registry(state: Path) -> str | None:
    """The registry that the instance was started with."""
    try:
        found = json.loads((state / INSTANCE_FILE).read_text()).get("registry")
    except (OSError, ValueError):
        return None
    return str(found) if found else None
