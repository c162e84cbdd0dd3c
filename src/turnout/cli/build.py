"""`turnout build`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from turnout.cli.building import WORK_FOLDER, build_store, built, cache_option, find_git_sha, push, remember_build
from turnout.cli.connection import connect, note, print_json
from turnout.cli.evaluating import Evaluating, evals_option, gateway_option
from turnout.cli.signing import Signing, sign_option
from turnout.domain.errors import ServerUnreachable, TurnoutError, Unauthenticated
from turnout.domain.models import short_digest


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".")
@click.option("--tag", help="Version of the release, such as v2.3.0. Default: the next number.")
@click.option("--push/--no-push", "pushed", default=None, help="Push, or not. Default: push if a server answers.")
@cache_option
@sign_option
@evals_option
@gateway_option
@click.option("--server", help="URL of the API. Default: TURNOUT_SERVER, or the instance of --state.")
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="State folder of the instance.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with stable keys.")
def build(
    folder: Path,
    tag: str | None,
    pushed: bool | None,
    cached: bool,
    sign: bool | None,
    evals: bool | None,
    gateway: Path | None,
    server: str | None,
    state: Path | None,
    as_json: bool,
) -> None:
    """Build the release of FOLDER and push it to the server. The same inputs give the same digest everywhere."""
    from turnout.manifest import load_manifest

    began = time.time()
    manifest = load_manifest(folder)
    with build_store(folder, throw_away=False) as store, built(folder, manifest, store, cached=cached) as parts:
        remember_build(folder, manifest.agent, parts.digest)
        client = release = None
        with _noted(pushed):
            client = connect(server, state) if pushed is not False else None
        reports = Evaluating(folder, manifest, client, evals, gateway).built(store, parts)
        if client is not None:
            spool, git_sha = folder / WORK_FOLDER, find_git_sha(folder)
            signing = Signing(folder, git_sha, began, sign)
            with _noted(pushed):
                release = push(client, store, parts, signing, reports, spool=spool, tag=tag, verify=not cached)
    # Only a server gives out version numbers; a build without one is named by its digest.
    version = tag or (release["version"] if release else f"sha-{short_digest(parts.digest)}")
    if as_json:
        print_json(
            {
                "digest": parts.digest,
                "version": version,
                "components": {name: ref.digest for name, ref in parts.components.items()},
                "pushed": release is not None,
                "pushed_blobs": release["pushed_blobs"] if release else 0,
                "pushed_bytes": release["pushed_bytes"] if release else 0,
            }
        )
        return
    click.echo(f"{manifest.agent} {version}  {parts.digest}")
    for name, ref in parts.components.items():
        size, cut = ref.size, ""
        if name == "data" and parts.data:  # its component is only the index
            size, cut = parts.data.index.size, f" in {len(parts.data.index.places):,} chunks"
        click.echo(f"  {name:<8} {short_digest(ref.digest)}  {size:>14,} bytes{cut}")


@contextmanager
def _noted(pushed: bool | None) -> Iterator[None]:
    """Say why nothing is pushed where no server answers, unless it was asked for."""
    try:
        yield
    except TurnoutError as error:
        if pushed or error.code not in (ServerUnreachable.code, Unauthenticated.code):
            raise
        note(f"not pushed: {error.message}")
