"""What every `ArtifactStore` keeps to, run on the one on disk, the one in memory and the one in a registry."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.contract.registry_server import RegistryServer, registry_server
from tests.unit.artifacts.agents import COMPONENTS, build, write_agent
from tests.unit.artifacts.chunks.stored import noise, write_files
from turnout.artifacts.build import BuiltRelease
from turnout.artifacts.chunks import bundle as bundle_module
from turnout.artifacts.digest import canonical_json, sha256_digest
from turnout.artifacts.document import read_image
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.artifacts.layout import OciLayoutStore
from turnout.artifacts.registry import OciRegistryStore
from turnout.artifacts.release import open_data, unpack_release
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound
from turnout.domain.models import Digest, short_digest
from turnout.ports import ArtifactStore

BIG = bytes(range(256)) * (20 << 10)  # 5 MiB: several chunks
PARTS = ("manifest", "document", *COMPONENTS)


@dataclass(frozen=True)
class Harness:
    """A store, and a way past it to its bytes. `overwrite(digest, None)` removes the blob.

    A registry keeps the bytes that it has under a digest, and has no list of its blobs.
    """

    store: ArtifactStore
    overwrite: Callable[[Digest, bytes | None], None]
    repairs: bool = True
    lists_blobs: bool = True

    def content(self, digest: Digest) -> bytes:
        return self.store.read_all(digest, limit=64 << 20)


def layout_harness(folder: Path) -> Harness:
    def overwrite(digest: Digest, content: bytes | None) -> None:
        path = folder / "blobs" / "sha256" / digest.removeprefix("sha256:")
        path.unlink()
        if content is not None:
            path.write_bytes(content)

    return Harness(OciLayoutStore(folder), overwrite)


def memory_harness() -> Harness:
    store = MemoryArtifactStore()

    def overwrite(digest: Digest, content: bytes | None) -> None:
        if content is None:
            del store.blobs[digest]
        else:
            store.blobs[digest] = content

    return Harness(store, overwrite)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with registry_server(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture(params=["layout", "memory", "registry"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    if request.param == "layout":
        yield layout_harness(tmp_path / "store")
    elif request.param == "memory":
        yield memory_harness()
    else:
        server: RegistryServer = request.getfixturevalue("registry")
        store = OciRegistryStore(server.location("contract"), spool=tmp_path / "spool")
        yield Harness(store, server.overwrite, repairs=False, lists_blobs=False)
        store.close()
        server.clear()


@pytest.fixture
def store(harness: Harness) -> ArtifactStore:
    return harness.store


@pytest.fixture
def built(store: ArtifactStore, tmp_path: Path) -> BuiltRelease:
    return build(write_agent(tmp_path / "agent"), store)


def blobs_of(built: BuiltRelease) -> dict[str, Digest]:
    named = {name: ref.digest for name, ref in built.components.items()}
    return {"manifest": sha256_digest(built.manifest), "document": built.digest, **named}


def collect(chunks: Iterator[bytes], into: bytearray) -> None:
    for chunk in chunks:
        into += chunk


@pytest.mark.parametrize("content", [b"", b"small", BIG])
def test_what_was_written_is_read(store: ArtifactStore, content: bytes) -> None:
    digest = store.write([content[:100], b"", content[100:]])
    assert digest == sha256_digest(content)
    assert store.has(digest)
    assert store.size(digest) == len(content)
    assert b"".join(store.read(digest)) == content
    assert store.read_all(digest, limit=len(content)) == content


def test_a_large_blob_is_read_in_chunks(store: ArtifactStore) -> None:
    assert len(list(store.read(store.write([BIG])))) > 1


def test_writing_again_changes_nothing(store: ArtifactStore) -> None:
    digest = store.write([b"content"])
    assert store.write([b"con", b"tent"], digest) == digest
    assert store.read_all(digest) == b"content"


def test_bytes_with_another_digest_than_expected_are_not_kept(store: ArtifactStore) -> None:
    expected = sha256_digest(b"right")
    with pytest.raises(DamagedContent, match=expected):
        store.write([b"wrong"], expected)
    assert not store.has(expected)
    assert not store.has(sha256_digest(b"wrong"))


def test_a_source_that_fails_leaves_nothing(store: ArtifactStore) -> None:
    def failing() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError("the client went away")

    with pytest.raises(ConnectionResetError):
        store.write(failing())
    assert not store.has(sha256_digest(b"half"))
    assert list(store.damages()) == []


def test_an_unknown_blob_is_not_found(store: ArtifactStore) -> None:
    unknown = sha256_digest(b"unknown")
    assert not store.has(unknown)
    for ask in (store.size, store.read, store.read_all):
        with pytest.raises(NotFound, match=unknown):
            ask(unknown)


@pytest.mark.parametrize("text", ["", "sha256:../../etc/passwd", "sha256:" + "A" * 64, "md5:x"])
def test_what_is_no_digest_is_refused_everywhere(store: ArtifactStore, text: str) -> None:
    for ask in (store.has, store.size, store.read, store.read_all):
        with pytest.raises(InvalidRequest, match="is no digest"):
            ask(Digest(text))
    with pytest.raises(InvalidRequest, match="is no digest"):
        store.write([b""], Digest(text))


def test_a_blob_larger_than_the_limit_is_not_read_into_memory(store: ArtifactStore) -> None:
    with pytest.raises(InvalidRequest, match="larger than 10 bytes"):
        store.read_all(store.write([b"x" * 11]), limit=10)


@pytest.mark.parametrize("position", [0, 1 << 20, -1])
def test_a_damaged_blob_is_never_given_out_whole(harness: Harness, position: int) -> None:
    digest = harness.store.write([BIG])
    damaged = bytearray(BIG)
    damaged[position] ^= 1
    harness.overwrite(digest, bytes(damaged))
    given = bytearray()
    with pytest.raises(DamagedContent, match=digest):
        collect(harness.store.read(digest), given)
    assert len(given) < len(BIG)
    with pytest.raises(DamagedContent):
        harness.store.read_all(digest)


@pytest.mark.parametrize("content", [b"", b"shor", b"short and then some"])
def test_a_blob_of_another_length_is_damaged(harness: Harness, content: bytes) -> None:
    digest = harness.store.write([b"short"])
    harness.overwrite(digest, content)
    with pytest.raises(DamagedContent):
        list(harness.store.read(digest))


def test_writing_a_damaged_blob_again_repairs_it_or_leaves_it_found(harness: Harness) -> None:
    digest = harness.store.write([b"content"])
    harness.overwrite(digest, b"cOntent")
    harness.store.write([b"content"])
    if harness.repairs:
        assert harness.content(digest) == b"content"
    else:
        with pytest.raises(DamagedContent) as caught:
            harness.content(digest)
        assert "restore this blob" in (caught.value.hint or "")


def test_a_release_is_recorded_with_its_tags(store: ArtifactStore, built: BuiltRelease) -> None:
    assert store.releases() == {built.digest: ()}
    store.put_release(built.manifest, built.digest, ["v1.0.0", "support/latest"])
    store.put_release(built.manifest, built.digest, ["v1.0.1"])
    store.put_release(built.manifest, built.digest)
    assert store.releases() == {built.digest: ("support/latest", "v1.0.0", "v1.0.1")}
    assert list(store.damages()) == []


def test_a_tag_names_one_release_and_can_move(store: ArtifactStore, built: BuiltRelease, tmp_path: Path) -> None:
    other = write_agent(tmp_path / "other")
    (other / "server.py").write_text("other")
    second = build(other, store)
    store.put_release(built.manifest, built.digest, ["stable", "v1"])
    store.put_release(second.manifest, second.digest, ["stable"])
    assert store.releases() == {built.digest: ("v1",), second.digest: ("stable",)}


@pytest.mark.parametrize("tag", ["", "-x", "a b", "a..b", "ä", "f" * 64, "x" * 256, "../x"])
def test_a_tag_that_a_layout_cannot_hold_is_refused(store: ArtifactStore, built: BuiltRelease, tag: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot be a tag"):
        store.put_release(built.manifest, built.digest, [tag])
    assert store.releases() == {built.digest: ()}


@pytest.mark.parametrize("part", ["document", *COMPONENTS])
def test_a_release_with_a_missing_blob_is_not_recorded(harness: Harness, tmp_path: Path, part: str) -> None:
    source = MemoryArtifactStore()
    built = build(write_agent(tmp_path / "agent"), source)
    missing = blobs_of(built)[part]
    for digest, content in source.blobs.items():
        if digest != missing:
            harness.store.write([content], digest)
    with pytest.raises(NotFound, match=part) as caught:
        harness.store.put_release(built.manifest, built.digest, ["v1"])
    assert missing in caught.value.message
    assert harness.store.releases() == {}


def test_a_manifest_of_something_else_is_not_recorded(
    store: ArtifactStore, built: BuiltRelease, tmp_path: Path
) -> None:
    other = write_agent(tmp_path / "other")
    (other / "server.py").write_text("other")
    second = build(other, store)
    layers = json.loads(built.manifest)
    del layers["layers"][0]
    for manifest in (second.manifest, b"{}", b"\xff", json.dumps(layers).encode()):
        with pytest.raises(DamagedContent):
            store.put_release(manifest, built.digest, ["v1"])
    assert store.releases()[built.digest] == ()


def test_a_blob_that_is_no_release_is_not_recorded(store: ArtifactStore, built: BuiltRelease) -> None:
    for digest in (built.components["model"].digest, built.components["data"].digest):
        with pytest.raises(InvalidRequest, match="is no release document"):
            store.put_release(built.manifest, digest)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("position", [0, 0.5, 1])
def test_one_flipped_byte_in_any_blob_is_found_and_named(
    harness: Harness, built: BuiltRelease, part: str, position: float
) -> None:
    harness.store.put_release(built.manifest, built.digest, ["v1"])
    digest = blobs_of(built)[part]
    content = bytearray(harness.content(digest))
    content[int((len(content) - 1) * position)] ^= 0x10
    harness.overwrite(digest, bytes(content))

    (damage,) = harness.store.damages()
    assert damage[0] == digest
    assert f"{part} of release {short_digest(built.digest)} (v1)" in damage[1]
    assert "damaged" in damage[1]
    with pytest.raises(DamagedContent):
        list(harness.store.read(digest))


@pytest.mark.parametrize("part", PARTS)
def test_a_lost_blob_is_found_and_named(harness: Harness, built: BuiltRelease, part: str) -> None:
    digest = blobs_of(built)[part]
    harness.overwrite(digest, None)
    (damage,) = harness.store.damages()
    assert damage[0] == digest
    assert f"{part} of release {short_digest(built.digest)}" in damage[1]
    assert "is not stored" in damage[1]


def test_a_blob_that_two_releases_share_is_named_for_both(
    harness: Harness, built: BuiltRelease, tmp_path: Path
) -> None:
    other = write_agent(tmp_path / "other")
    (other / "server.py").write_text("other")
    second = build(other, harness.store)
    shared = built.components["data"].digest
    assert second.components["data"].digest == shared
    harness.overwrite(shared, b"?")
    (damage,) = harness.store.damages()
    for release in (built, second):
        assert f"component data of release {short_digest(release.digest)}" in damage[1]


def test_a_damaged_blob_of_no_release_is_found_too_where_blobs_are_listed(
    harness: Harness, built: BuiltRelease
) -> None:
    orphan = harness.store.write([b"nobody's"])
    harness.overwrite(orphan, b"nobody")
    assert [digest for digest, _ in harness.store.damages()] == ([orphan] if harness.lists_blobs else [])
    with pytest.raises(DamagedContent):
        harness.content(orphan)


def test_many_writers_at_once_lose_nothing(store: ArtifactStore, built: BuiltRelease) -> None:
    def work(number: int) -> Digest:
        digest = store.write([b"shared" * 1_000] if number % 2 else [str(number).encode()])
        store.put_release(built.manifest, built.digest, [f"v{number}"])
        return digest

    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(work, range(40)))
    assert len(digests) == 21
    assert all(store.has(digest) for digest in digests)
    assert store.releases() == {built.digest: tuple(sorted(f"v{number}" for number in range(40)))}
    assert list(store.damages()) == []


# --- ranges and manifests ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 0), (0, 1), (0, len(BIG)), (1_000_000, 3 << 20), (len(BIG) - 1, 1), (len(BIG), 0)]
)
def test_a_range_is_read(store: ArtifactStore, offset: int, length: int) -> None:
    digest = store.write([BIG])
    assert store.read_range(digest, offset, length) == BIG[offset : offset + length]


@pytest.mark.parametrize(("offset", "length"), [(0, 6), (4, 2), (5, 1), (1 << 40, 1)])
def test_a_range_beyond_the_end_is_a_damage_that_names_the_blob(store: ArtifactStore, offset: int, length: int) -> None:
    digest = store.write([b"short"])
    with pytest.raises(DamagedContent, match=digest):
        store.read_range(digest, offset, length)


def test_a_range_of_an_unknown_blob_is_not_found_and_of_no_digest_refused(store: ArtifactStore) -> None:
    with pytest.raises(NotFound):
        store.read_range(sha256_digest(b"unknown"), 0, 1)
    with pytest.raises(InvalidRequest, match="is no digest"):
        store.read_range(Digest("sha256:../../etc/passwd"), 0, 1)


def test_the_manifest_of_a_release_is_given_back(store: ArtifactStore, built: BuiltRelease) -> None:
    assert store.release_manifest(built.digest) == built.manifest
    store.put_release(built.manifest, built.digest, ["v1"])
    assert store.release_manifest(built.digest) == built.manifest


def test_the_manifest_of_what_is_not_recorded_is_not_found(store: ArtifactStore, built: BuiltRelease) -> None:
    for digest in (sha256_digest(b"unknown"), built.components["code"].digest, sha256_digest(built.manifest)):
        with pytest.raises(NotFound):
            store.release_manifest(digest)


def test_a_damaged_manifest_is_not_given_out(harness: Harness, built: BuiltRelease) -> None:
    digest = sha256_digest(built.manifest)
    harness.overwrite(digest, built.manifest.replace(b"schemaVersion", b"schemaversion"))
    with pytest.raises(DamagedContent, match=digest):
        harness.store.release_manifest(built.digest)


# --- data in chunks ----------------------------------------------------------------------------------------------------

DATA = {"index/big": noise(1 << 20, 1), "index/text": b"again and again " * 20_000, "index/part-1.bin": b""}
CHANGED = DATA["index/big"][:500_000] + b"changed" + DATA["index/big"][500_000:]


@pytest.fixture
def small_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "FULL", 400_000)


def build_data(folder: Path, store: ArtifactStore, files: dict[str, bytes]) -> BuiltRelease:
    agent = write_agent(folder)
    write_files(agent, files)
    return build(agent, store)


def bundles_of(manifest: bytes) -> list[Digest]:
    return [bundle.digest for bundle in read_image(manifest).bundles]


@pytest.mark.usefixtures("small_bundles")
def test_data_is_unpacked_and_read_from_several_bundles(store: ArtifactStore, tmp_path: Path) -> None:
    built = build_data(tmp_path / "agent", store, DATA)
    assert len(bundles_of(built.manifest)) >= 3
    assert list(store.damages()) == []
    unpack_release(store, built.digest, tmp_path / "node" / "release")
    reader = open_data(store, built.digest, built.components["data"])
    for path, content in DATA.items():
        assert (tmp_path / "node" / "release" / path).read_bytes() == content
        assert b"".join(reader.read_file(path)) == content
    assert reader.read_range("index/big", 300_000, 300_000) == DATA["index/big"][300_000:600_000]


@pytest.mark.usefixtures("small_bundles")
def test_a_change_adds_one_small_bundle_to_those_that_are_there(store: ArtifactStore, tmp_path: Path) -> None:
    first = build_data(tmp_path / "first", store, DATA)
    second = build_data(tmp_path / "second", store, {**DATA, "index/big": CHANGED})
    (added,) = set(bundles_of(second.manifest)) - set(bundles_of(first.manifest))
    assert store.size(added) < 300_000
    for built, content in ((first, DATA["index/big"]), (second, CHANGED)):
        unpack_release(store, built.digest, tmp_path / "node" / built.digest)
        assert (tmp_path / "node" / built.digest / "index/big").read_bytes() == content


@pytest.mark.usefixtures("small_bundles")
@pytest.mark.parametrize("position", [0, 0.5, 1])
def test_one_flipped_byte_in_any_bundle_is_found_named_and_never_unpacked(
    harness: Harness, tmp_path: Path, position: float
) -> None:
    built = build_data(tmp_path / "agent", harness.store, DATA)
    for number, bundle in enumerate(bundles_of(built.manifest)):
        content = harness.content(bundle)
        place = int((len(content) - 1) * position)
        harness.overwrite(bundle, content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        ((digest, sentence),) = harness.store.damages()
        assert digest == bundle
        assert f"a bundle of the data of release {short_digest(built.digest)}" in sentence
        with pytest.raises(DamagedContent, match=bundle):
            unpack_release(harness.store, built.digest, tmp_path / "node" / str(number))
        assert list((tmp_path / "node").iterdir()) == []
        harness.overwrite(bundle, content)


@pytest.mark.usefixtures("small_bundles")
def test_a_lost_bundle_is_found_and_named_and_the_release_not_recorded_again(harness: Harness, tmp_path: Path) -> None:
    built = build_data(tmp_path / "agent", harness.store, DATA)
    lost = bundles_of(built.manifest)[0]
    harness.overwrite(lost, None)
    ((digest, sentence),) = harness.store.damages()
    assert digest == lost
    assert "is not stored" in sentence
    with pytest.raises(NotFound, match=lost):
        unpack_release(harness.store, built.digest, tmp_path / "node" / "release")
    with pytest.raises(NotFound, match=lost):
        harness.store.put_release(built.manifest, built.digest, ["v1"])
    assert harness.store.releases() == {built.digest: ()}


@pytest.mark.usefixtures("small_bundles")
def test_a_manifest_without_a_bundle_that_is_needed_is_not_recorded(store: ArtifactStore, tmp_path: Path) -> None:
    source = MemoryArtifactStore()
    built = build_data(tmp_path / "agent", source, DATA)
    for digest, content in source.blobs.items():
        store.write([content], digest)
    manifest = json.loads(built.manifest)
    del manifest["layers"][-1]
    with pytest.raises(NotFound, match="chunks of component data"):
        store.put_release(json.dumps(manifest).encode(), built.digest)
    assert store.releases() == {}
    store.put_release(built.manifest, built.digest)
    assert store.release_manifest(built.digest) == built.manifest


@pytest.mark.usefixtures("small_bundles")
def test_pushes_of_the_same_data_at_once_lose_nothing(harness: Harness, tmp_path: Path) -> None:
    def push(number: int) -> BuiltRelease:
        files = DATA if number % 2 else {**DATA, "index/big": CHANGED}
        return build_data(tmp_path / f"agent-{number}", harness.store, files)

    with ThreadPoolExecutor(6) as pool:
        built = list(pool.map(push, range(6)))
    assert {release.digest for release in built} == set(harness.store.releases())
    assert len(harness.store.releases()) == 2
    assert list(harness.store.damages()) == []
    for number, content in ((0, CHANGED), (1, DATA["index/big"])):
        unpack_release(harness.store, built[number].digest, tmp_path / "node" / str(number))
        assert (tmp_path / "node" / str(number) / "index/big").read_bytes() == content


# --- what refers to a release ----------------------------------------------------------------------------------------


def attached(store: ArtifactStore, built: BuiltRelease, text: bytes) -> Digest:
    blob = store.write([text])
    config = store.write([b"{}"])
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.example",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
            "layers": [{"mediaType": "text/plain", "digest": blob, "size": len(text)}],
            "subject": {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": sha256_digest(built.manifest),
                "size": len(built.manifest),
            },
        }
    )
    return store.put_referrer(sha256_digest(built.manifest), manifest)


def test_what_refers_to_a_release_is_found_by_type_and_inspected_too(store: ArtifactStore, built: BuiltRelease) -> None:
    subject = sha256_digest(built.manifest)
    assert store.referrers(subject) == ()
    digests = {attached(store, built, b"one"), attached(store, built, b"two"), attached(store, built, b"one")}
    assert {referrer.digest for referrer in store.referrers(subject)} == digests
    assert len(digests) == 2, "the same again changes nothing"
    assert store.referrers(subject, "application/vnd.other") == ()
    assert {item.digest for item in store.referrers(subject, "application/vnd.example")} == digests
    assert store.releases() == {built.digest: ()}, "a referrer is no release"
    assert list(store.damages()) == []


def test_a_manifest_of_another_subject_or_with_a_missing_blob_is_not_taken(
    store: ArtifactStore, built: BuiltRelease
) -> None:
    digest = attached(store, built, b"one")
    manifest = store.read_all(digest)
    with pytest.raises(InvalidRequest):
        store.put_referrer(built.digest, manifest)
    lacking = manifest.replace(sha256_digest(b"one").encode(), sha256_digest(b"never stored").encode())
    with pytest.raises(NotFound):
        store.put_referrer(sha256_digest(built.manifest), lacking)


@pytest.mark.parametrize("text", [b"one", b"{}"])
def test_a_damaged_blob_of_a_referrer_is_named(harness: Harness, built: BuiltRelease, text: bytes) -> None:
    attached(harness.store, built, b"one")
    harness.overwrite(sha256_digest(text), b"other")
    assert sha256_digest(text) in dict(harness.store.damages())
