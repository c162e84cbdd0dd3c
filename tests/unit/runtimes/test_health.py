"""What the answers of a replica mean, and when it is asked again."""

from __future__ import annotations

import threading
from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.runtimes.support import eventually
from turnout.domain.models import HealthCheck, ReplicaState
from turnout.runtimes.fake import FakeProber
from turnout.runtimes.health import Health, HealthWatch, next_health, next_pause

errors = st.lists(st.sampled_from([None, "answered 503"]))


def after(answers: list[str | None], unhealthy_after: int = 3) -> Health:
    return reduce(lambda health, error: next_health(health, error, unhealthy_after), answers, Health())


@given(errors, st.integers(1, 5))
def test_a_good_answer_makes_ready_whatever_came_before(answers: list[str | None], unhealthy_after: int) -> None:
    assert after([*answers, None], unhealthy_after) == Health(ReplicaState.READY)


@given(st.integers(1, 5))
def test_a_replica_is_unready_after_so_many_failures_in_a_row_and_not_before(unhealthy_after: int) -> None:
    assert after([None, *["ill"] * (unhealthy_after - 1)], unhealthy_after).state is ReplicaState.READY
    unready = after([None, *["ill"] * unhealthy_after], unhealthy_after)
    assert (unready.state, unready.message) == (ReplicaState.UNREADY, "ill")


@given(st.integers(1, 50))
def test_a_replica_that_never_answered_is_starting_with_the_last_error(failures: int) -> None:
    health = after([f"error {number}" for number in range(failures)])
    assert (health.state, health.message) == (ReplicaState.STARTING, f"error {failures - 1}")


def test_a_young_replica_is_asked_more_often_than_its_interval_but_never_less() -> None:
    assert next_pause(ReplicaState.STARTING, 0.0, 1.0) == 0.1
    assert next_pause(ReplicaState.STARTING, 5.0, 1.0) == 0.5
    assert next_pause(ReplicaState.STARTING, 60.0, 1.0) == 1.0
    assert next_pause(ReplicaState.STARTING, 0.0, 0.05) == 0.05
    assert next_pause(ReplicaState.READY, 0.0, 1.0) == 1.0


def test_one_replica_that_hangs_does_not_keep_the_others_from_being_asked() -> None:
    hang, answers = threading.Event(), {"a": 0, "b": 0}

    class Prober(FakeProber):
        def healthy(self, address: str, check: HealthCheck) -> str | None:
            if address == "a":
                hang.wait(10.0)
            return None

    def answered(name: str) -> ReplicaState:
        answers[name] += 1
        return ReplicaState.READY

    watch = HealthWatch(Prober())
    for name in ("a", "b"):
        watch.watch(name, name, HealthCheck(interval=0.01), lambda _, name=name: answered(name))  # type: ignore[misc]
    eventually(lambda: answers["b"] > 5)
    assert answers["a"] == 0
    hang.set()
    eventually(lambda: answers["a"] > 0)
    watch.close()


def test_what_was_forgotten_is_not_asked_again_and_a_fault_ends_nothing() -> None:
    asked: list[str] = []

    class Prober(FakeProber):
        def healthy(self, address: str, check: HealthCheck) -> str | None:
            asked.append(address)
            if address == "faulty":
                raise ValueError("a fault of the prober")
            return None

    watch = HealthWatch(Prober())
    for name in ("faulty", "other"):
        watch.watch(name, name, HealthCheck(interval=0.01), lambda _: ReplicaState.READY)
    eventually(lambda: asked.count("faulty") > 3)
    watch.forget("faulty")
    eventually(lambda: len(asked) > 10)
    seen, others = asked.count("faulty"), asked.count("other")
    eventually(lambda: asked.count("other") > others + 5)
    assert asked.count("faulty") <= seen + 1
    watch.close()
