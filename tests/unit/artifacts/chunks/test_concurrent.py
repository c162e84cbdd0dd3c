"""Several pushes of the same data at once, from threads and from processes, into one layout."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

from tests.unit.artifacts.agents import build, write_agent
from tests.unit.artifacts.chunks.stored import noise, write_files
from turnout.artifacts.layout import OciLayoutStore
from turnout.artifacts.release import unpack_release
from turnout.domain.models import Digest

SHARED = noise(600_000, 1)


def push(folder: Path, number: int) -> Digest:
    """Build an agent whose data is partly its own into the shared store. Returns the digest of its release."""
    agent = write_agent(folder / f"agent-{number}")
    own = noise(100_000, 10 + number % 3)
    write_files(agent, {"index/shared": SHARED, "index/own": own})
    return build(agent, OciLayoutStore(folder / "store")).digest


def check(folder: Path, digests: list[Digest]) -> None:
    store = OciLayoutStore(folder / "store")
    assert set(store.releases()) == set(digests)
    assert list(store.damages()) == []
    for number, digest in enumerate(digests[:3]):
        unpack_release(store, digest, folder / "node" / str(number))
        assert (folder / "node" / str(number) / "index/shared").read_bytes() == SHARED
        assert (folder / "node" / str(number) / "index/own").read_bytes() == noise(100_000, 10 + number)


def test_threads_that_push_the_same_data_lose_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        digests = list(pool.map(lambda number: push(tmp_path, number), range(9)))
    assert digests[:3] == digests[3:6] == digests[6:]
    check(tmp_path, digests)


def test_processes_that_push_the_same_data_lose_nothing(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        digests = list(pool.map(push, [tmp_path] * 6, range(6)))
    assert digests[:3] == digests[3:]
    check(tmp_path, digests)
