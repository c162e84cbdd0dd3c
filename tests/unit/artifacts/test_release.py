"""A stored release read back: verified, and unpacked whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.unit.artifacts.agents import COMPONENTS, FILES, build, write_agent
from turnout.artifacts.digest import canonical_json, sha256_digest
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.artifacts.layout import OciLayoutStore
from turnout.artifacts.release import check_release_document, read_release, unpack_release
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound, UnsafeArchive
from turnout.domain.models import Digest


@pytest.fixture
def store() -> MemoryArtifactStore:
    return MemoryArtifactStore()


@pytest.fixture
def digest(store: MemoryArtifactStore, tmp_path: Path) -> Digest:
    return build(write_agent(tmp_path / "agent"), store).digest


def changed(store: MemoryArtifactStore, digest: Digest, **changes: object) -> Digest:
    """A release document with other values, stored."""
    document = {**json.loads(store.read_all(digest)), **changes}
    return store.write([canonical_json(document)])


def with_component(store: MemoryArtifactStore, digest: Digest, name: str, content: bytes) -> Digest:
    """The release with another blob as one component, stored."""
    components = json.loads(store.read_all(digest))["components"]
    blob = {"digest": store.write([content]), "size": len(content)}
    return changed(store, digest, components={**components, name: {**components[name], **blob}})


def test_a_release_reads_back(store: MemoryArtifactStore, digest: Digest) -> None:
    release = read_release(store, digest)
    assert tuple(release.components) == COMPONENTS
    assert release.spec.agent == "support"
    assert release.spec.start == ("python", "server.py", "--port", "{port}")
    assert sha256_digest(canonical_json(release.document)) == digest


def test_unpacking_gives_the_folder_of_the_agent(store: MemoryArtifactStore, digest: Digest, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "release"
    unpack_release(store, digest, target)
    found = {path.relative_to(target).as_posix(): path for path in target.rglob("*") if path.is_file()}
    left_out = {"notes/draft.md", "debug.log", "__pycache__/server.pyc", ".env"}
    assert set(found) == set(FILES) - left_out
    for name, path in found.items():
        expected = b'{"tools":[{"name":"search"}]}' if name == "tools.json" else FILES[name]
        assert path.read_bytes() == expected
        assert path.stat().st_mode & 0o777 == (0o555 if name == "server.py" else 0o444)
    assert [path.name for path in target.parent.iterdir()] == ["release"]


def test_a_folder_that_is_complete_is_left(store: MemoryArtifactStore, digest: Digest, tmp_path: Path) -> None:
    target = tmp_path / "release"
    unpack_release(store, digest, target)
    before = (target / "server.py").stat()
    store.blobs.clear()
    unpack_release(store, digest, target)
    assert (target / "server.py").stat() == before


def test_what_a_killed_one_left_is_taken_over(store: MemoryArtifactStore, digest: Digest, tmp_path: Path) -> None:
    partial = tmp_path / ".release.partial"
    (partial / "lib").mkdir(parents=True)
    (partial / "lib" / "half.py").write_text("half")
    (partial / "server.py").write_text("half")
    unpack_release(store, digest, tmp_path / "release")
    assert not partial.exists()
    assert not (tmp_path / "release" / "lib" / "half.py").exists()
    assert (tmp_path / "release" / "server.py").read_bytes() == FILES["server.py"]


def test_many_may_unpack_at_once(store: MemoryArtifactStore, digest: Digest, tmp_path: Path) -> None:
    target = tmp_path / "releases" / "one"
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(unpack_release, store, digest, target) for _ in range(24)]:
            done.result()
    assert (target / "server.py").read_bytes() == FILES["server.py"]
    assert [path.name for path in target.parent.iterdir()] == ["one"]


@pytest.mark.parametrize("component", ["code", "prompts", "tools", "data", "config"])
def test_a_damaged_component_leaves_no_folder(
    store: MemoryArtifactStore, digest: Digest, tmp_path: Path, component: str
) -> None:
    blob = read_release(store, digest).components[component].digest
    store.blobs[blob] = store.blobs[blob][:-1] + b"?"
    with pytest.raises(DamagedContent):
        unpack_release(store, digest, tmp_path / "releases" / "one")
    assert not list((tmp_path / "releases").glob("*"))


def test_an_attack_in_a_component_leaves_no_folder(store: MemoryArtifactStore, digest: Digest, tmp_path: Path) -> None:
    (tmp_path / "evil").mkdir()
    unsafe = with_component(
        store, digest, "prompts", store.read_all(read_release(store, digest).components["code"].digest)
    )
    with pytest.raises(UnsafeArchive, match="twice"):
        unpack_release(store, unsafe, tmp_path / "releases" / "one")
    assert not list((tmp_path / "releases").iterdir())


def test_a_tool_manifest_over_another_file_is_refused(
    store: MemoryArtifactStore, digest: Digest, tmp_path: Path
) -> None:
    config = json.loads(store.read_all(read_release(store, digest).components["config"].digest))
    config["paths"]["tools"] = "server.py"
    unsafe = with_component(store, digest, "config", canonical_json(config))
    with pytest.raises(UnsafeArchive, match=r"holds server\.py twice"):
        unpack_release(store, unsafe, tmp_path / "releases" / "one")


@pytest.mark.parametrize(
    "changes",
    [
        {"schemaVersion": 2},
        {"agent": "../x"},
        {"extra": 1},
        {"components": {}},
        {"components": {"code": {"mediaType": "x", "digest": "sha256:x", "size": 1}}},
    ],
)
def test_a_document_of_another_shape_is_refused(
    store: MemoryArtifactStore, digest: Digest, changes: dict[str, object]
) -> None:
    with pytest.raises(InvalidRequest, match="is no release document"):
        read_release(store, changed(store, digest, **changes))


def test_a_document_must_be_canonical_and_have_its_digest(store: MemoryArtifactStore, digest: Digest) -> None:
    spaced = json.dumps(json.loads(store.read_all(digest))).encode()
    with pytest.raises(InvalidRequest, match="not canonical"):
        check_release_document(spaced, sha256_digest(spaced))
    with pytest.raises(DamagedContent):
        check_release_document(spaced, digest)


def test_a_config_of_another_agent_is_refused(store: MemoryArtifactStore, digest: Digest) -> None:
    with pytest.raises(InvalidRequest, match="its config of agent support"):
        read_release(store, changed(store, digest, agent="other"))


def test_a_component_with_the_media_type_of_another_is_refused(store: MemoryArtifactStore, digest: Digest) -> None:
    components = json.loads(store.read_all(digest))["components"]
    mixed = changed(store, digest, components={**components, "data": components["model"]})
    with pytest.raises(InvalidRequest, match="component data has the media type"):
        read_release(store, mixed)


def test_an_unknown_digest_is_not_found(store: MemoryArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        unpack_release(store, sha256_digest(b"?"), tmp_path / "release")


KILLED = """
import os, signal, sys
from pathlib import Path
from turnout.artifacts import unpack as room
from turnout.artifacts.layout import OciLayoutStore
from turnout.artifacts.release import unpack_release

opened, create = [], room.create_file

def killing(name, target):
    opened.append(name)
    if len(opened) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return create(name, target)

room.create_file = killing
unpack_release(OciLayoutStore(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3]))
"""


def test_a_process_killed_while_it_unpacks_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    store = OciLayoutStore(tmp_path / "store")
    digest = build(write_agent(tmp_path / "agent"), store).digest
    target = tmp_path / "releases" / "one"
    arguments = [sys.executable, "-c", KILLED, str(tmp_path / "store"), digest, str(target)]
    assert subprocess.run(arguments, check=False, timeout=30).returncode == -9
    assert not target.exists()
    unpack_release(store, digest, target)
    assert (target / "server.py").read_bytes() == FILES["server.py"]
    assert [path.name for path in target.parent.iterdir()] == ["one"]
