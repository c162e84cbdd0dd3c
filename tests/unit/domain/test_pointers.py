"""How the pointer of a ring changes: every function alone, and any sequence of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.domain.values import AGENT, RING, make_digest
from turnout.domain.models import FULL_WEIGHT, Digest, Pointer, Retired
from turnout.domain.pointers import (
    MOST_RETIRED,
    activate,
    forget_retired,
    roll_back,
    shift_traffic,
    withdraw_candidate,
)
from turnout.domain.routes import ring_weights, warm_digests

A, B, C, D, E, F = (make_digest(name) for name in "abcdef")
EMPTY = Pointer(AGENT, RING)


def stable_on(*digests: Digest) -> Pointer:
    """The pointer after these releases became active one after the other."""
    pointer = EMPTY
    for number, digest in enumerate(digests):
        pointer = activate(pointer, digest, f"dep_{number}", float(number))
    return pointer


def test_the_first_release_becomes_stable_without_a_last_good() -> None:
    pointer = activate(EMPTY, A, "dep_1", 5.0)
    assert pointer == Pointer(AGENT, RING, stable=A, active_deployment="dep_1", generation=1, changed_at=5.0)


def test_what_was_stable_becomes_last_good() -> None:
    pointer = stable_on(A, B)
    assert (pointer.stable, pointer.last_good, pointer.retired) == (B, A, ())


def test_what_was_last_good_is_retired_and_stays_warm() -> None:
    pointer = stable_on(A, B, C)
    assert (pointer.stable, pointer.last_good, pointer.retired) == (C, B, (Retired(A, 2.0),))
    assert warm_digests(pointer) == (C, B, A)


def test_activating_the_stable_release_again_changes_the_deployment_alone() -> None:
    before = stable_on(A, B)
    after = activate(before, B, "dep_9", 9.0)
    assert (after.stable, after.last_good, after.retired, after.active_deployment) == (B, A, (), "dep_9")


def test_activating_last_good_swaps_the_two() -> None:
    pointer = activate(stable_on(A, B), A, "dep_9", 9.0)
    assert (pointer.stable, pointer.last_good, pointer.retired) == (A, B, ())


def test_a_shift_of_traffic_names_candidate_and_weight() -> None:
    pointer = shift_traffic(stable_on(A), B, 500, "dep_8", 9.0)
    assert (pointer.stable, pointer.candidate, pointer.weight) == (A, B, 500)
    assert ring_weights(pointer) == ((B, 500), (A, 9_500))


def test_a_retired_release_that_is_tried_again_is_no_longer_retired() -> None:
    pointer = shift_traffic(stable_on(A, B, C), A, 500, "dep_8", 9.0)
    assert pointer.retired == ()


def test_a_withdrawn_candidate_stays_warm() -> None:
    pointer = withdraw_candidate(shift_traffic(stable_on(A), B, 500, "dep_8", 8.0), 9.0)
    assert (pointer.stable, pointer.candidate, pointer.weight) == (A, None, 0)
    assert pointer.retired == (Retired(B, 9.0),)


def test_withdrawing_when_last_good_was_the_candidate_keeps_it_last_good() -> None:
    pointer = withdraw_candidate(shift_traffic(stable_on(A, B), A, 500, "dep_8", 8.0), 9.0)
    assert (pointer.last_good, pointer.retired) == (A, ())


def test_a_rollback_leaves_no_last_good_and_retires_what_was_stable() -> None:
    pointer = roll_back(stable_on(A, B), A, "dep_9", 9.0)
    assert (pointer.stable, pointer.last_good, pointer.active_deployment) == (A, None, "dep_9")
    assert pointer.retired == (Retired(B, 9.0),)


def test_a_rollback_past_last_good_retires_last_good_too() -> None:
    pointer = roll_back(stable_on(A, B, C), A, "dep_9", 9.0)
    assert (pointer.stable, pointer.last_good) == (A, None)
    assert set(pointer.retired) == {Retired(B, 9.0), Retired(C, 9.0)}


def test_a_rollback_during_a_canary_retires_the_candidate() -> None:
    pointer = roll_back(shift_traffic(stable_on(A, B), C, 500, "dep_8", 8.0), A, "dep_9", 9.0)
    assert (pointer.stable, pointer.candidate, pointer.weight) == (A, None, 0)
    assert {item.digest for item in pointer.retired} == {B, C}


def test_the_newest_of_many_retired_releases_are_kept() -> None:
    pointer = stable_on(A, B, C, D, E, F)
    assert [item.digest for item in pointer.retired] == [B, C, D]
    assert pointer.last_good == E


def test_a_forgotten_release_is_no_longer_warm() -> None:
    pointer = forget_retired(stable_on(A, B, C), A, 9.0)
    assert warm_digests(pointer) == (C, B)


digests = st.sampled_from([A, B, C, D, E, F])
weights = st.integers(1, FULL_WEIGHT)
changes = st.one_of(
    st.tuples(st.just("shift"), digests, weights),
    st.tuples(st.just("withdraw"), digests, weights),
    st.tuples(st.just("activate"), digests, weights),
    st.tuples(st.just("roll back"), digests, weights),
    st.tuples(st.just("forget"), digests, weights),
)


def changed(pointer: Pointer, change: tuple[str, Digest, int], now: float) -> Pointer:
    kind, digest, weight = change
    match kind:
        case "shift":
            return shift_traffic(pointer, digest, weight, "dep_8", now)
        case "withdraw":
            return withdraw_candidate(pointer, now)
        case "activate":
            return activate(pointer, digest, f"dep_{now}", now)
        case "roll back":
            return roll_back(pointer, digest, f"dep_{now}", now)
        case _:
            return forget_retired(pointer, digest, now)


@given(st.lists(changes, max_size=25))
def test_any_sequence_of_changes_keeps_the_pointer_consistent(sequence: list[tuple[str, Digest, int]]) -> None:
    pointer = EMPTY
    for now, change in enumerate(sequence):
        before, pointer = pointer, changed(pointer, change, float(now))
        retired = [item.digest for item in pointer.retired]
        assert pointer.generation == before.generation + 1
        assert pointer.changed_at == now
        assert len(set(retired)) == len(retired) <= MOST_RETIRED
        assert not {pointer.stable, pointer.candidate, pointer.last_good} & set(retired)
        assert pointer.last_good is None or pointer.last_good != pointer.stable
        assert (pointer.candidate is None) == (pointer.weight == 0)
        if change[0] == "roll back":
            assert pointer.last_good is None
        if change[0] in ("activate", "roll back"):
            assert ring_weights(pointer) == ((change[1], FULL_WEIGHT),)


@given(st.lists(changes, max_size=15))
def test_what_leaves_the_traffic_stays_warm_until_it_is_forgotten_or_crowded_out(
    sequence: list[tuple[str, Digest, int]],
) -> None:
    pointer = EMPTY
    for now, (kind, wished, weight) in enumerate(sequence):
        # One deployment at a time: the candidate of a canary is its own.
        digest = (pointer.candidate or wished) if kind in ("shift", "activate") else wished
        if kind == "shift" and digest == pointer.stable:
            continue
        before, pointer = pointer, changed(pointer, (kind, digest, weight), float(now))
        routed = {name for name, _ in ring_weights(before)}
        assert len(pointer.retired) == MOST_RETIRED or routed <= set(warm_digests(pointer))
