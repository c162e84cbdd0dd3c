"""The index of the data: canonical, and nothing else is taken for one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.artifacts.chunks.stored import index_folder, noise, ref
from tests.unit.manifest.patience import PATIENT
from turnout.artifacts.chunks.index import ChunkRef, DataIndex, FileChunks, Place, parse_index, read_index, write_index
from turnout.artifacts.digest import canonical_json
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound, UnsafeArchive
from turnout.domain.models import Digest

ONE, TWO = ref(b"one"), ref(b"two, longer")
INDEX = DataIndex((FileChunks("a/b.bin", False, (ONE, TWO, ONE)), FileChunks("a/empty", True, ())))
Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> bytes:
    document = json.loads(write_index(INDEX))
    change(document)
    return canonical_json(document)


def file_at(path: str) -> Change:
    return lambda document: document["files"][0].update(path=path)


def test_an_index_is_read_as_it_was_written() -> None:
    content = write_index(INDEX)
    assert parse_index(content) == INDEX
    assert canonical_json(json.loads(content)) == content


def test_it_knows_sizes_files_and_all_places_of_a_chunk() -> None:
    assert INDEX.size == 2 * ONE.length + TWO.length
    assert INDEX.file("a/empty") == FileChunks("a/empty", True, ())
    assert INDEX.file("a") is None
    assert INDEX.places == {ONE: [Place(0, 0), Place(0, ONE.length + TWO.length)], TWO: [Place(0, ONE.length)]}


@settings(PATIENT, max_examples=60)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="\\/~\0:.", exclude_categories=["Cs"]), min_size=1, max_size=20),
        st.tuples(st.booleans(), st.lists(st.sampled_from([ONE, TWO, ref(noise(9))]), max_size=4)),
        max_size=6,
    )
)
def test_any_index_is_read_as_it_was_written(files: dict[str, tuple[bool, list[ChunkRef]]]) -> None:
    ordered = sorted(files.items(), key=lambda item: item[0].encode())
    index = DataIndex(tuple(FileChunks(path, flag, tuple(chunks)) for path, (flag, chunks) in ordered))
    assert parse_index(write_index(index)) == index
    assert canonical_json(json.loads(write_index(index))) == write_index(index)


@pytest.mark.parametrize(
    "path",
    ["../x", "a/../../x", "/etc/passwd", "~/x", "C:/x", "a\\b", "", ".", "a//b", "a/./b", "a/", "./a", "a\0b", ".."],
)
def test_a_path_that_leaves_the_folder_or_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(UnsafeArchive):
        parse_index(changed(file_at(path)))


@pytest.mark.parametrize("path", ["a/empty", "b"])
def test_a_path_that_is_there_twice_or_out_of_order_is_refused(path: str) -> None:
    with pytest.raises(InvalidRequest, match="there twice, or not in its place"):
        parse_index(changed(file_at(path)))


def test_the_order_is_that_of_bytes_not_of_letters() -> None:
    paths = ["Z", "a", "é", "\uffff", "\U0001f600"]  # UTF-16 would put the last one before the one ahead of it
    index = DataIndex(tuple(FileChunks(path, False, ()) for path in paths))
    assert parse_index(write_index(index)) == index


@pytest.mark.parametrize("length", ["0", "-1", "262145", str(2**53), str(2**80), "1.5", '"1"', "null", "true"])
def test_a_length_that_no_chunk_has_is_refused(length: str) -> None:
    with pytest.raises(InvalidRequest, match="no index of data"):
        parse_index(write_index(INDEX).replace(b",3]", b"," + length.encode() + b"]"))


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(schemaVersion=2),
        lambda document: document.update(more=1),
        lambda document: document.pop("chunking"),
        lambda document: document.update(files={}),
        lambda document: document["files"][0].update(link="x"),
        lambda document: document["files"][0].update(executable=0),
        lambda document: document["files"][0].update(chunks=[["0" * 63, 1]]),
        lambda document: document["files"][0].update(chunks=[["A" * 64, 1]]),
        lambda document: document["files"][0].update(chunks=[["0" * 64 + "\n", 1]]),
        lambda document: document["files"][0].update(chunks=[["0" * 64]]),
    ],
)
def test_another_shape_is_refused(change: Change) -> None:
    with pytest.raises(InvalidRequest, match="no index of data"):
        parse_index(changed(change))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"[" * 100_000,
        write_index(INDEX)[:-1],
        write_index(INDEX) + b"\n",
        b" " + write_index(INDEX),
        write_index(INDEX).replace(b"a/b", b"\\u0061/b"),
        write_index(INDEX).replace(b'"path":"a/b.bin"', b'"path":"x","path":"a/b.bin"'),
        write_index(INDEX).replace(b",3]", b",3.0]"),
        b'{"chunking":"x","files":[{"chunks":[],"executable":false,"path":"\\ud800"}],"schemaVersion":1}',
        json.dumps(json.loads(write_index(INDEX)), indent=1).encode(),
    ],
)
def test_what_is_not_canonical_json_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidRequest, match="no index of data"):
        parse_index(content)


def test_every_flipped_byte_of_a_stored_index_is_found_and_named() -> None:
    store = MemoryArtifactStore()
    digest = store.write([write_index(INDEX)])
    content = store.blobs[digest]
    for position in range(len(content)):
        store.blobs[digest] = content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
        with pytest.raises(DamagedContent, match=digest):
            read_index(store, digest)


def test_an_index_that_is_not_stored_is_not_found() -> None:
    with pytest.raises(NotFound):
        read_index(MemoryArtifactStore(), Digest("sha256:" + "0" * 64))


def test_order_time_and_place_of_the_files_do_not_matter(tmp_path: Path) -> None:
    files = {f"index/{number}": noise(100_000, number) for number in range(4)}
    first = index_folder(tmp_path / "one", files).index
    second = index_folder(tmp_path / "two", dict(reversed(files.items()))).index
    assert write_index(first) == write_index(second)
