"""`turnout eval`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from turnout.cli.connection import connected, note, print_json
from turnout.cli.evaluating import Evaluating, fetched, gateway_option, hand_in
from turnout.cli.signing import attest_results, sign_option, unlock_for_results
from turnout.client import Client
from turnout.domain.errors import EvalsNotPassed, InvalidRequest, NotFound


@click.command("eval")
@click.argument("release", required=False)
@click.option("--suite", "names", multiple=True, help="Only this suite; repeatable. Default: all of turnout.toml.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=".",
    help="The agent's folder, where the suites are declared.",
)
@gateway_option
@sign_option
@connected
def eval_(
    client: Client,
    release: str | None,
    names: tuple[str, ...],
    folder: Path,
    gateway: Path | None,
    sign: bool | None,
    as_json: bool,
) -> None:
    """Run the suites of this folder against RELEASE: a version, digest or ring:NAME. Default: what was built here last.

    The release is fetched from the server and runs in a sandbox of this machine; the reports are handed in. Exits with 10
    if a suite is not passed.
    """
    from turnout.cli.building import last_build
    from turnout.manifest import load_manifest

    manifest = load_manifest(folder)
    if not manifest.evals:
        raise InvalidRequest(f"{manifest.agent} declares no suite", hint="add [[evals]] to turnout.toml")
    suites = [suite for suite in manifest.evals if not names or suite.name in names]
    if missing := sorted(set(names) - {suite.name for suite in suites}):
        known = ", ".join(suite.name for suite in manifest.evals)
        raise NotFound(f"there is no suite {missing[0]!r} in turnout.toml", hint=f"its suites are {known}")
    key = unlock_for_results(sign)  # first of all: a wrong passphrase must not be found out when everything was run
    evaluating = Evaluating(folder, manifest, client, True, gateway)
    with (
        tempfile.TemporaryDirectory(prefix="turnout-eval-") as work,
        fetched(client, manifest.agent, release or last_build(folder), Path(work) / "release") as subject,
    ):
        note(f"eval     {manifest.agent} {subject.release.version}")
        try:
            reports = evaluating.run(subject, suites)
        except EvalsNotPassed as error:
            raise EvalsNotPassed(
                error.message, hint=f"`turnout evals list {manifest.agent}` shows the reports"
            ) from None
        views = hand_in(client, reports)
        attest_results(client, subject.release.digest, reports, views, key)
    if as_json:
        print_json({"runs": views})
        return
    for view in views:
        click.echo(f"{view['suite']}  {view['version']}  {view['id']}")
