"""What every store must do: pointers, decisions, replicas, events, tasks, leases, tokens, answers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.contract.store_support import (
    ALIEN,
    ONE,
    TWO,
    add_deployment,
    event_types,
)
from tests.unit.domain.values import AGENT, RING, make_approval, make_digest, make_replica
from turnout.domain.errors import Conflict, LeaseLost, NotFound
from turnout.domain.events import Event, EventType
from turnout.domain.models import Deployment, Pointer, Quarantine, ReplicaState, Retired
from turnout.domain.phases import Phase
from turnout.domain.policy import Role
from turnout.ports import Lease, Store, StoredResponse, TokenRecord

# --- pointers, approvals, quarantine, replicas -----------------------------------------------------------------------


def test_a_pointer_comes_back_as_it_went_in_with_its_event(store: Store) -> None:
    add_deployment(store)
    pointer = Pointer(
        AGENT,
        RING,
        stable=ONE.digest,
        candidate=TWO.digest,
        weight=500,
        last_good=ALIEN.digest,
        active_deployment="dep_1",
        retired=(Retired(make_digest("old"), 2.5),),
        generation=7,
        changed_at=3.0,
    )
    with store.transaction() as transaction:
        assert transaction.pointer(AGENT, RING) == Pointer(AGENT, RING)
        transaction.save_pointer(pointer, actor="bob", reason="canary")
        transaction.save_pointer(replace(pointer, generation=8), actor="bob", reason="again")
        transaction.save_pointer(Pointer(AGENT, "dev", generation=1), actor="bob", reason="dev")
    with store.snapshot() as snapshot:
        assert snapshot.pointer(AGENT, RING) == replace(pointer, generation=8)
        assert [item.ring for item in snapshot.pointers()] == ["dev", RING]
        assert snapshot.pointers("billing") == ()
        changes = [item.event for item in snapshot.events(ring=RING) if item.event.type is EventType.POINTER_CHANGED]
    assert [item.data["generation"] for item in changes] == [7, 8]
    assert (changes[0].at, changes[0].actor, changes[0].data["weight"]) == (3.0, "bob", 500)


def test_decisions_are_kept_in_order_and_bound_to_digest_and_ring(store: Store) -> None:
    decisions = (
        make_approval(ONE, "bob", at=5.0, comment="fine"),
        make_approval(ONE, "bob", approved=False, at=5.0),
        make_approval(ONE, "cid", at=1.0),
    )
    with store.transaction() as transaction:
        for decision in (*decisions, make_approval(TWO, "bob"), make_approval(ONE, "bob", ring="dev")):
            transaction.add_approval(decision)
    with store.snapshot() as snapshot:
        assert snapshot.approvals(AGENT, RING, ONE.digest) == decisions
    assert event_types(store)[-5:] == [
        "approval.given",
        "approval.rejected",
        "approval.given",
        "approval.given",
        "approval.given",
    ]


def test_the_first_reason_for_a_quarantine_stays(store: Store) -> None:
    first = Quarantine(AGENT, ONE.digest, RING, "it lied", "bob", 1.0)
    with store.transaction() as transaction:
        transaction.add_quarantine(first)
        transaction.add_quarantine(replace(first, reason="it lied again", at=2.0))
    with store.snapshot() as snapshot:
        assert snapshot.quarantine(AGENT, ONE.digest) == first
        assert snapshot.quarantine(AGENT, TWO.digest) is None
    assert event_types(store).count("release.quarantined") == 1


def test_the_replicas_of_a_ring_are_replaced_and_those_of_others_stay(store: Store) -> None:
    ended = make_replica(ONE, ReplicaState.EXITED, 1, exited_at=3.0, exit_code=-9, pid=7, message="killed")
    ready, elsewhere = make_replica(ONE), make_replica(ONE, ring="dev")
    with store.transaction() as transaction:
        transaction.save_replicas(AGENT, "dev", (elsewhere,))
        transaction.save_replicas(AGENT, RING, (make_replica(TWO),))
        transaction.save_replicas(AGENT, RING, (ready, ended))
    with store.snapshot() as snapshot:
        assert snapshot.replicas() == (elsewhere, ready, ended)
        assert snapshot.replicas(AGENT) == (elsewhere, ready, ended)
        assert snapshot.replicas("billing") == ()
    with store.transaction() as transaction:
        transaction.save_replicas(AGENT, RING, ())
        assert transaction.replicas() == (elsewhere,)


# --- events ----------------------------------------------------------------------------------------------------------


def test_events_come_in_order_filtered_and_in_pages(store: Store) -> None:
    with store.transaction() as transaction:
        start = transaction.emit(Event(EventType.TOKEN_CREATED, 1.0, "a"))
        for number in range(3):
            event = Event(EventType.RELEASE_PUSHED, 2.0, "a", AGENT, RING if number else "dev", data={"n": number})
            transaction.emit(event)
    with store.snapshot() as snapshot:
        assert [item.seq - start for item in snapshot.events(after=start)] == [1, 2, 3]
        assert [item.seq - start for item in snapshot.events(after=start, newest_first=True)] == [3, 2, 1]
        assert [item.event.data["n"] for item in snapshot.events(after=start, agent=AGENT, ring=RING)] == [1, 2]
        assert [item.event.data["n"] for item in snapshot.events(after=start + 1, limit=1)] == [1]
        assert snapshot.events(deployment="dep_9") == ()


# --- leases ----------------------------------------------------------------------------------------------------------


def test_a_lease_has_one_holder_who_may_renew_it(store: Store) -> None:
    with store.transaction() as transaction:
        lease = transaction.acquire_lease("ring", "a", now=0.0, ttl=10.0)
        assert lease == Lease("ring", "a", 1, 10.0)
        assert transaction.acquire_lease("ring", "b", now=9.9, ttl=10.0) is None
        renewed = transaction.acquire_lease("ring", "a", now=9.9, ttl=10.0)
        assert renewed == Lease("ring", "a", 1, 19.9)
        transaction.check_lease(lease, now=15.0)
        assert transaction.acquire_lease("other ring", "b", now=0.0, ttl=10.0) is not None


def test_an_expired_lease_is_taken_over_and_its_old_token_refused(store: Store) -> None:
    with store.transaction() as transaction:
        old = transaction.acquire_lease("ring", "a", now=0.0, ttl=10.0)
        new = transaction.acquire_lease("ring", "b", now=10.0, ttl=10.0)
        assert old is not None
        assert new == Lease("ring", "b", 2, 20.0)
        transaction.check_lease(new, now=11.0)
        again = transaction.acquire_lease("ring", "a", now=20.0, ttl=10.0)
        assert again == Lease("ring", "a", 3, 30.0)
        for stale in (old, new):
            with pytest.raises(LeaseLost):
                transaction.check_lease(stale, now=21.0)


def test_a_lease_is_lost_when_its_time_is_over_even_if_nobody_took_it(store: Store) -> None:
    with store.transaction() as transaction:
        lease = transaction.acquire_lease("ring", "a", now=0.0, ttl=10.0)
        assert lease is not None
        with pytest.raises(LeaseLost):
            transaction.check_lease(lease, now=10.0)


def test_a_write_under_a_lost_lease_commits_nothing(store: Store) -> None:
    deployment = add_deployment(store)
    with store.transaction() as transaction:
        lease = transaction.acquire_lease("ring", "a", now=0.0, ttl=10.0)
        transaction.acquire_lease("ring", "b", now=10.0, ttl=10.0)
    assert lease is not None

    def write_late(lease: Lease, deployment: Deployment) -> None:
        with store.transaction() as transaction:
            transaction.move(deployment, Phase.BUILDING, at=1.0, actor="a", reason="r")
            transaction.check_lease(lease, now=11.0)

    with pytest.raises(LeaseLost):
        write_late(lease, deployment)
    with store.snapshot() as snapshot:
        assert snapshot.deployment("dep_1") == deployment


def test_of_many_that_want_a_lease_at_once_one_gets_it(store: Store) -> None:
    gate = threading.Barrier(4)

    def want(number: int) -> Lease | None:
        gate.wait()
        with store.transaction() as transaction:
            return transaction.acquire_lease("ring", str(number), now=0.0, ttl=10.0)

    with ThreadPoolExecutor(4) as holders:
        assert len([lease for lease in holders.map(want, range(4)) if lease is not None]) == 1


# --- tokens and answers ----------------------------------------------------------------------------------------------


def test_tokens_are_found_by_their_hash_and_forgotten_by_name(store: Store) -> None:
    token = TokenRecord("bob", Role.APPROVER, "0" * 64, 1.0)
    with store.transaction() as transaction:
        transaction.add_token(token)
        transaction.add_token(replace(token, name="ann", digest="1" * 64))
        assert transaction.token("0" * 64) == token
        assert [item.name for item in transaction.tokens()] == ["ann", "bob"]
        transaction.remove_token("bob")
        assert transaction.token("0" * 64) is None
        with pytest.raises(NotFound):
            transaction.remove_token("bob")


def test_a_name_has_one_token(store: Store) -> None:
    token = TokenRecord("bob", Role.APPROVER, "0" * 64, 1.0)
    with store.transaction() as transaction:
        transaction.add_token(token)
        with pytest.raises(Conflict):
            transaction.add_token(replace(token, digest="1" * 64))


def test_an_answer_is_kept_for_a_day_by_actor_and_key(store: Store) -> None:
    answer = StoredResponse("f", 202, '{"id": 1}')
    with store.transaction() as transaction:
        transaction.save_response("ann", "key-0001", StoredResponse("f", 0, ""), at=0.0)
        transaction.save_response("ann", "key-0001", answer, at=0.0)
        assert transaction.response("ann", "key-0001") == answer
        assert transaction.response("bob", "key-0001") is None
        transaction.save_response("bob", "key-0002", answer, at=86_401.0)
        assert transaction.response("ann", "key-0001") is None
        assert transaction.response("bob", "key-0002") == answer
