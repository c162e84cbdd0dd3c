"""`turnout verify`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import click

from turnout.cli.agent import agent_here
from turnout.cli.connection import connect, print_json
from turnout.cli.exits import EXIT_CODES
from turnout.cli.tables import local_time
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound, VerificationFailed
from turnout.domain.models import short_digest
from turnout.schemas import VerificationView
from turnout.settings import INSTANCE_FILE, default_state


@click.command()
@click.argument("release", required=False)
@click.option("--ring", help="Also check what this ring demands.")
@click.option("--agent", help="Agent of the release. Default: the one of turnout.toml in this folder.")
@click.option("--server", help="URL of the API. Default: TURNOUT_SERVER, or the instance of --state.")
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="State folder of the instance.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with stable keys.")
def verify(
    release: str | None, ring: str | None, agent: str | None, server: str | None, state: Path | None, as_json: bool
) -> None:
    """Check RELEASE: every byte of it, its attestations, and with --ring what that ring demands.

    Without RELEASE, read the whole artifact store of this machine's instance. Names every blob that is damaged or missing.
    """
    if release is None:
        if ring or agent or server:
            raise InvalidRequest(
                "name the release that is to be verified", hint="such as v2, a digest or ring:production"
            )
        _verify_store((state or default_state()).absolute(), as_json=as_json)
        return
    view = connect(server, state).verification(agent or agent_here(), release, ring)
    if as_json:
        print_json(view)
    else:
        _show(view)
    if view["damages"]:
        raise click.exceptions.Exit(EXIT_CODES[DamagedContent.code])
    if view["problems"]:
        raise click.exceptions.Exit(EXIT_CODES[VerificationFailed.code])


def _show(view: VerificationView) -> None:
    good, bad = click.style("✓", fg="green"), click.style("✗", fg="red")
    click.echo(f"{view['agent']} {view['version']}  {view['digest']}")
    content = "damaged or incomplete" if view["damages"] else "every blob has its digest"
    click.echo(f"  {bad if view['damages'] else good} content: {content}")
    for text in view["damages"]:
        click.echo(f"      {text}")
    for item in view["attestations"]:
        at = f" on {local_time(item['at'])}" if item["at"] else ""
        who = f" by {item['signer']} ({short_digest(item['keyid'] or '')})" if item["signer"] else ""
        mark = good if item["counts"] else "-"
        click.echo(f"  {mark} {item['kind'] or 'attestation'}{who}{at}: {item['verdict']}")
    if not view["attestations"]:
        click.echo("  - no attestations")
    if view["ring"]:
        demanded = ", ".join(view["demanded"]) or "no attestations"
        click.echo(f"  {bad if view['problems'] else good} {view['ring']} demands {demanded}")
    for text in view["problems"]:
        click.echo(f"      {text}")
    for hint in _hints(view):
        click.echo(f"{click.style('hint:', fg='cyan')} {hint}", err=True)


def _hints(view: VerificationView) -> Iterator[str]:
    if view["damages"]:
        yield "build and push it again with --no-cache: missing and damaged blobs are replaced"
    elif view["problems"]:
        yield (
            "`turnout build --sign` signs it with a key that `turnout keys list` shows as trusted; `turnout keys trust` "
            "trusts another key"
        )


def _verify_store(folder: Path, *, as_json: bool) -> None:
    from turnout.artifacts.open import open_store

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
            hint="build and push the release again with --no-cache: missing and damaged blobs are replaced",
        )
    click.echo("every blob has its digest")


def _registry(state: Path) -> str | None:
    """The registry that the instance was started with."""
    try:
        found = json.loads((state / INSTANCE_FILE).read_text()).get("registry")
    except (OSError, ValueError):
        return None
    return str(found) if found else None
