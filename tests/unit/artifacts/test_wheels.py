"""Wheels that refer to a release: only those that its lock names by their hashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.artifacts.agents import MANIFEST, build, write_agent
from turnout.artifacts.digest import sha256_digest
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.artifacts.wheels import attach_wheels, find_wheels, unpack_wheels
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound
from turnout.domain.models import Digest

WHEEL, OTHER = b"a wheel", b"another wheel"
NAME = "greeting-1.0-py3-none-any.whl"


def push(store: MemoryArtifactStore, folder: Path, lock: str) -> Digest:
    write_agent(folder, manifest=MANIFEST)
    (folder / "requirements.txt").write_text(lock)
    return build(folder, store).digest


@pytest.fixture
def store() -> MemoryArtifactStore:
    return MemoryArtifactStore()


@pytest.fixture
def release(store: MemoryArtifactStore, tmp_path: Path) -> Digest:
    return push(store, tmp_path / "agent", f"greeting==1.0 --hash={sha256_digest(WHEEL)}\n")


def test_wheels_of_the_lock_are_found_and_unpacked(store: MemoryArtifactStore, release: Digest, tmp_path: Path) -> None:
    assert find_wheels(store, release) == {}
    unpack_wheels(store, release, tmp_path / "wheels")
    assert not (tmp_path / "wheels").exists()
    digest = store.write([WHEEL])
    for _ in range(2):
        attach_wheels(store, release, {NAME: digest})
        unpack_wheels(store, release, tmp_path / "wheels")
    assert find_wheels(store, release) == {NAME: digest}
    assert {path.name: path.read_bytes() for path in (tmp_path / "wheels").iterdir()} == {NAME: WHEEL}
    assert list(store.damages()) == []


def test_what_the_lock_does_not_name_by_its_hash_is_refused(
    store: MemoryArtifactStore, release: Digest, tmp_path: Path
) -> None:
    other = store.write([OTHER])
    with pytest.raises(InvalidRequest, match="does not name greeting"):
        attach_wheels(store, release, {NAME: other})
    unhashed = push(store, tmp_path / "other", "greeting==1.0\n")
    with pytest.raises(InvalidRequest, match="by its hash"):
        attach_wheels(store, unhashed, {NAME: store.write([WHEEL])})
    assert find_wheels(store, release) == {}


@pytest.mark.parametrize("name", ["../x.whl", "x/y.whl", "x.txt", ".whl", "x\n.whl"])
def test_a_name_that_no_wheel_has_is_refused(store: MemoryArtifactStore, release: Digest, name: str) -> None:
    with pytest.raises(InvalidRequest, match="no file name"):
        attach_wheels(store, release, {name: store.write([WHEEL])})


def test_a_wheel_that_is_missing_or_damaged_is_named(
    store: MemoryArtifactStore, release: Digest, tmp_path: Path
) -> None:
    with pytest.raises(NotFound):
        attach_wheels(store, release, {NAME: sha256_digest(WHEEL)})
    digest = store.write([WHEEL])
    attach_wheels(store, release, {NAME: digest})
    store.blobs[digest] = b"changed"
    with pytest.raises(DamagedContent, match=digest):
        unpack_wheels(store, release, tmp_path / "wheels")
    assert not (tmp_path / "wheels" / NAME).exists()
