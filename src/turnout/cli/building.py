"""Building on this machine and pushing to the server: shared by `build` and `deploy`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from turnout.cli.connection import note
from turnout.cli.evaluating import cache_folder, hand_in
from turnout.cli.signing import attest_results
from turnout.client import Client
from turnout.domain.errors import NotFound
from turnout.domain.models import Digest
from turnout.schemas import ReleaseView

if TYPE_CHECKING:
    from turnout.artifacts.build import ReleaseParts
    from turnout.artifacts.chunks.index import ChunkRef
    from turnout.artifacts.chunks.source import DataSource
    from turnout.artifacts.layout import OciLayoutStore
    from turnout.artifacts.select import Selection
    from turnout.cli.signing import Signing
    from turnout.domain.eval_report import EvalReport
    from turnout.manifest import Manifest

WORK_FOLDER = ".turnout"
_LAST_BUILD = "last-build.json"
_CHUNKS = "chunks.json"
_SCANNED = "scanned.json"


class Pushed(ReleaseView):
    """The release as the server has it now, and what was sent for it."""

    pushed_blobs: int
    pushed_bytes: int


cache_option = click.option(
    "--cache/--no-cache",
    "cached",
    default=True,
    help="Read data again only if it has changed, or read everything, here and on the server, and replace what is damaged.",
)


@contextmanager
def built(folder: Path, manifest: Manifest, store: OciLayoutStore, *, cached: bool) -> Iterator[ReleaseParts]:
    """Run the data build if one is declared, and build the release. The data can be read as long as the block lasts.

    `cached`: do not read data files again that have not changed since the last build.
    """
    from turnout.artifacts.build import build_parts
    from turnout.artifacts.data import run_data_build
    from turnout.runtimes.environment import Environments

    work = folder / WORK_FOLDER if (folder / WORK_FOLDER).exists() else None
    cache = work / _CHUNKS if work else None
    scan = partial(_refuse_secrets, folder, manifest, work, cached)
    build = partial(build_parts, folder, manifest, store, cache=cache, cached=cached, scan=scan, on_progress=_progress)
    if manifest.data is None or not manifest.data.build:
        yield build()
        return
    note("build    the environment of the data build")
    environments = Environments(cache_folder() / "environments")
    environment = environments.build(folder, manifest.code.lock, manifest.code.python)
    with tempfile.TemporaryDirectory(prefix="turnout-build-") as workspace:
        note(f"build    data: {' '.join(manifest.data.build)}")
        data = run_data_build(
            folder, manifest, environment / "bin", Path(workspace), lambda line: note(f"         | {line}")
        )
        yield build_parts(
            folder, manifest, store, data_folder=data, cache=cache, cached=cached, scan=scan, on_progress=_progress
        )


def _refuse_secrets(folder: Path, manifest: Manifest, work: Path | None, cached: bool, selection: Selection) -> None:
    """Raise `BuildFailed` when something in the release looks like a secret and is not allowed."""
    from turnout.artifacts.scan import ScanCache, check_findings, load_allowed, scan_release, stale_allowances

    today = datetime.now(UTC).date()
    allowed = load_allowed(folder, today)
    cache = ScanCache(work / _SCANNED) if work and cached else None
    findings = scan_release(folder, manifest, selection, cache=cache, staging=work)
    check_findings(findings, allowed, today)
    for entry in stale_allowances(findings, allowed):
        note(f"scan     warning: nothing is found any more for {entry.describe()}")


def push(
    client: Client,
    store: OciLayoutStore,
    parts: ReleaseParts,
    signing: Signing,
    reports: Sequence[EvalReport] = (),
    *,
    spool: Path,
    tag: str | None,
    verify: bool,
) -> Pushed:
    """Upload what the server does not have, record the release, and send its provenance with it.

    `spool`: a folder for bundles on their way. `reports`: of suites, to be handed in with it.

    `verify`: let the server read what it has, and replace what is damaged.
    """
    agent = parts.spec.agent
    # First of all: a wrong passphrase must not leave a release behind unsigned.
    key = signing.unlock(client, parts, results=bool(reports))
    blobs = missing_blobs(client, parts)
    for digest in blobs:
        client.put_blob(agent, digest, store.read(digest))
    sent = sum(store.size(digest) for digest in blobs)
    bundles: list[str] = []
    if parts.data:
        missing = client.missing_chunks(agent, parts.components["data"].digest, verify=verify)
        for bundle, size in _push_chunks(client, agent, parts.data, missing, spool):
            bundles.append(bundle)
            sent += size
    count = len(blobs) + len(bundles)
    note(f"push     {count} blobs, {sent:,} bytes" if count else "push     nothing: the server has every blob")
    view = client.put_release(agent, parts.digest, {"bundles": bundles, "tag": tag, "git_sha": signing.git_sha})
    if key and signing.is_due(client, parts, key):
        answer = client.attest(agent, parts.digest, signing.sign(parts, key))
        if answer["note"]:
            note(f"sign     does not count here: {answer['note']}")
    attest_results(client, parts.digest, reports, hand_in(client, reports), key)
    return {**view, "pushed_blobs": count, "pushed_bytes": sent}


def _push_chunks(
    client: Client, agent: str, data: DataSource, missing: list[tuple[int, int]], spool: Path
) -> Iterator[tuple[str, int]]:
    """Bundle and upload chunks; gives the digest and the size of each bundle."""
    from turnout.artifacts.chunks.bundle import file_chunks, write_bundles
    from turnout.artifacts.chunks.catalog import chunks_of

    if not missing:
        return
    chunks = chunks_of(data.index, missing)
    total = sum(chunk.length for chunk in chunks)
    note(f"push     {total:,} of {data.index.size:,} bytes of data")
    with click.progressbar(length=total, label="        ", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        for bundle in write_bundles(_counted(data.read(chunks), bar), spool):
            client.put_blob(agent, bundle.ref.digest, file_chunks(bundle.file))
            yield bundle.ref.digest, bundle.ref.size


def missing_blobs(client: Client, parts: ReleaseParts) -> list[Digest]:
    """The document and components of a release that the server does not have."""
    blobs = [*(ref.digest for ref in parts.components.values()), parts.digest]
    return [Digest(digest) for digest in client.missing_blobs(parts.spec.agent, list(dict.fromkeys(blobs)))]


@contextmanager
def build_store(folder: Path, *, throw_away: bool) -> Iterator[OciLayoutStore]:
    """Where a build goes: `.turnout/store` beside the manifest, or for a dry run a folder that is deleted again."""
    from turnout.artifacts.layout import OciLayoutStore

    if throw_away:
        with tempfile.TemporaryDirectory(prefix="turnout-dry-run-") as temporary:
            yield OciLayoutStore(Path(temporary))
        return
    work = folder / WORK_FOLDER
    work.mkdir(exist_ok=True)
    ignore = work / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    yield OciLayoutStore(work / "store")


def remember_build(folder: Path, agent: str, digest: str) -> None:
    """What `--skip-build` uses."""
    (folder / WORK_FOLDER / _LAST_BUILD).write_text(json.dumps({"agent": agent, "digest": digest}))


def last_build(folder: Path) -> str:
    """The digest of the last build in a folder. Raises `NotFound`."""
    try:
        return str(json.loads((folder / WORK_FOLDER / _LAST_BUILD).read_text())["digest"])
    except (OSError, ValueError, KeyError):
        raise NotFound(
            "nothing was built in this folder yet", hint="leave out --skip-build, or name a release with --tag"
        ) from None


def find_git_sha(folder: Path) -> str | None:
    """The commit that is checked out, `-dirty` if files differ from it; None outside a repository."""
    git = shutil.which("git")
    if git is None:
        return None
    sha = _ask_git(git, folder, "rev-parse", "HEAD")
    if not sha:
        return None
    return sha + ("-dirty" if _ask_git(git, folder, "status", "--porcelain", "--", ".") else "")


def _ask_git(git: str, folder: Path, *arguments: str) -> str | None:
    done = subprocess.run([git, "-C", str(folder), *arguments], capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else None


def _progress(component: str) -> None:
    note(f"build    {component}")


def _counted(chunks: Iterator[tuple[ChunkRef, bytes]], bar: Any) -> Iterator[tuple[ChunkRef, bytes]]:
    for chunk, content in chunks:
        yield chunk, content
        bar.update(chunk.length)
