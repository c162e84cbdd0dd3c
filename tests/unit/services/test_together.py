"""Reports that are written together: each caller gets the answer to its own, and a failure hurts those alone whom it met."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from turnout.domain.errors import StorageFull
from turnout.domain.outcomes import Outcome, Source, Taken
from turnout.ports import Store
from turnout.services.together import MOST_AT_ONCE, WrittenTogether


@dataclass
class SlowStore:
    """A store whose transactions wait until they may go on; each batch that was written is remembered."""

    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    batches: list[list[str]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    at_once: int = 0

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        self.at_once += 1
        assert self.at_once == 1, "two write at once"
        yield self
        self.at_once -= 1

    def add_outcomes(self, outcomes: Sequence[Outcome]) -> tuple[Taken, ...]:
        self.entered.release()
        assert self.go.acquire(timeout=10)
        if self.failures:
            self.at_once -= 1
            raise self.failures.pop(0)
        self.batches.append([item.task for item in outcomes])
        return tuple(Taken(item.task, "counted") for item in outcomes)


def reports(*tasks: str) -> list[Outcome]:
    return [Outcome(task, Source.REPORT, 0.0, True) for task in tasks]


@dataclass
class Crowd:
    """Callers in threads of their own, the first of which is writing."""

    store: SlowStore
    written: WrittenTogether
    pool: ThreadPoolExecutor

    def send(self, *tasks: str) -> Any:
        """Somebody reports; what comes of it. Returns when it waits in line."""
        before = len(self.written._waiting)
        answer = self.pool.submit(self.written.add, reports(*tasks))
        while len(self.written._waiting) == before and not answer.done():
            if self.store.entered.acquire(timeout=0.001):
                break
        return answer


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    store = SlowStore()
    with ThreadPoolExecutor(16) as pool:
        yield Crowd(store, WrittenTogether(cast(Store, store)), pool)


def tasks_of(answer: Any) -> list[str]:
    return [taken.task for taken in answer.result(timeout=10)]


def test_those_who_come_meanwhile_are_written_in_one_transaction_and_get_their_own_answers(crowd: Crowd) -> None:
    first, second, third = crowd.send("a"), crowd.send("b", "c"), crowd.send("d")
    crowd.store.go.release(2)

    assert [tasks_of(answer) for answer in (first, second, third)] == [["a"], ["b", "c"], ["d"]]
    assert crowd.store.batches == [["a"], ["b", "c", "d"]]


def test_a_transaction_has_an_end_and_the_rest_is_written_by_the_next(crowd: Crowd) -> None:
    many = [f"t{number}" for number in range(MOST_AT_ONCE - 1)]
    first, second, third = crowd.send("a"), crowd.send(*many), crowd.send("b", "c")
    crowd.store.go.release(3)

    assert [tasks_of(answer) for answer in (first, second, third)] == [["a"], many, ["b", "c"]]
    assert [len(batch) for batch in crowd.store.batches] == [1, MOST_AT_ONCE - 1, 2]


def test_a_failure_is_told_to_all_whom_it_met_and_to_nobody_else(crowd: Crowd) -> None:
    first, second, third = crowd.send("a"), crowd.send("b"), crowd.send("c")
    crowd.store.go.release(1)
    assert tasks_of(first) == ["a"]
    crowd.store.failures.append(StorageFull("the disk is full"))
    crowd.store.go.release(1)
    for answer in (second, third):
        with pytest.raises(StorageFull):
            answer.result(timeout=10)
    later = crowd.send("d")
    crowd.store.go.release(1)

    assert tasks_of(later) == ["d"]
    assert crowd.store.batches == [["a"], ["d"]]


def test_what_one_caller_spoils_is_tried_again_each_alone(crowd: Crowd) -> None:
    spoiled = UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
    first, second, third = crowd.send("a"), crowd.send("b"), crowd.send("c", "d")
    crowd.store.go.release(1)
    assert tasks_of(first) == ["a"]
    crowd.store.failures += [spoiled, spoiled]  # of all together, then of the second alone
    crowd.store.go.release(3)

    with pytest.raises(UnicodeEncodeError):
        second.result(timeout=10)
    assert tasks_of(third) == ["c", "d"]
    later = crowd.send("e")
    crowd.store.go.release(1)
    assert tasks_of(later) == ["e"]


def test_many_callers_are_all_answered_and_never_two_write_at_once(crowd: Crowd) -> None:
    crowd.store.go.release(10_000)

    def go_on(name: int) -> None:
        for number in range(100):
            (taken,) = crowd.written.add(reports(f"{name}-{number}"))
            assert taken.task == f"{name}-{number}"

    for answer in [crowd.pool.submit(go_on, name) for name in range(12)]:
        answer.result(timeout=20)

    assert sorted(task for batch in crowd.store.batches for task in batch) == sorted(
        f"{name}-{number}" for name in range(12) for number in range(100)
    )
