"""Flip one byte of a stored release at a time: is it found, is the blob named, does anything start?"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.live import live_instance

from benchmarks.artifact_data import AGENT, MEGABYTE, RUN, TURNOUT, data_file, make_agent, scatter
from turnout.artifacts.build import build_release
from turnout.artifacts.layout import OciLayoutStore
from turnout.artifacts.release import unpack_release
from turnout.domain.errors import DamagedContent
from turnout.domain.models import Digest
from turnout.manifest import load_manifest

_PUSHES = 6


@dataclass
class Flips:
    """What became of the flips; `missed` says what was not as it must be."""

    name: str
    blobs: int
    tried: int = 0
    found: int = 0
    refused: int = 0

    @property
    def missed(self) -> int:
        """Flips that were not found, or after which the release was unpacked or started."""
        return 2 * self.tried - self.found - self.refused


def flip_small(folder: Path) -> Flips:
    """Each blob of a small release at its first, a random and its last byte: `verify`, and a node that unpacks it."""
    generator = random.Random(4)
    store = OciLayoutStore(folder / "store")
    agent = make_agent(folder / "agent", 300_000)
    release = build_release(agent, load_manifest(agent), store).digest
    blobs = sorted(store.stored())
    flips = Flips("a small release, every blob", len(blobs))
    for blob in blobs:
        size = store.size(blob)
        for position in sorted({0, generator.randrange(size), size - 1}):
            _try(flips, folder, store, release, blob, position)
    shutil.rmtree(folder)
    return flips


def flip_large(folder: Path, size: int, tries: int) -> Flips:
    """Random places in random blobs of a release whose data was changed and pushed several times."""
    generator = random.Random(4)
    store = OciLayoutStore(folder / "store")
    agent = make_agent(folder / "agent", size)
    for push in range(_PUSHES):
        release = build_release(agent, load_manifest(agent), store).digest
        if push < _PUSHES - 1:
            scatter(data_file(agent), 2 * RUN / size, push)
    blobs = sorted(_of_release(store, release))
    flips = Flips(f"{size // MEGABYTE} MB of data, pushed {_PUSHES} times", len(blobs))
    for _ in range(tries):
        blob = generator.choice(blobs)
        _try(flips, folder, store, release, blob, generator.randrange(store.size(blob)))
    shutil.rmtree(folder)
    return flips


def flip_live(folder: Path) -> Flips:
    """Each blob of a small release in the store of an instance: `turnout verify`, and `turnout deploy`."""
    generator = random.Random(4)
    agent = make_agent(folder / "agent", 300_000)
    with live_instance(folder / "state") as instance:
        instance.run("build", "--push", str(agent))
        blobs = sorted(OciLayoutStore(instance.state / "artifacts").stored())
        flips = Flips("the same in an instance", len(blobs))
        env = {**os.environ, "TURNOUT_STATE": str(instance.state)}
        for blob in blobs:
            with _flipped(instance.state / "artifacts", blob, generator.random()):
                verified = _call(env, "verify", "--json")
                deployed = _call(env, "deploy", str(agent), "--skip-build", "--json")
                flips.tried += 1
                flips.found += [item["digest"] for item in json.loads(verified.stdout)["damages"]] == [blob]
                flips.refused += deployed.returncode != 0 and instance.ring(AGENT, "dev")["stable"] is None
    shutil.rmtree(folder)
    return flips


def _try(flips: Flips, folder: Path, store: OciLayoutStore, release: Digest, blob: Digest, position: int) -> None:
    node = folder / "node"
    node.mkdir()
    with _flipped(folder / "store", blob, position / store.size(blob)):
        flips.tried += 1
        flips.found += [digest for digest, _ in store.damages()] == [blob]
        try:
            unpack_release(store, release, node / "release")
        except DamagedContent as damage:
            flips.refused += blob in damage.message and not any(node.iterdir())
    shutil.rmtree(node)


@contextmanager
def _flipped(layout: Path, blob: Digest, share: float) -> Iterator[None]:
    """Change one byte, and change it back."""
    path = layout / "blobs" / "sha256" / blob.removeprefix("sha256:")
    position = int(share * path.stat().st_size)
    path.chmod(0o600)
    _flip(path, position)
    yield
    _flip(path, position)
    path.chmod(0o444)


def _flip(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ 1 << position % 8]))


def _of_release(store: OciLayoutStore, release: Digest) -> set[Digest]:
    """The manifest of a release and everything that it names."""
    (recorded,) = (item for item in store.recorded() if item.release == release)
    manifest = json.loads(store.read_all(recorded.manifest))
    return {recorded.manifest, release, *(Digest(layer["digest"]) for layer in manifest["layers"])}


def _call(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TURNOUT, *arguments], env=env, capture_output=True, text=True, check=False, timeout=120)
