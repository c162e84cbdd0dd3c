"""Building on this machine and pushing to the server: shared by `build` and `deploy`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from turnout.cli.connection import note
from turnout.client import Client
from turnout.domain.errors import NotFound
from turnout.domain.models import Digest
from turnout.schemas import ReleaseView

if TYPE_CHECKING:
    from turnout.artifacts.build import BuiltRelease
    from turnout.artifacts.layout import OciLayoutStore
    from turnout.manifest import Manifest

WORK_FOLDER = ".turnout"
_LAST_BUILD = "last-build.json"


def build(folder: Path, manifest: Manifest, store: OciLayoutStore) -> BuiltRelease:
    """Run the data build if one is declared, and build the release into the store."""
    from turnout.artifacts.build import build_release
    from turnout.artifacts.data import run_data_build
    from turnout.runtimes.environment import Environments

    if manifest.data is None or not manifest.data.build:
        return build_release(folder, manifest, store, on_progress=_progress)
    note("build    the environment of the data build")
    environments = Environments(_cache_folder() / "environments")
    environment = environments.build(folder, manifest.code.lock, manifest.code.python)
    with tempfile.TemporaryDirectory(prefix="turnout-build-") as workspace:
        note(f"build    data: {' '.join(manifest.data.build)}")
        data = run_data_build(
            folder, manifest, environment / "bin", Path(workspace), lambda line: note(f"         | {line}")
        )
        return build_release(folder, manifest, store, data_folder=data, on_progress=_progress)


def push(
    client: Client, store: OciLayoutStore, built: BuiltRelease, tag: str | None, git_sha: str | None
) -> ReleaseView:
    """Upload the blobs that the server does not have, then record the release."""
    agent = built.spec.agent
    missing = missing_blobs(client, built)
    total = sum(store.size(digest) for digest in missing)
    if missing:
        note(f"push     {len(missing)} blobs, {total:,} bytes")
        with click.progressbar(length=total, label="        ", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
            for digest in missing:
                client.put_blob(agent, digest, _counted(store.read(digest), bar))
    else:
        note("push     nothing: the server has every blob")
    body = {"manifest": built.manifest.decode(), "tag": tag, "git_sha": git_sha}
    return client.put_release(agent, built.digest, body)


def missing_blobs(client: Client, built: BuiltRelease) -> list[Digest]:
    """The blobs of a release that the server does not have."""
    blobs = [*(ref.digest for ref in built.components.values()), built.digest]
    return [Digest(digest) for digest in client.missing_blobs(built.spec.agent, list(dict.fromkeys(blobs)))]


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


def _counted(chunks: Iterator[bytes], bar: Any) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        bar.update(len(chunk))


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "turnout"
