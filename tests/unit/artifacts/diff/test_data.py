"""Data: files by path and share, documents by id, and no more bytes read than have to be."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.artifacts.agents import MANIFEST
from tests.unit.artifacts.diff.pairs import Workshop, paths
from turnout.artifacts.chunks.index import ChunkRef, FileChunks
from turnout.artifacts.diff import records
from turnout.artifacts.diff.records import Budget, NotCompared, diff_records
from turnout.domain.errors import DamagedContent


def lines(documents: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


def corpus(count: int, size: int = 200, seed: int = 1) -> list[dict[str, Any]]:
    random_ = random.Random(seed)
    return [{"id": f"doc-{number}", "text": random_.randbytes(size // 2).hex()} for number in range(count)]


# --- files -----------------------------------------------------------------------------------------------------------


def test_files_come_go_move_and_change(shop: Workshop) -> None:
    big = random.Random(3).randbytes(2 << 20)
    one = shop.release({"index/big.bin": big, "index/gone.bin": b"gone", "index/old.bin": b"moved"})
    two = shop.release({"index/big.bin": big + b"more", "index/come.bin": b"come", "index/new.bin": b"moved"})
    found = shop.diff(one, two)["data"]
    assert paths(found["changes"]) == [
        ("file", "index/big.bin", "changed"),
        ("file", "index/come.bin", "added"),
        ("file", "index/gone.bin", "removed"),
        ("file", "index/new.bin", "renamed"),
    ]
    changed = found["changes"][0]
    assert (changed["before"]["size"], changed["after"]["size"]) == (len(big), len(big) + 4)
    assert 0 < changed["bytes"]["share"] < 0.2
    assert changed["bytes"]["added"] == changed["bytes"]["removed"] + 4
    assert found["changes"][3]["before"]["path"] == "index/old.bin"
    counts = found["summary"]["bytes"]
    assert counts["after"] == counts["before"] + 4
    assert counts["added"] == changed["bytes"]["added"] + 4, "what only moved did not come"
    assert "% of the bytes" in found["summary"]["text"]


def test_data_that_is_new_as_a_whole_is_all_bytes(shop: Workshop) -> None:
    without = MANIFEST.replace('[data]\npath = "index"\n', "").replace('"notes/"', '"index/", "notes/"')
    found = shop.diff(shop.release(manifest=without), shop.release())["data"]
    assert found["a"] is None
    assert found["summary"]["bytes"]["share"] == 1.0
    assert {change["change"] for change in found["changes"]} == {"added"}


def test_without_files_of_documents_no_data_is_read(shop: Workshop) -> None:
    one, two = (shop.release({"index/a.bin": content}) for content in (b"a", b"b"))
    for blob in {*shop.store.blobs} - {ref.digest for release in (one, two) for ref in release.components.values()}:
        del shop.store.blobs[blob]
    assert paths(shop.changes(one, two, "data")) == [("file", "index/a.bin", "changed")]


# --- documents -------------------------------------------------------------------------------------------------------


def test_documents_are_told_by_id(shop: Workshop) -> None:
    documents = corpus(3_000)
    after = [*documents[:100], {"id": "new", "text": "x"}, *documents[101:]]
    after[2_000] = {**after[2_000], "text": "other", "more": 1}
    one, two = (shop.release({"index/docs.jsonl": lines(found)}) for found in (documents, after))
    found = shop.diff(one, two)["data"]
    assert paths(found["changes"]) == [
        ("file", "index/docs.jsonl", "changed"),
        ("document", "index/docs.jsonl#doc-100", "removed"),
        ("document", "index/docs.jsonl#doc-2000", "changed"),
        ("document", "index/docs.jsonl#new", "added"),
    ]
    assert found["changes"][2]["id"] == "doc-2000"
    assert found["changes"][2]["note"] == "other: more, text"
    assert found["summary"]["text"].startswith(
        "1 file changed, 1 document added, 1 document removed, 1 document changed"
    )


def test_documents_of_a_list_are_told_by_id(shop: Workshop) -> None:
    one, two = (
        shop.release({"index/docs.json": json.dumps(found).encode()})
        for found in ([{"id": 1}, {"id": "1"}], [{"id": 1, "a": 2}, {"id": "1"}, {"id": 3}])
    )
    assert paths(shop.changes(one, two, "data")) == [
        ("file", "index/docs.json", "changed"),
        ("document", "index/docs.json#1", "changed"),
        ("document", "index/docs.json#3", "added"),
    ]


def test_the_same_documents_in_another_order_or_writing_are_the_same(shop: Workshop) -> None:
    documents = corpus(20)
    one, two = (shop.release({"index/docs.jsonl": lines(found)}) for found in (documents, documents[::-1]))
    (found,) = shop.changes(one, two, "data")
    assert found["note"] == "the same documents, written in another way or order"
    three = shop.release({"index/docs.jsonl": lines(documents).replace(b": ", b":  ")})
    assert len(shop.changes(one, three, "data")) == 1


@pytest.mark.parametrize(
    ("name", "content", "note"),
    [
        ("a.jsonl", b'{"text": 1}\n', ""),
        ("a.jsonl", b"[1]\n", ""),
        ("a.jsonl", b'{"id": true}\n', ""),
        ("a.jsonl", b"no json\n", "a line is no JSON"),
        ("a.ndjson", b"\xff\xfe\n", "a line is no JSON"),
        ("a.jsonl", b'{"id": "\\ud800"}\n', "an id holds what cannot be printed"),
        ("a.jsonl", b'{"id": ' + b"[" * 100_000, "a line is no JSON"),
        ("a.json", b"{", ""),
        ("a.json", b"3", ""),
        ("a.json", b"[3]", ""),
        ("a.json", b"[" * 100_000, ""),
    ],
)
def test_what_has_no_ids_is_compared_as_a_file(shop: Workshop, name: str, content: bytes, note: str) -> None:
    one, two = (shop.release({f"index/{name}": found}) for found in (b"", content))
    (found,) = shop.changes(one, two, "data")
    assert found.get("note", "").endswith(note)
    assert ("note" in found) == bool(note)


def test_a_field_with_an_odd_name_can_be_sent(shop: Workshop) -> None:
    one, two = (shop.release({"index/a.jsonl": b'{"id": 1, "\\ud800": %d}\n' % number}) for number in (1, 2))
    json.dumps(shop.changes(one, two, "data"), ensure_ascii=False).encode()


def test_an_id_that_is_there_twice_is_told(shop: Workshop) -> None:
    one, two = (
        shop.release({"index/a.jsonl": lines([{"id": 1, "n": number} for number in found])}) for found in ([1, 2], [3])
    )
    assert "2 times before and 1 times after" in shop.changes(one, two, "data")[1]["note"]


@pytest.mark.parametrize(
    ("limit", "value", "note"),
    [
        ("MOST_READ", 1_000, "would have to be read"),
        ("MOST_RECORDS", 2, "documents differ"),
    ],
)
def test_above_a_bound_the_reason_is_told(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, note: str
) -> None:
    monkeypatch.setattr(records, limit, value)
    monkeypatch.setattr(Budget, "__init__", lambda self: setattr(self, "left", records.MOST_READ))
    one, two = (shop.release({"index/a.jsonl": lines(corpus(10, 400, seed))}) for seed in (1, 2))
    (found,) = shop.changes(one, two, "data")
    assert note in found["note"]


def test_a_large_list_is_not_read(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LONGEST_LIST", 10)
    one, two = (shop.release({"index/a.json": json.dumps(corpus(count)).encode()}) for count in (1, 2))
    assert "is not read" in shop.changes(one, two, "data")[0]["note"]


@pytest.mark.parametrize("missing", [True, False])
def test_a_damaged_bundle_is_named(shop: Workshop, missing: bool) -> None:
    one = shop.release({"index/docs.jsonl": lines(corpus(10))})
    known = {*shop.store.blobs}
    two = shop.release({"index/docs.jsonl": lines(corpus(11))})
    (bundle,) = {
        digest for digest, content in shop.store.blobs.items() if digest not in known and content.endswith(b"TURNBND1")
    }
    if missing:
        del shop.store.blobs[bundle]
    else:
        content = bytearray(shop.store.blobs[bundle])
        content[20] ^= 1
        shop.store.blobs[bundle] = bytes(content)
    with pytest.raises(DamagedContent, match=bundle) as raised:
        shop.diff(one, two)
    assert f"component data of release {two.version}" in raised.value.message


# --- which lines are read --------------------------------------------------------------------------------------------


class Chunks:
    """Files cut anywhere, and which of their chunks were read."""

    def __init__(self) -> None:
        self.contents: dict[ChunkRef, bytes] = {}
        self.read: list[ChunkRef] = []

    def file(self, pieces: Sequence[bytes]) -> FileChunks:
        refs = []
        for piece in pieces:
            ref = ChunkRef(hashlib.sha256(piece).digest(), len(piece))
            self.contents[ref] = piece
            refs.append(ref)
        return FileChunks("docs.jsonl", False, tuple(refs))

    def get(self, chunk: ChunkRef) -> bytes:
        self.read.append(chunk)
        return self.contents[chunk]


def told(before: Sequence[bytes], after: Sequence[bytes]) -> dict[Any, str]:
    chunks = Chunks()
    found = diff_records(chunks.file(before), chunks.file(after), chunks.get, chunks.get, Budget())
    return {change["id"]: change["change"] for change in found}


def expected(before: bytes, after: bytes) -> dict[Any, str]:
    """By reading everything."""
    old, new = (
        {json.loads(line)["id"]: line for line in side.split(b"\n") if line.strip()} for side in (before, after)
    )
    return {
        identity: "added" if identity not in old else "removed" if identity not in new else "changed"
        for identity in {*old, *new}
        if old.get(identity) != new.get(identity)
    }


@st.composite
def cut_corpora(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    """Two corpora of few documents, made of the same lines and cut at the same marks, so that many chunks are shared."""
    ids = st.lists(st.integers(0, 9), unique=True, max_size=8)
    texts = st.sampled_from(["", "x", "x" * 30])
    sides = []
    marks = draw(st.lists(st.sampled_from([b'"t"', b"\n", b"}", b"xx", b'"id"', b'{"']), unique=True, max_size=3))
    for _ in range(2):
        documents = [{"id": identity, "t": draw(texts)} for identity in draw(ids)]
        content = lines(documents)
        content = content if draw(st.booleans()) else content.rstrip(b"\n")
        sides.append(list(pieces(content, marks)))
    return sides[0], sides[1]


def pieces(content: bytes, marks: Sequence[bytes]) -> Iterator[bytes]:
    """Cut behind every mark."""
    start = 0
    for place in range(1, len(content)):
        if any(content[:place].endswith(mark) for mark in marks):
            yield content[start:place]
            start = place
    if content[start:]:
        yield content[start:]


@given(cut_corpora())
@example(([b'{"id": 1}\n{"i', b'd": 2}\n'], [b'{"id": 1}\n{"i', b'd": 3}\n{"i', b'd": 2}\n']))
def test_reading_only_what_differs_finds_the_same_as_reading_all(corpora: tuple[list[bytes], list[bytes]]) -> None:
    before, after = corpora
    assert told(before, after) == expected(b"".join(before), b"".join(after))


def test_chunks_that_are_the_same_are_not_read_but_for_those_beside() -> None:
    contents = [lines([{"id": number, "text": "x" * 50}]) for number in range(1_000)]
    chunks = Chunks()
    after = [*contents]
    after[500] = lines([{"id": 500, "text": "y"}])
    found = diff_records(chunks.file(contents), chunks.file(after), chunks.get, chunks.get, Budget())
    assert [change["id"] for change in found] == [500]
    assert len(chunks.read) <= 4


def test_a_line_over_many_equal_chunks_is_read_as_a_whole() -> None:
    head, middle, tail = b'{"id": 1, "text": "', [b"%04d" % number for number in range(100)], b'"}\n'
    assert told([head, *middle, tail], [head, *middle, b'", "more": 1}\n']) == {1: "changed"}
    assert told([head, *middle, tail], [b'{"id": 2, "text": "', *middle, tail]) == {1: "removed", 2: "added"}


def test_an_endless_line_is_given_up() -> None:
    chunks = Chunks()
    middle = [b"%07d" % number * 10_000 for number in range(100)]
    with pytest.raises(NotCompared, match="a line is longer"):
        diff_records(chunks.file([b"a", *middle]), chunks.file([b"b", *middle]), chunks.get, chunks.get, Budget())
    with pytest.raises(NotCompared, match="a line is longer"):
        diff_records(chunks.file([*middle, b"a"]), chunks.file([*middle, b"b"]), chunks.get, chunks.get, Budget())
