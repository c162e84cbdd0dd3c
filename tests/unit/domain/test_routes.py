"""Pointers and replicas → routes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.domain.values import AGENT, RING, make_release, make_replica
from turnout.domain.models import FULL_WEIGHT, Pointer, ReplicaState, ReplicaStatus, Retired
from turnout.domain.routes import build_routes, ring_weights, warm_digests

OLD, NEW, AWAY = make_release("v1"), make_release("v2"), make_release("v0")
READY, UNREADY, STARTING, STOPPING, EXITED = (
    ReplicaState.READY,
    ReplicaState.UNREADY,
    ReplicaState.STARTING,
    ReplicaState.STOPPING,
    ReplicaState.EXITED,
)
CANARY = Pointer(AGENT, RING, stable=OLD.digest, candidate=NEW.digest, weight=500, last_good=AWAY.digest)


def endpoints(*replicas: ReplicaStatus) -> tuple[str, ...]:
    """Where a request for the first replica's release may go."""
    (route,) = build_routes([CANARY], replicas).rings
    return next(item.endpoints for item in route.backends if item.digest == replicas[0].digest)


def test_a_ring_without_a_stable_release_has_no_weights() -> None:
    assert ring_weights(Pointer(AGENT, RING)) == ()
    assert ring_weights(Pointer(AGENT, RING, candidate=NEW.digest, weight=500)) == ()


def test_the_candidate_comes_first() -> None:
    assert ring_weights(CANARY) == ((NEW.digest, 500), (OLD.digest, 9_500))


def test_a_candidate_at_full_weight_leaves_stable_nothing() -> None:
    full = Pointer(AGENT, RING, stable=OLD.digest, candidate=NEW.digest, weight=FULL_WEIGHT)
    assert ring_weights(full) == ((NEW.digest, FULL_WEIGHT),)


@given(st.sampled_from([None, OLD.digest]), st.sampled_from([None, NEW.digest]), st.integers(-5, FULL_WEIGHT + 5))
def test_weights_are_empty_or_add_up_to_the_whole(stable: str | None, candidate: str | None, weight: int) -> None:
    pointer = Pointer(AGENT, RING, stable=stable, candidate=candidate, weight=weight)  # type: ignore[arg-type]
    weights = ring_weights(pointer)
    assert weights == () or sum(share for _, share in weights) == FULL_WEIGHT
    assert all(share > 0 for _, share in weights)
    assert (weights == ()) == (stable is None)


def test_requests_go_to_the_ready_replicas_alone_while_there_are_any() -> None:
    others = [make_replica(OLD, state, index) for index, state in enumerate((UNREADY, STARTING, STOPPING, EXITED), 1)]
    assert endpoints(make_replica(OLD, READY, 0), *others) == ("v1-0:1",)


def test_a_struggling_replica_serves_better_than_none() -> None:
    assert endpoints(make_replica(OLD, UNREADY, 0), make_replica(OLD, STARTING, 1)) == ("v1-0:1",)


def test_a_replica_that_never_was_ready_never_gets_a_request() -> None:
    assert endpoints(make_replica(OLD, STARTING)) == ()


def test_a_replica_that_is_being_stopped_serves_when_it_is_all_there_is() -> None:
    assert endpoints(make_replica(OLD, STOPPING)) == ("v1-0:1",)


def test_a_replica_that_ended_is_no_endpoint() -> None:
    (route,) = build_routes([CANARY], [make_replica(OLD, EXITED)]).rings
    assert all(not backend.endpoints for backend in route.backends)


def test_a_release_without_replicas_that_the_weights_name_is_a_backend_without_endpoints() -> None:
    (route,) = build_routes([CANARY], []).rings
    assert {backend.digest for backend in route.backends} == {OLD.digest, NEW.digest}


def test_what_runs_without_being_named_is_known_yet_not_pinnable() -> None:
    stranger = make_release("v9")
    (route,) = build_routes([CANARY], [make_replica(release) for release in (OLD, NEW, AWAY, stranger)]).rings
    assert {backend.digest for backend in route.backends if not backend.pinnable} == {stranger.digest}
    assert stranger.digest not in dict(route.weights)


def test_replicas_of_another_ring_are_not_mixed_in() -> None:
    (route,) = build_routes([CANARY], [make_replica(OLD, READY, ring="dev")]).rings
    assert all(not backend.endpoints for backend in route.backends)


def test_equal_facts_give_equal_routes_in_any_order() -> None:
    pointers = [Pointer(AGENT, name, stable=OLD.digest) for name in ("staging", "dev")]
    replicas = [make_replica(OLD, READY, index, ring=ring) for index in (1, 0) for ring in ("dev", "staging")]
    assert build_routes(pointers, replicas) == build_routes(pointers[::-1], replicas[::-1])


def test_the_pointer_keeps_warm_what_it_names_and_what_it_retired() -> None:
    gone = make_release("gone").digest
    pointer = Pointer(AGENT, RING, OLD.digest, NEW.digest, 500, AWAY.digest, retired=(Retired(gone, 1.0),))
    assert warm_digests(pointer) == (OLD.digest, NEW.digest, AWAY.digest, gone)
    assert warm_digests(Pointer(AGENT, RING)) == ()
