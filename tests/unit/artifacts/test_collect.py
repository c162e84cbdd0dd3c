"""Garbage collection on disk: nothing that is kept, fresh, or of another tool is ever removed."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from tests.unit.artifacts.agents import build, write_agent
from tests.unit.artifacts.attest.people import make_key
from turnout.artifacts.attest.envelope import sign_statement
from turnout.artifacts.attest.notary import attach_envelope, read_envelopes
from turnout.artifacts.attest.predicates import Provenance, build_provenance
from turnout.artifacts.build import BuiltRelease
from turnout.artifacts.digest import canonical_json, sha256_digest
from turnout.artifacts.document import EMPTY_CONFIG
from turnout.artifacts.layout import FRESH, OciLayoutStore
from turnout.artifacts.release import unpack_release
from turnout.domain.errors import NotFound
from turnout.domain.models import Digest

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
KEY = make_key("alice", bytes(32))
OLD = time.time() - 2 * FRESH


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def releases(root: Path, tmp_path: Path) -> list[BuiltRelease]:
    """Two releases that share all but a prompt."""
    store = OciLayoutStore(root)
    folder = write_agent(tmp_path / "agent")
    first = build(folder, store)
    (folder / "prompts" / "system.md").write_text("Another.\n")
    return [first, build(folder, store)]


def age(root: Path, *digests: Digest) -> None:
    """As if these blobs, or all, had been written long ago."""
    names = {digest.removeprefix("sha256:") for digest in digests}
    for path in (root / "blobs" / "sha256").iterdir():
        if not names or path.name in names:
            os.utime(path, (OLD, OLD))


def test_what_is_kept_and_all_that_it_needs_stays(root: Path, releases: list[BuiltRelease], tmp_path: Path) -> None:
    first, second = releases
    store = OciLayoutStore(root)
    age(root)
    found = store.collect({second.digest})
    assert found.releases == (first.digest,)
    assert store.releases() == {second.digest: ()}
    assert list(store.damages()) == []
    unpack_release(store, second.digest, tmp_path / "out")
    assert not store.has(first.components["prompts"].digest)
    assert found.blobs == 3, "document, prompts and manifest of the first"
    with pytest.raises(NotFound):
        store.release_manifest(first.digest)


def test_what_was_written_or_asked_for_stays_for_a_day(root: Path, releases: list[BuiltRelease]) -> None:
    store = OciLayoutStore(root)
    assert store.collect(set()) == ((), 0, 0)
    loose = store.write([b"pushed long ago, its release still to come"])
    age(root)
    assert store.has(loose), "a push asks for it"
    gone = store.collect({release.digest for release in releases})
    assert gone.blobs == 0
    assert store.has(loose)


def test_a_dry_run_removes_nothing(root: Path, releases: list[BuiltRelease]) -> None:
    store = OciLayoutStore(root)
    age(root)
    before = sorted(store.stored())
    would = store.collect(set(), dry_run=True)
    assert set(would.releases) == {release.digest for release in releases}
    assert sorted(store.stored()) == before
    assert store.collect(set()) == would
    assert list(store.stored()) == []


def test_what_refers_to_a_release_goes_and_stays_with_it(root: Path, releases: list[BuiltRelease]) -> None:
    first, second = releases
    store = OciLayoutStore(root)
    for release, text in ((first, b"one"), (second, b"two")):
        envelope = sign_statement(
            build_provenance("support", release.digest, Provenance("urn:x", user=text.decode())), KEY
        )
        attach_envelope(store, store.release_manifest(release.digest), envelope)
    age(root)
    before = list(read_envelopes(store, store.release_manifest(first.digest)))
    store.collect({second.digest})
    assert len(list(read_envelopes(store, store.release_manifest(second.digest)))) == 1
    assert store.has(sha256_digest(EMPTY_CONFIG))
    assert not store.has(sha256_digest(before[0]))
    assert list(store.damages()) == []


def test_what_another_tool_has_put_there_stays_with_all_that_it_names(root: Path) -> None:
    store = OciLayoutStore(root)
    layer, config = store.write([b"layer"]), store.write([b"{}"])
    inner = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 5}],
    }
    manifest = canonical_json(inner)
    kind = "application/vnd.oci.image.manifest.v1+json"
    entry = {"mediaType": kind, "digest": store.write([manifest]), "size": len(manifest)}
    outer = canonical_json(
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
    )
    listed = {
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": store.write([outer]),
        "size": len(outer),
    }
    index = json.loads((root / "index.json").read_bytes())
    (root / "index.json").write_bytes(canonical_json({**index, "manifests": [*index["manifests"], listed]}))
    age(root)
    assert store.collect(set()) == ((), 0, 0)


@pytest.mark.parametrize("fresh", [0.0, FRESH])
def test_pushes_that_race_with_collections_are_whole_or_not_there(root: Path, tmp_path: Path, fresh: float) -> None:
    """A collector that spares nothing may make a push miss a blob, but nothing is ever half there."""
    store, folder = OciLayoutStore(root), write_agent(tmp_path / "agent")
    done = threading.Event()

    def collect() -> None:
        while not done.is_set():
            OciLayoutStore(root).collect(set(), fresh=fresh)

    collector = threading.Thread(target=collect)
    collector.start()
    pushed, refused = set(), 0
    try:
        for number in range(40):
            (folder / "prompts" / "system.md").write_text(f"{number % 7}\n")
            try:
                pushed.add(build(folder, store).digest)
            except NotFound:
                refused += 1
    finally:
        done.set()
        collector.join()
    assert list(store.damages()) == []
    assert set(store.releases()) <= pushed
    if fresh:
        assert (refused, set(store.releases())) == (0, pushed)
