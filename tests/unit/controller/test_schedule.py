"""Which ring is due when: never one ring to two workers, and nothing that was woken is forgotten."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from turnout.controller.loop import Schedule

A, B = ("support", "dev"), ("support", "production")
FAR = 3_600.0


def take_within(schedule: Schedule, seconds: float) -> tuple[str, str] | None:
    """What a worker gets, if it gets something in time."""
    with ThreadPoolExecutor(1) as worker:
        future = worker.submit(schedule.take)
        try:
            return future.result(timeout=seconds)
        except TimeoutError:
            return None
        finally:
            schedule.close()


def test_a_woken_ring_is_due_now() -> None:
    schedule = Schedule()
    schedule.wake(A)
    assert schedule.take() == A


def test_a_worker_that_waits_gets_what_is_woken() -> None:
    schedule = Schedule()
    with ThreadPoolExecutor(1) as worker:
        future = worker.submit(schedule.take)
        schedule.wake(A)
        assert future.result(timeout=30.0) == A


def test_a_ring_that_is_taken_is_given_to_nobody_else() -> None:
    schedule = Schedule()
    schedule.wake(A)
    schedule.take()
    schedule.wake(A)
    assert take_within(schedule, 0.1) is None


def test_a_ring_that_was_woken_while_it_was_taken_comes_again_at_once() -> None:
    schedule = Schedule()
    schedule.wake(A)
    schedule.take()
    schedule.wake(A)
    schedule.put_back(A, FAR)
    assert schedule.take() == A


def test_a_ring_that_was_woken_once_comes_once() -> None:
    schedule = Schedule()
    schedule.wake(A)
    schedule.wake(A)
    schedule.take()
    schedule.put_back(A, FAR)
    assert take_within(schedule, 0.1) is None


def test_a_ring_that_was_put_back_comes_again_after_its_time() -> None:
    schedule = Schedule()
    schedule.wake(A)
    schedule.take()
    begun = time.monotonic()
    schedule.put_back(A, 0.1)
    assert schedule.take() == A
    assert time.monotonic() - begun >= 0.1


def test_a_woken_ring_overtakes_one_that_is_due_later() -> None:
    schedule = Schedule()
    schedule.wake(A)
    schedule.take()
    schedule.put_back(A, FAR)
    schedule.wake(B)
    assert schedule.take() == B
    schedule.wake(A)
    assert schedule.take() == A


def test_workers_end_when_it_is_closed() -> None:
    schedule = Schedule()
    with ThreadPoolExecutor(3) as workers:
        waiting = [workers.submit(schedule.take) for _ in range(3)]
        schedule.close()
        assert [item.result(timeout=30.0) for item in waiting] == [None] * 3


def test_many_workers_never_have_one_ring_twice_and_miss_no_wake() -> None:
    schedule = Schedule()
    lock, busy, seen, overlaps = threading.Lock(), Counter[tuple[str, str]](), Counter[tuple[str, str]](), []

    def work() -> None:
        while (ring := schedule.take()) is not None:
            with lock:
                busy[ring] += 1
                if busy[ring] > 1:
                    overlaps.append(ring)
                seen[ring] += 1
            with lock:
                busy[ring] -= 1
            schedule.put_back(ring, FAR)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for _ in range(300):
        schedule.wake(A)
        schedule.wake(B)
    before = seen[A]
    schedule.wake(A)
    deadline = time.monotonic() + 30.0
    while seen[A] <= before and time.monotonic() < deadline:
        time.sleep(0.001)
    schedule.close()
    for worker in workers:
        worker.join(timeout=30.0)
    assert overlaps == []
    assert seen[A] > before, "the last wake was forgotten"
    assert seen[B] >= 1
