"""What every store must do: transactions, releases, deployments, and the one door for their states."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.contract.store_support import (
    ALIEN,
    ONE,
    RINGS,
    TO_ACTIVE,
    TWO,
    add_deployment,
    add_release,
    event_types,
    move,
)
from tests.unit.domain.values import AGENT, RING, make_deployment, make_digest, make_release
from turnout.domain.errors import Conflict, IllegalTransition, LeaseLost
from turnout.domain.events import Event, EventType
from turnout.domain.models import Abort, Condition, Kind, Pointer, Rollout
from turnout.domain.phases import Phase
from turnout.ports import Store

# --- transactions ----------------------------------------------------------------------------------------------------


def test_an_exception_leaves_neither_change_nor_event(store: Store) -> None:
    before = event_types(store)
    deployment = make_deployment(ONE)

    def change_and_stop() -> None:
        with store.transaction() as transaction:
            transaction.add_deployment(deployment)
            transaction.move(deployment, Phase.BUILDING, at=1.0, actor="turnout", reason="r")
            transaction.save_pointer(Pointer(AGENT, RING, stable=ONE.digest), actor="a", reason="r")
            raise KeyError(transaction.deployment("dep_1"))

    with pytest.raises(KeyError, match="building"):
        change_and_stop()
    with store.snapshot() as snapshot:
        assert snapshot.deployment("dep_1") is None
        assert snapshot.pointers() == ()
    assert event_types(store) == before


def test_a_refusal_leaves_nothing_of_its_transaction(store: Store) -> None:
    add_deployment(store)

    def change_twice() -> None:
        with store.transaction() as transaction:
            transaction.add_agent("half", 1.0)
            transaction.add_deployment(make_deployment(TWO, "dep_2"))

    with pytest.raises(Conflict):
        change_twice()
    with store.snapshot() as snapshot:
        assert "half" not in snapshot.agents()


def test_a_snapshot_shows_one_moment(store: Store) -> None:
    with store.snapshot() as snapshot:
        assert snapshot.pointers() == ()
        with ThreadPoolExecutor(1) as other:
            other.submit(add_deployment, store).result()
        assert snapshot.deployments() == ()
    with store.snapshot() as snapshot:
        assert len(snapshot.deployments()) == 1


def test_concurrent_writers_lose_nothing(store: Store) -> None:
    def emit(number: int) -> None:
        for _ in range(5):
            with store.transaction() as transaction:
                count = len(transaction.events(agent="racer", limit=1_000))
                transaction.emit(Event(EventType.RELEASE_PUSHED, 1.0, str(number), "racer", data={"count": count}))

    with ThreadPoolExecutor(4) as writers:
        list(writers.map(emit, range(4)))
    with store.snapshot() as snapshot:
        counts = [stored.event.data["count"] for stored in snapshot.events(agent="racer", limit=1_000)]
    assert counts == list(range(20)), "a transaction saw what others wrote before it, and nothing less"


# --- agents and releases ---------------------------------------------------------------------------------------------


def test_agents_are_known_once_and_by_name(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.add_agent(AGENT, 9.0)
    with store.snapshot() as snapshot:
        assert snapshot.agents() == ("billing", AGENT)


def test_a_release_comes_back_as_it_went_in(store: Store) -> None:
    with store.snapshot() as snapshot:
        assert snapshot.release(ONE.digest) == ONE
        assert snapshot.release(make_digest("unknown")) is None
        assert snapshot.release_tagged(AGENT, "v1") == ONE
        assert snapshot.release_tagged("billing", "v1") == ALIEN
        assert snapshot.release_tagged(AGENT, "v9") is None


def test_releases_are_listed_newest_first(store: Store) -> None:
    newer = replace(make_release("v3", rings=RINGS), created_at=9.0, git_sha="abc")
    add_release(store, newer)
    with store.snapshot() as snapshot:
        assert snapshot.releases(AGENT)[0] == newer
        assert {release.version for release in snapshot.releases(AGENT)} == {"v1", "v2", "v3"}


def test_a_release_has_several_tags_and_a_tag_never_moves(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.add_tag(AGENT, "stable", ONE.digest)
        transaction.add_tag(AGENT, "stable", ONE.digest)
    with pytest.raises(Conflict, match="already names") as refused, store.transaction() as transaction:
        transaction.add_tag(AGENT, "stable", TWO.digest)
    assert refused.value.hint
    with store.snapshot() as snapshot:
        assert snapshot.tags(AGENT) == {"v1": ONE.digest, "v2": TWO.digest, "stable": ONE.digest}


def test_a_release_under_the_version_of_another_is_refused_as_a_whole(store: Store) -> None:
    thief = replace(make_release("thief", rings=RINGS), version="v1")
    with pytest.raises(Conflict):
        add_release(store, thief)
    with store.snapshot() as snapshot:
        assert snapshot.release(thief.digest) is None
        assert snapshot.tags(AGENT)["v1"] == ONE.digest


def test_a_ring_that_is_declared_is_known_to_the_proxy_before_anything_is_deployed_to_it(store: Store) -> None:
    served = Pointer(AGENT, "dev", stable=ONE.digest, generation=4)
    with store.transaction() as transaction:
        transaction.save_pointer(served, actor="a", reason="r")
        transaction.add_rings(AGENT, ["dev", "staging"])
        transaction.add_rings(AGENT, ["dev", "staging"])
    with store.snapshot() as snapshot:
        assert snapshot.pointers() == (served, Pointer(AGENT, "staging"))


# --- deployments -----------------------------------------------------------------------------------------------------


def test_a_deployment_comes_back_as_it_went_in(store: Store) -> None:
    full = make_deployment(
        ONE,
        kind=Kind.PROMOTE,
        reason="because",
        quarantine=True,
        condition=Condition("canary", "waits", 3.0),
        source_ring="dev",
        override="urgent",
        rollout=Rollout(1, 2.0, advance=True),
        prepared=True,
        smoke_passed=True,
        abort=Abort("bob", "no", quarantine=True),
    )
    with store.transaction() as transaction:
        transaction.add_deployment(full)
    with store.snapshot() as snapshot:
        assert snapshot.deployment("dep_1") == full
        assert snapshot.deployment("dep_9") is None


def test_saving_a_deployment_changes_everything_but_its_state(store: Store) -> None:
    deployment = add_deployment(store)
    with store.transaction() as transaction:
        transaction.save_deployment(
            replace(deployment, prepared=True, phase=Phase.ACTIVE, phase_at=99.0, abort=Abort("bob", "no"))
        )
    with store.snapshot() as snapshot:
        stored = snapshot.deployment("dep_1")
    assert stored == replace(deployment, prepared=True, abort=Abort("bob", "no"))


def test_one_deployment_is_in_progress_in_a_ring(store: Store) -> None:
    add_deployment(store)
    with pytest.raises(Conflict, match="in progress"):
        add_deployment(store, TWO, "dep_2")
    add_deployment(store, TWO, "dep_3", ring="dev")
    add_deployment(store, ALIEN, "dep_4")


def test_a_rollback_may_start_beside_it_but_only_one(store: Store) -> None:
    add_deployment(store)
    add_deployment(store, TWO, "dep_2", kind=Kind.ROLLBACK)
    with pytest.raises(Conflict):
        add_deployment(store, TWO, "dep_3", kind=Kind.ROLLBACK)


def test_the_next_deployment_may_start_when_the_one_before_is_over(store: Store) -> None:
    move(store, add_deployment(store), Phase.BUILDING, Phase.FAILED)
    add_deployment(store, TWO, "dep_2")


def test_the_database_itself_refuses_a_second_active_deployment(store: Store) -> None:
    move(store, add_deployment(store), *TO_ACTIVE)
    second = add_deployment(store, TWO, "dep_2")
    with pytest.raises(Exception, match=r"(?i)unique|active"):
        move(store, second, *TO_ACTIVE)
    with store.snapshot() as snapshot:
        assert [item.id for item in snapshot.deployments() if item.phase is Phase.ACTIVE] == ["dep_1"]


def test_an_active_deployment_is_replaced_in_one_transaction(store: Store) -> None:
    first = move(store, add_deployment(store), *TO_ACTIVE)
    second = move(store, add_deployment(store, TWO, "dep_2"), *TO_ACTIVE[:-1])
    with store.transaction() as transaction:
        transaction.move(first, Phase.SUPERSEDED, at=6.0, actor="turnout", reason="r")
        transaction.move(second, Phase.ACTIVE, at=6.0, actor="turnout", reason="r")
    with store.snapshot() as snapshot:
        assert [(item.id, item.phase.value) for item in snapshot.deployments()] == [
            ("dep_2", "active"),
            ("dep_1", "superseded"),
        ]


def test_deployments_are_listed_newest_first_and_filtered(store: Store) -> None:
    add_deployment(store, created_at=1.0)
    add_deployment(store, TWO, "dep_2", ring="dev", created_at=2.0)
    add_deployment(store, ALIEN, "dep_3", created_at=3.0)
    with store.snapshot() as snapshot:
        listed = {
            "all": snapshot.deployments(),
            "agent": snapshot.deployments(AGENT),
            "ring": snapshot.deployments(AGENT, RING),
            "some": snapshot.deployments(limit=1),
        }
    assert {name: [item.id for item in found] for name, found in listed.items()} == {
        "all": ["dep_3", "dep_2", "dep_1"],
        "agent": ["dep_2", "dep_1"],
        "ring": ["dep_1"],
        "some": ["dep_3"],
    }


def test_unfinished_are_those_in_progress_or_rolling_back_oldest_first(store: Store) -> None:
    leaving = move(store, add_deployment(store, created_at=1.0), *TO_ACTIVE, Phase.ROLLING_BACK)
    move(store, add_deployment(store, TWO, "dep_2", created_at=2.0), Phase.BUILDING, Phase.FAILED)
    running = add_deployment(store, TWO, "dep_3", created_at=3.0)
    with store.snapshot() as snapshot:
        assert snapshot.unfinished(AGENT, RING) == (leaving, running)
        assert snapshot.unfinished(AGENT, "dev") == ()


def test_a_build_slot_is_taken_until_the_release_is_prepared(store: Store) -> None:
    deployment = move(store, add_deployment(store), Phase.BUILDING)
    add_deployment(store, TWO, "dep_2", ring="dev")
    with store.transaction() as transaction:
        assert transaction.unprepared() == 1
        transaction.save_deployment(replace(deployment, prepared=True))
        assert transaction.unprepared() == 0


def test_activations_are_remembered_newest_first(store: Store) -> None:
    first = add_deployment(store, created_at=1.0)
    with store.transaction() as transaction:
        for at, target in enumerate((*TO_ACTIVE, Phase.SUPERSEDED), 10):
            first = transaction.move(first, target, at=float(at), actor="t", reason="r")
        assert first.active_at == 13.0
        second = make_deployment(TWO, "dep_2")
        transaction.add_deployment(second)
        for at, target in enumerate((*TO_ACTIVE, Phase.ROLLING_BACK, Phase.ROLLED_BACK), 20):
            second = transaction.move(second, target, at=float(at), actor="t", reason="r")
        transaction.add_deployment(make_deployment(ONE, "dep_3"))
    with store.snapshot() as snapshot:
        assert snapshot.activations(AGENT, RING) == (TWO.digest, ONE.digest)
        assert snapshot.activations(AGENT, "dev") == ()


# --- the one door ----------------------------------------------------------------------------------------------------


def test_a_move_writes_state_time_and_event_and_forgets_the_condition(store: Store) -> None:
    deployment = add_deployment(store, condition=Condition("build_slot", "waits", 1.0))
    with store.transaction() as transaction:
        moved = transaction.move(deployment, Phase.BUILDING, at=7.0, actor="bob", reason="go")
        assert transaction.deployment("dep_1") == moved
    assert (moved.phase, moved.phase_at, moved.condition) == (Phase.BUILDING, 7.0, None)
    with store.snapshot() as snapshot:
        (stored,) = snapshot.events(deployment="dep_1", newest_first=True, limit=1)
    assert stored.event == Event(
        EventType.DEPLOYMENT_TRANSITIONED,
        7.0,
        "bob",
        AGENT,
        RING,
        "dep_1",
        {"from": "queued", "to": "building", "reason": "go"},
    )


@pytest.mark.parametrize("target", [phase for phase in Phase if phase is not Phase.BUILDING])
def test_a_move_that_the_table_does_not_hold_changes_nothing(store: Store, target: Phase) -> None:
    deployment = add_deployment(store)
    before = event_types(store)
    with pytest.raises(IllegalTransition):
        move(store, deployment, target)
    with store.snapshot() as snapshot:
        assert snapshot.deployment("dep_1") == deployment
    assert event_types(store) == before


def test_a_move_from_a_state_that_is_no_longer_the_stored_one_is_refused(store: Store) -> None:
    stale = add_deployment(store)
    move(store, stale, Phase.BUILDING)
    before = event_types(store)
    with pytest.raises(LeaseLost, match="no longer in queued"):
        move(store, stale, Phase.BUILDING)
    assert event_types(store) == before


def test_of_many_that_move_one_deployment_at_once_one_succeeds(store: Store) -> None:
    deployment = add_deployment(store)
    gate = threading.Barrier(4)

    def try_once(_: int) -> bool:
        gate.wait()
        try:
            move(store, deployment, Phase.BUILDING)
        except LeaseLost:
            return False
        return True

    with ThreadPoolExecutor(4) as movers:
        assert sum(movers.map(try_once, range(4))) == 1
    assert event_types(store).count("deployment.transitioned") == 1
