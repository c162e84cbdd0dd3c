"""What a replica is started with, and when one that ended is started again."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.domain.values import make_release, make_replica
from turnout.domain.models import ReplicaState, RingSettings
from turnout.domain.replicas import (
    CRASH_LOOP_ATTEMPTS,
    LONGEST_BACKOFF,
    STEADY_SECONDS,
    build_replica_spec,
    in_crash_loop,
    next_attempt,
)

RELEASE = make_release("v1", env={"LOG": "info", "ONLY": "release"})
EXITED = ReplicaState.EXITED


def test_the_ring_overrides_the_environment_of_the_release() -> None:
    spec = build_replica_spec(RELEASE, RingSettings("production", env={"LOG": "warn"}), 1, 2)
    assert (spec.env["LOG"], spec.env["ONLY"]) == ("warn", "release")
    assert (spec.index, spec.attempt, spec.ring) == (1, 2, "production")


def test_a_replica_knows_who_it_is_and_nothing_of_the_release_overrides_that() -> None:
    liar = make_release("v1", env={"TURNOUT_RING": "dev"})
    env = build_replica_spec(liar, RingSettings("production", env={"TURNOUT_VERSION": "v9"}), 0, 1).env
    assert (env["TURNOUT_RING"], env["TURNOUT_VERSION"]) == ("production", "v1")
    assert env["TURNOUT_RELEASE"] == liar.digest


def test_every_start_of_a_replica_has_the_same_id() -> None:
    first, again = (build_replica_spec(RELEASE, RingSettings("production"), 0, attempt) for attempt in (1, 2))
    assert first.id == again.id


def test_a_replica_that_ran_long_starts_again_at_once() -> None:
    ended = make_replica(RELEASE, EXITED, attempt=30, started_at=10.0, exited_at=10.0 + STEADY_SECONDS)
    following, earliest = next_attempt(ended)
    assert earliest == ended.exited_at
    assert following > ended.attempt, "a runtime takes a start that it has seen for done"


@given(st.integers(1, 100_000), st.floats(0, STEADY_SECONDS - 0.01))
def test_the_pause_before_a_start_grows_up_to_a_bound(attempt: int, ran: float) -> None:
    ended = make_replica(RELEASE, EXITED, attempt=attempt, started_at=100.0, exited_at=100.0 + ran)
    following, earliest = next_attempt(ended)
    pause = earliest - (100.0 + ran)
    assert following == attempt + 1
    assert 0.49 < pause <= LONGEST_BACKOFF + 0.01


def test_the_first_pauses_double() -> None:
    pauses = [next_attempt(make_replica(RELEASE, EXITED, attempt=attempt, exited_at=0.0))[1] for attempt in range(1, 9)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_an_exit_without_a_time_counts_from_the_start() -> None:
    assert next_attempt(make_replica(RELEASE, EXITED, started_at=7.0, exited_at=None)) == (2, 7.5)


def test_only_a_replica_that_ended_often_enough_is_in_a_crash_loop() -> None:
    quick: dict[str, Any] = {"started_at": 10.0, "exited_at": 11.0}
    assert in_crash_loop(make_replica(RELEASE, EXITED, attempt=CRASH_LOOP_ATTEMPTS, **quick))
    assert not in_crash_loop(make_replica(RELEASE, EXITED, attempt=CRASH_LOOP_ATTEMPTS - 1, **quick))
    assert not in_crash_loop(make_replica(RELEASE, ReplicaState.READY, attempt=CRASH_LOOP_ATTEMPTS))


def test_a_replica_that_ran_long_is_in_no_crash_loop_however_often_it_was_started() -> None:
    steady: dict[str, Any] = {"started_at": 10.0, "exited_at": 10.0 + STEADY_SECONDS}
    assert not in_crash_loop(make_replica(RELEASE, EXITED, attempt=CRASH_LOOP_ATTEMPTS + 5, **steady))
