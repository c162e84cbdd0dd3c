"""The contract of stores: recordings, and the tasks that may become ones."""

from __future__ import annotations

from dataclasses import replace

from tests.contract.store_support import ONE, TWO
from tests.unit.domain.values import AGENT, RING
from turnout.domain.models import Digest, Task
from turnout.ports import RecordingQuery, Store, StoredRecording

DOCUMENT = Digest("sha256:" + "d" * 64)
FIRST = StoredRecording(AGENT, RING, "t1", ONE.digest, 10.0, 100.0, DOCUMENT, 1_234)


def add(store: Store, *recordings: StoredRecording) -> list[bool]:
    with store.transaction() as transaction:
        return [transaction.add_recording(recording) for recording in recordings]


def find(store: Store, **query: object) -> list[str]:
    with store.snapshot() as snapshot:
        return [item.task for item in snapshot.recordings(RecordingQuery(**query))]  # type: ignore[arg-type]


def test_a_recording_is_stored_once(store: Store) -> None:
    assert add(store, FIRST, replace(FIRST, size=9)) == [True, False]
    with store.snapshot() as snapshot:
        assert snapshot.recordings(RecordingQuery()) == (FIRST,)


def test_recordings_are_found_newest_first(store: Store) -> None:
    second = replace(FIRST, task="t2", at=20.0, release=TWO.digest, digest=Digest("sha256:" + "e" * 64))
    add(store, FIRST, second, replace(FIRST, agent="billing", task="t3", at=5.0), replace(FIRST, ring="dev", at=1.0))
    assert find(store) == ["t2", "t1", "t3", "t1"]
    assert find(store, agent=AGENT, ring=RING) == ["t2", "t1"]
    assert find(store, agent=AGENT, ring=RING, release=ONE.digest) == ["t1"]
    assert find(store, digest=second.digest) == ["t2"]
    assert find(store, task="t3") == ["t3"]
    assert find(store, limit=2) == ["t2", "t1"]
    assert find(store, limit=2, skip=1) == ["t1", "t3"]


def test_what_is_kept_no_longer_is_forgotten_and_nothing_else(store: Store) -> None:
    other = replace(FIRST, task="t2", kept_until=200.0)
    add(store, FIRST, replace(FIRST, task="t3"), other)
    unknown = Digest("sha256:" + "f" * 64)
    with store.transaction() as transaction:
        assert transaction.kept_digests([DOCUMENT, unknown]) == {DOCUMENT}
        assert transaction.prune_recordings(100.0, limit=1) == 1
        assert transaction.prune_recordings(100.0) == 1
        assert transaction.prune_recordings(100.0) == 0
        assert transaction.kept_digests([DOCUMENT]) == {DOCUMENT}
        transaction.remove_recordings([other, FIRST])
        assert transaction.kept_digests([DOCUMENT]) == set()
        assert transaction.kept_digests([]) == set()


def test_requests_are_given_in_the_order_in_which_they_began(store: Store) -> None:
    def request(name: str, at: float, ring: str = RING) -> Task:
        return Task(name, f"task-{name}", AGENT, ring, ONE.digest, at, 1.0, 200)

    given = [request("c", 3.0), request("b", 2.0), request("a", 2.0), request("d", 9.0), request("x", 2.5, "dev")]
    with store.transaction() as transaction:
        transaction.add_tasks(given, {}, "1:1")

    def begun(after: tuple[float, str], limit: int = 500) -> list[str]:
        with store.snapshot() as snapshot:
            return [item.request for item in snapshot.begun_tasks(AGENT, RING, after, 3.0, limit)]

    assert begun((0.0, "")) == ["a", "b", "c"]
    assert begun((0.0, ""), limit=1) == ["a"]
    assert begun((2.0, "a")) == ["b", "c"]
    assert begun((3.0, "c")) == []
