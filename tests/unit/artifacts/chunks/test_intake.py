"""Which chunks have to be pushed, which bundles a release needs, and the repair of what was damaged."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.artifacts.agents import write_agent
from tests.unit.artifacts.chunks.stored import index_folder, noise, ref, store_bundles, write_files
from tests.unit.manifest.patience import PATIENT
from turnout.artifacts.build import ReleaseParts, build_parts
from turnout.artifacts.chunks.bundle import Stored, read_footer
from turnout.artifacts.chunks.catalog import Footers, choose_bundles, chunks_of, runs
from turnout.artifacts.chunks.index import DataIndex, FileChunks
from turnout.artifacts.digest import sha256_digest
from turnout.artifacts.document import read_image
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.artifacts.intake import Intake
from turnout.artifacts.layout import OciLayoutStore
from turnout.artifacts.release import unpack_release
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound
from turnout.domain.models import Digest
from turnout.manifest import load_manifest
from turnout.ports import ArtifactStore

DATA = {"index/a": noise(600_000, 1), "index/b": noise(700_000, 2)}
EDITED = noise(300_000, 1) + b"!" + DATA["index/a"][300_000:]


class Pusher:
    """Builds the sample agent and pushes it through one door, as a client of the server does."""

    def __init__(self, store: ArtifactStore, folder: Path) -> None:
        self.store, self.folder = store, folder
        self.intake = Intake(store)
        self.agent = write_agent(folder / "agent")
        self.known: list[Digest] = []

    def parts(self, files: dict[str, bytes]) -> ReleaseParts:
        for path in (self.agent / "index").iterdir():
            path.unlink()
        write_files(self.agent, files)
        return build_parts(self.agent, load_manifest(self.agent), self.store)

    def push(self, files: dict[str, bytes], *, verify: bool = False) -> tuple[Digest, list[Digest]]:
        """The release, and the bundles that were sent for it."""
        parts = self.parts(files)
        assert parts.data is not None
        missing = self.intake.missing_chunks(parts.components["data"].digest, self.known, verify=verify)
        chunks = chunks_of(parts.data.index, missing)
        sent = store_bundles(self.store, parts.data, self.folder / "spool", chunks) if chunks else []
        self.intake.record(parts.digest, sent, self.known)
        self.known = [parts.digest, *(known for known in self.known if known != parts.digest)]
        return parts.digest, sent

    def bundles(self, release: Digest) -> list[Digest]:
        return [bundle.digest for bundle in read_image(self.store.release_manifest(release)).bundles]

    def unpacked(self, release: Digest) -> dict[str, bytes]:
        target = self.folder / "node" / release[7:15]
        unpack_release(self.store, release, target)
        return {path.relative_to(target).as_posix(): path.read_bytes() for path in (target / "index").rglob("*")}


@pytest.fixture(params=["layout", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    return OciLayoutStore(tmp_path / "store") if request.param == "layout" else MemoryArtifactStore()


@pytest.fixture
def pusher(store: ArtifactStore, tmp_path: Path) -> Pusher:
    return Pusher(store, tmp_path)


def damage(store: ArtifactStore, tmp_path: Path, digest: Digest, position: int) -> None:
    content = bytearray(store.read_all(digest, 64 << 20))
    content[position] ^= 1
    if isinstance(store, MemoryArtifactStore):
        store.blobs[digest] = bytes(content)
        return
    path = tmp_path / "store" / "blobs" / "sha256" / digest.removeprefix("sha256:")
    path.unlink()
    path.write_bytes(content)


# --- pushing -----------------------------------------------------------------------------------------------------------


def test_the_first_push_sends_everything_and_the_second_nothing(pusher: Pusher) -> None:
    release, sent = pusher.push(DATA)
    assert pusher.bundles(release) == sent
    assert pusher.push(DATA) == (release, [])
    assert pusher.bundles(release) == sent
    assert pusher.unpacked(release) == DATA


def test_pushing_what_is_there_reads_nothing_of_its_data(pusher: Pusher, store: ArtifactStore, tmp_path: Path) -> None:
    """Or a large release that did not change would cost as much as one that did."""
    release, (bundle,) = pusher.push(DATA)
    index = read_image(store.release_manifest(release)).components["data"].digest
    damage(store, tmp_path, bundle, -1)
    damage(store, tmp_path, index, 0)
    again = Intake(store)
    assert again.missing_chunks(index, [release]) == []
    assert again.record(release, [], [release]) == store.release_manifest(release)
    with pytest.raises(DamagedContent, match=index):
        again.missing_chunks(index, [release], verify=True)
    with pytest.raises(DamagedContent, match=bundle):
        again.record(release, [], [])  # one that is not known here is looked through


@pytest.mark.parametrize("lost", ["bundle", "component"])
def test_what_was_lost_is_found_though_nothing_changed(
    pusher: Pusher, store: ArtifactStore, tmp_path: Path, lost: str
) -> None:
    release, (bundle,) = pusher.push(DATA)
    components = read_image(store.release_manifest(release)).components
    gone = bundle if lost == "bundle" else components["code"].digest
    if isinstance(store, MemoryArtifactStore):
        del store.blobs[gone]
    else:
        (tmp_path / "store" / "blobs" / "sha256" / gone.removeprefix("sha256:")).unlink()
    again = Intake(store)
    assert bool(again.missing_chunks(components["data"].digest, [release])) is (lost == "bundle")
    with pytest.raises((NotFound, InvalidRequest, DamagedContent)):
        again.record(release, [], [release])
    assert pusher.push(DATA)[0] == release
    assert list(store.damages()) == []


def test_a_small_change_sends_a_few_chunks(pusher: Pusher, store: ArtifactStore) -> None:
    first, (whole,) = pusher.push(DATA)
    second, (little,) = pusher.push({**DATA, "index/a": EDITED})
    assert store.size(little) < store.size(whole) / 3
    assert sorted(pusher.bundles(second)) == sorted([whole, little])
    assert pusher.unpacked(second) == {**DATA, "index/a": EDITED}
    assert pusher.unpacked(first) == DATA


def test_what_only_moves_to_another_file_sends_nothing(pusher: Pusher) -> None:
    pusher.push(DATA)
    renamed = {"index/x": DATA["index/b"], "index/y": DATA["index/a"], "index/z": DATA["index/a"]}
    release, sent = pusher.push(renamed)
    assert sent == []
    assert pusher.unpacked(release) == renamed


def test_bundles_that_a_release_does_not_need_are_not_named(pusher: Pusher) -> None:
    pusher.push({"index/a": DATA["index/a"]})
    release, sent = pusher.push({"index/b": DATA["index/b"]})
    assert pusher.bundles(release) == sent


def test_another_history_gives_the_same_release_in_other_bundles(tmp_path: Path) -> None:
    last = {**DATA, "index/a": EDITED}
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = Pusher(MemoryArtifactStore(), tmp_path / "one"), Pusher(MemoryArtifactStore(), tmp_path / "two")
    at_once, _ = one.push(last)
    two.push({"index/b": DATA["index/b"]})
    two.push(DATA)
    in_steps, _ = two.push(last)
    assert at_once == in_steps
    assert set(one.bundles(at_once)).isdisjoint(two.bundles(in_steps))
    assert one.unpacked(at_once) == two.unpacked(in_steps) == last


def test_only_the_likeliest_releases_are_searched_and_all_of_them_work(pusher: Pusher) -> None:
    generator = random.Random(5)
    content = bytearray(noise(300_000))
    for _ in range(30):
        content[generator.randrange(len(content))] ^= 1
        release, _ = pusher.push({"index/a": bytes(content)})
        assert pusher.unpacked(release) == {"index/a": bytes(content)}
    assert list(pusher.store.damages()) == []


# --- what cannot be recorded -------------------------------------------------------------------------------------------


def test_a_release_without_its_chunks_is_not_recorded(pusher: Pusher, store: ArtifactStore) -> None:
    parts = pusher.parts(DATA)
    assert parts.data is not None
    with pytest.raises(NotFound, match="chunks of component data"):
        pusher.intake.record(parts.digest, [], [])
    some = list(parts.data.index.places)[:-1]
    sent = store_bundles(store, parts.data, pusher.folder / "spool", some)
    with pytest.raises(NotFound, match="1 chunks of component data"):
        pusher.intake.record(parts.digest, sent, [])
    assert store.releases() == {}


def test_chunks_of_an_index_that_is_not_stored_cannot_be_asked_for(pusher: Pusher) -> None:
    with pytest.raises(NotFound):
        pusher.intake.missing_chunks(sha256_digest(b"index"), [])


def test_bundles_that_are_none_or_not_stored_do_no_harm(pusher: Pusher, store: ArtifactStore) -> None:
    parts = pusher.parts(DATA)
    assert parts.data is not None
    sent = store_bundles(store, parts.data, pusher.folder / "spool")
    foreign = [store.write([b"no bundle"]), sha256_digest(b"not stored")]
    pusher.intake.record(parts.digest, [*foreign, *sent], foreign)
    assert pusher.bundles(parts.digest) == sent


# --- repair ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 650_000, -60, -20, -10, -1])
def test_pushing_again_with_a_look_at_everything_repairs(
    pusher: Pusher, store: ArtifactStore, tmp_path: Path, position: int
) -> None:
    release, (bundle,) = pusher.push(DATA)
    damage(store, tmp_path, bundle, position)
    with pytest.raises(DamagedContent, match=bundle):
        unpack_release(store, release, tmp_path / "node" / "before")
    again, sent = pusher.push(DATA, verify=True)
    assert again == release
    assert sent
    assert list(store.damages()) == []
    assert pusher.unpacked(release) == DATA


@pytest.mark.parametrize("position", [0, -50, -20, -1])
def test_a_footer_that_was_read_when_it_was_damaged_does_not_stay(
    pusher: Pusher, store: ArtifactStore, tmp_path: Path, position: int
) -> None:
    """The server lives long: what it remembers of a bundle must not outlive the repair."""
    files = {"index/a": noise(3_000)}
    release, (bundle,) = pusher.push(files)
    damage(store, tmp_path, bundle, position)
    pusher.intake = Intake(store)
    pusher.intake.missing_chunks(pusher.parts(files).components["data"].digest, pusher.known)
    pusher.push(files, verify=True)
    assert list(store.damages()) == []
    assert pusher.unpacked(release) == files


def test_other_releases_of_a_damaged_bundle_are_mended_when_they_are_pushed_again(
    pusher: Pusher, store: ArtifactStore, tmp_path: Path
) -> None:
    _, (whole,) = pusher.push(DATA)
    changed = {**DATA, "index/a": EDITED}
    second, _ = pusher.push(changed)
    damage(store, tmp_path, whole, 700_000)
    pusher.push(changed, verify=True)
    assert whole not in pusher.bundles(second)
    assert pusher.unpacked(second) == changed


# --- pure --------------------------------------------------------------------------------------------------------------


@settings(PATIENT)
@given(st.lists(st.integers(0, 20), max_size=40), st.data())
def test_runs_name_any_chunks_in_order(numbers: list[int], data: st.DataObject) -> None:
    chunks = [ref(bytes([number])) for number in numbers]
    index = DataIndex((FileChunks("a", False, tuple(chunks)),))
    distinct = list(index.places)
    wanted = data.draw(st.lists(st.sampled_from(distinct), unique=True)) if distinct else []
    found = runs(index, wanted)
    assert chunks_of(index, found) == [chunk for chunk in distinct if chunk in wanted]
    assert all(before + count < after for (before, count), (after, _) in pairwise(found))


@settings(PATIENT)
@given(st.lists(st.lists(st.integers(0, 9), unique=True, max_size=6), max_size=5), st.sets(st.integers(0, 12)))
def test_each_chunk_is_chosen_once_from_the_first_bundle_that_holds_it(held: list[list[int]], wanted: set[int]) -> None:
    chunks = {number: ref(bytes([number])) for number in range(13)}
    index = DataIndex((FileChunks("a", False, tuple(chunks[number] for number in sorted(wanted))),))
    footers = {
        sha256_digest(bytes([99, number])): [Stored(chunks[chunk], place, 1) for place, chunk in enumerate(bundle)]
        for number, bundle in enumerate(held)
    }
    chosen, missing = choose_bundles(index, footers)
    first = {chunk: number for number, bundle in reversed(list(enumerate(held))) for chunk in bundle}
    assert {
        stored.chunk: sha256_digest(bytes([99, first[wanted_number]]))
        for bundle, found in chosen.items()
        for stored in found
        for wanted_number in wanted
        if chunks[wanted_number] == stored.chunk
    } == {stored.chunk: bundle for bundle, found in chosen.items() for stored in found}
    assert set(missing) == {chunks[number] for number in wanted if number not in first}
    assert sum(len(found) for found in chosen.values()) + len(missing) == len(index.places)
    assert all(found for found in chosen.values())


def test_footers_are_read_once_and_those_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    class Counting(MemoryArtifactStore):
        reads = 0

        def read_range(self, digest: Digest, offset: int, length: int) -> bytes:
            self.reads += 1
            return super().read_range(digest, offset, length)

    store = Counting()
    (bundle,) = store_bundles(store, index_folder(tmp_path, {"a": b"content"}), tmp_path / "spool")
    footers, foreign, missing = Footers(store), store.write([b"foreign"]), sha256_digest(b"missing")
    assert footers.readable([bundle, foreign, missing]) == {bundle: read_footer(store, bundle)}
    store.reads = 0
    assert list(footers.readable([bundle])) == [bundle]
    assert store.reads == 0
