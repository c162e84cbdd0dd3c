"""A release's identity: the same for the same inputs, another for any other byte."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.artifacts.agents import COMPONENTS, FILES, MANIFEST, build, write_agent
from tests.unit.manifest.patience import PATIENT
from turnout.artifacts.build import build_release
from turnout.artifacts.digest import canonical_json, sha256_digest
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.domain.errors import BuildFailed, StorageFull
from turnout.manifest import load_manifest


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0)
    os.umask(before)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_folder_user_umask_times_order_and_clock_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.umask(0o000)
    first = build(write_agent(tmp_path / "first"))

    os.umask(0o077)
    other = write_agent(tmp_path / "a" / "much" / "deeper ü" / "folder", order=sorted(FILES, reverse=True))
    for index, path in enumerate(other.rglob("*")):
        os.utime(path, (index * 1_000, index * 1_000))
    monkeypatch.setattr(time, "time", lambda: 4e9)
    monkeypatch.setenv("USER", "somebody-else")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    second = build(other)

    assert second.digest == first.digest
    assert second.manifest == first.manifest
    assert second.components == first.components


def test_files_that_are_left_out_do_not_matter(tmp_path: Path) -> None:
    folder = write_agent(tmp_path / "agent")
    before = build(folder).digest
    (folder / ".env").write_text("other")
    (folder / "notes" / "more.md").write_text("other")
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("other")
    (folder / "empty").mkdir()
    (folder / "turnout.toml").write_text("# a comment\n" + MANIFEST)
    (folder / "tools.json").write_text(json.dumps(json.loads(FILES["tools.json"]), indent=4))
    assert build(folder).digest == before


STORED = ["server.py", "lib/answer.py", "prompts/system.md", "prompts/de/system.md", "index/part-0.bin"]


@settings(PATIENT, max_examples=25)
@given(name=st.sampled_from(STORED), data=st.data())
def test_any_other_byte_gives_another_digest(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    folder = write_agent(tmp_path_factory.mktemp("any") / "agent")
    before = build(folder)
    content = bytearray(FILES[name])
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    (folder / name).write_bytes(content)
    after = build(folder)
    assert after.digest != before.digest
    changed = [component for component in COMPONENTS if after.components[component] != before.components[component]]
    assert len(changed) == 1


@pytest.mark.parametrize(
    ("component", "old", "new"),
    [
        ("model", "20250929", "20250930"),
        ("model", "0.2", "0.3"),
        ("config", '"info"', '"debug"'),
        ("config", '"5m"', '"6m"'),
        ("config", "weight = 10", "weight = 11"),
        ("config", "[rings.dev]\n", ""),
        ("config", '"--port", ', ""),
    ],
)
def test_a_change_in_the_manifest_changes_its_component(tmp_path: Path, component: str, old: str, new: str) -> None:
    before = build(write_agent(tmp_path / "before")).components
    after = build(write_agent(tmp_path / "after", manifest=MANIFEST.replace(old, new))).components
    assert [name for name in COMPONENTS if before[name] != after[name]] == [component]


def test_the_executable_bit_and_the_name_of_a_file_matter(tmp_path: Path) -> None:
    folder = write_agent(tmp_path / "agent")
    digests = [build(folder).digest]
    (folder / "server.py").chmod(0o644)
    digests.append(build(folder).digest)
    (folder / "lib" / "answer.py").rename(folder / "lib" / "reply.py")
    digests.append(build(folder).digest)
    assert len(set(digests)) == 3


def test_the_digest_is_that_of_the_document_and_the_image_manifest_carries_it(tmp_path: Path) -> None:
    store = MemoryArtifactStore()
    built = build(write_agent(tmp_path / "agent"), store)
    document = json.loads(store.read_all(built.digest))
    assert sha256_digest(canonical_json(document)) == built.digest
    assert document["agent"] == "support"
    image = json.loads(built.manifest)
    assert image["artifactType"] == "application/vnd.turnout.release.v1"
    assert image["config"]["digest"] == built.digest
    *components, bundle = image["layers"]
    assert [layer["annotations"]["org.opencontainers.image.title"] for layer in components] == list(COMPONENTS)
    assert bundle["mediaType"] == "application/vnd.turnout.bundle.v1"
    for layer, name in zip(components, COMPONENTS, strict=True):
        assert layer["digest"] == document["components"][name]["digest"]
        assert layer["size"] == store.size(layer["digest"])
    assert store.releases() == {built.digest: ()}
    assert list(store.damages()) == []


def test_a_component_that_is_not_declared_is_absent(tmp_path: Path) -> None:
    folder = write_agent(tmp_path / "agent")
    (folder / "turnout.toml").write_text('schema = 1\nagent = "ab"\n[code]\nstart = ["./run"]\n')
    built = build(folder)
    assert list(built.components) == ["code", "config"]
    assert built.spec.paths == {}


def test_progress_names_each_component_before_it_is_stored(tmp_path: Path) -> None:
    folder = write_agent(tmp_path / "agent")
    seen: list[str] = []
    build_release(folder, load_manifest(folder), MemoryArtifactStore(), on_progress=seen.append)
    assert tuple(seen) == COMPONENTS


def test_the_spec_tells_where_the_parts_are(tmp_path: Path) -> None:
    spec = build(write_agent(tmp_path / "agent")).spec
    assert spec.paths == {"prompts": "prompts", "tools": "tools.json", "data": "index"}
    assert spec.lock == "requirements.txt"


def test_a_tool_manifest_that_broke_after_the_check_is_refused(tmp_path: Path) -> None:
    folder = write_agent(tmp_path / "agent")
    manifest = load_manifest(folder)
    (folder / "tools.json").write_text("{")
    with pytest.raises(BuildFailed, match=r"tools\.json cannot be used"):
        build_release(folder, manifest, MemoryArtifactStore())


def test_a_full_disk_is_told_as_such_and_nothing_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryArtifactStore()
    folder = write_agent(tmp_path / "agent")

    def full(*args: object, **kwargs: object) -> None:
        raise StorageFull("the disk is full")

    monkeypatch.setattr(store, "write", full)
    with pytest.raises(StorageFull):
        build(folder, store)
    assert store.releases() == {}


def test_a_large_folder_in_any_order_has_one_digest(tmp_path: Path) -> None:
    digests = set()
    names = [f"index/{number:03}.txt" for number in range(120)]
    for seed in (1, 2):
        folder = write_agent(tmp_path / str(seed))
        random.Random(seed).shuffle(names)
        for name in names:
            (folder / name).write_text(name)
        digests.add(build(folder).digest)
    assert len(digests) == 1
