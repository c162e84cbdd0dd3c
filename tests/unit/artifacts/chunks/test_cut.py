"""Where data is cut: pinned for ever, because another cut is another digest of the same data."""

from __future__ import annotations

import hashlib
import io
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.artifacts.chunks.stored import index_folder, noise
from tests.unit.manifest.patience import PATIENT
from turnout.artifacts.chunks.cut import AVERAGE_CHUNK, MAX_CHUNK, MIN_CHUNK, SCHEME, cut
from turnout.artifacts.chunks.index import write_index

SEED, SIZE = 20, 2_000_000
INPUT = "efeb4a565d98b452f6bd1084968d64754ad999b85e434c632edb6904c516fc06"
LENGTHS = [
    51135, 111531, 53116, 40135, 53584, 69114, 45425, 58479, 44755, 110442, 34949, 46633, 52171, 103478, 85424,
    82359, 79485, 67795, 156134, 40568, 34996, 34837, 71902, 104391, 59978, 58877, 92825, 115816, 39666,
]  # fmt: skip
INDEX = "ef5043835b1e441ddb534ef88cbfe46c07acb56ab182f56241aa5e9189a52580"


class Dribble:
    """A source that gives out less than it is asked for."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)
        self._random = random.Random(3)

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._random.randint(1, 9_000)))


def pieces(content: bytes) -> list[bytes]:
    return list(cut(io.BytesIO(content)))


def test_the_cuts_are_those_that_they_always_were(tmp_path: Path) -> None:
    content = noise(SIZE, SEED)
    assert hashlib.sha256(content).hexdigest() == INPUT, "the generator gives other bytes: this is not about the cuts"
    assert SCHEME == "fastcdc-2020/32768/65536/262144/0"
    assert [len(piece) for piece in pieces(content)] == LENGTHS
    index = index_folder(tmp_path, {"data/vector.bin": content}).index
    assert hashlib.sha256(write_index(index)).hexdigest() == INDEX


def test_chunks_have_64_kb_on_average_and_keep_to_the_bounds() -> None:
    lengths = [len(piece) for piece in pieces(noise(24 << 20))]
    assert all(MIN_CHUNK <= length <= MAX_CHUNK for length in lengths[:-1])
    assert sum(lengths) / len(lengths) == pytest.approx(AVERAGE_CHUNK, rel=0.1)


@pytest.mark.parametrize("size", [0, 1, MIN_CHUNK - 1, MIN_CHUNK, MIN_CHUNK + 1, 3 * MAX_CHUNK + 1])
@pytest.mark.parametrize("random_bytes", [True, False])
def test_no_chunk_is_empty_and_together_they_are_the_source(size: int, random_bytes: bool) -> None:
    content = noise(size) if random_bytes else bytes(size)
    found = pieces(content)
    assert all(found)
    assert b"".join(found) == content


def test_a_source_that_gives_little_at_a_time_is_cut_alike() -> None:
    content = noise(1 << 20)
    assert list(cut(Dribble(content))) == pieces(content)


@settings(PATIENT, max_examples=30)
@given(
    at=st.integers(0, 4 << 20),
    removed=st.integers(0, 5_000),
    seed=st.integers(0, 1 << 30),
    added=st.integers(0, 5_000),
)
def test_a_local_change_changes_few_chunks(at: int, removed: int, added: int, seed: int) -> None:
    before = noise(4 << 20)
    after = before[:at] + noise(added, seed) + before[at + removed :]
    kept = set(pieces(before))
    other = sum(len(piece) for piece in pieces(after) if piece not in kept)
    assert other <= 20 * AVERAGE_CHUNK
