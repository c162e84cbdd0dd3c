"""Reconciling a ring: leases, drains, warmth, and a proxy that goes away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.unit.controller.stage import ADMIN, Stage, replica_of, staged
from tests.unit.domain.values import AGENT, make_release
from turnout.controller.reconcile import BUSY_SECONDS, CALM_SECONDS, LEASE_SECONDS
from turnout.domain.errors import LeaseLost, RuntimeUnavailable
from turnout.domain.models import CanaryStep, RingSettings, SmokeTask
from turnout.domain.phases import Phase
from turnout.services.deployments import is_settled, show_deployment
from turnout.services.rollbacks import abort
from turnout.services.rollouts import advance

RINGS = (RingSettings("dev", warm=100.0, drain=30.0),)
CANARY = (RingSettings("dev", canary=(CanaryStep(1_000, duration=60.0),), warm=100.0),)
SMOKE = (SmokeTask("greet", "/greet"),)
ONE, TWO, THREE = (make_release(f"v{number}", rings=RINGS) for number in (1, 2, 3))
CAREFUL = make_release("careful", rings=CANARY, smoke=SMOKE)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path, (ONE, TWO, THREE, CAREFUL)) as stage:
        yield stage


def stops(stage: Stage) -> list[str]:
    return [name for what, name in stage.runtime.calls if what == "stop"]


# --- coming by -------------------------------------------------------------------------------------------------------


def test_a_ring_at_rest_is_left_alone(stage: Stage) -> None:
    stage.deploy(ONE)
    with stage.store.snapshot() as snapshot:
        before = snapshot.events(limit=1_000)
    calls, routes = list(stage.runtime.calls), list(stage.router.applied)
    effects: list[str] = []
    stage.on_effect = effects.append
    assert stage.reconciler.reconcile(AGENT, "dev") == CALM_SECONDS
    with stage.store.snapshot() as snapshot:
        assert snapshot.events(limit=1_000) == before
    assert (stage.runtime.calls, stage.router.applied, effects) == (calls, routes, [])


def test_a_ring_where_something_is_under_way_is_looked_at_sooner(stage: Stage) -> None:
    stage.deploy(ONE)
    stage.deploy(CAREFUL)
    assert stage.reconciler.reconcile(AGENT, "dev") == BUSY_SECONDS


def test_a_ring_that_nobody_knows_is_no_trouble(stage: Stage) -> None:
    assert stage.reconciler.reconcile("nobody", "nowhere") == CALM_SECONDS


def test_a_job_that_ends_wakes_its_ring(stage: Stage) -> None:
    stage.deploy(ONE, look=False)
    stage.reconciler.reconcile(AGENT, "dev")
    stage.jobs.wait()
    assert (AGENT, "dev") in stage.woken


# --- several servers -------------------------------------------------------------------------------------------------


def test_while_one_server_holds_a_ring_another_leaves_it_alone(stage: Stage) -> None:
    other = stage.another_server("two")
    stage.jobs.go.clear()
    name = stage.deploy(ONE, look=False)
    stage.reconciler.reconcile(AGENT, "dev")
    effects: list[str] = []
    other.on_effect = effects.append
    assert other.reconciler.reconcile(AGENT, "dev") == CALM_SECONDS
    assert effects == []
    assert stage.deployment(name).phase is Phase.BUILDING


def test_a_ring_is_taken_over_when_its_server_is_gone(stage: Stage) -> None:
    other = stage.another_server("two")
    stage.jobs.go.clear()
    name = stage.deploy(ONE, look=False)
    stage.reconciler.reconcile(AGENT, "dev")
    stage.clock.at += LEASE_SECONDS
    other.look()
    assert other.state(name) == "active"


def test_a_lease_is_renewed_as_long_as_the_server_works(stage: Stage) -> None:
    other = stage.another_server("two")
    effects: list[str] = []
    other.on_effect = effects.append
    stage.deploy(ONE)
    for _ in range(6):
        stage.pass_time(LEASE_SECONDS / 2 - 1)
        other.look(times=1)
    assert effects == []


def test_what_was_decided_under_a_lost_lease_is_not_written(stage: Stage) -> None:
    other = stage.another_server("two")
    name = stage.deploy(ONE, look=False)

    def lose(effect: str) -> None:
        if effect == "before Move":
            stage.on_effect = lambda _: None
            stage.clock.at += LEASE_SECONDS
            other.look(times=1)

    stage.on_effect = lose
    with pytest.raises(LeaseLost):
        stage.reconciler.reconcile(AGENT, "dev")
    assert stage.states(name).count("building") == 1


def test_two_servers_that_race_for_a_ring_decide_once(stage: Stage) -> None:
    servers = [stage.another_server(holder) for holder in ("two", "three")]
    name = stage.deploy(ONE, look=False)
    gate = threading.Barrier(2)

    def work(server: Stage) -> None:
        gate.wait()
        for _ in range(10):
            server.reconciler.reconcile(AGENT, "dev")
            server.jobs.wait()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(work, servers))
    assert stage.states(name) == ["building", "deploying", "validating", "active"]
    assert stage.pointer().generation == 1
    assert stage.runtime.calls.count(("start", replica_of(ONE))) == 1


# --- what people ask for while something is decided ------------------------------------------------------------------


def between(stage: Stage, effect: str, happens: object) -> None:
    """Let something happen once, just before an effect."""
    assert callable(happens)

    def tell(name: str) -> None:
        if name == f"before {effect}":
            stage.on_effect = lambda _: None
            happens()

    stage.on_effect = tell


def test_an_abort_that_comes_while_the_activation_is_decided_wins(stage: Stage) -> None:
    stage.deploy(ONE)
    name = stage.deploy(CAREFUL)
    between(stage, "Activate", lambda: stage.roll_back(look=False))
    stage.pass_time(60.0)
    assert stage.state(name) == "rolled_back"
    assert stage.answers() == (200, ONE.digest)


def test_an_abort_that_comes_while_a_step_is_decided_wins(stage: Stage) -> None:
    stage.deploy(ONE)
    between(
        stage,
        "EnterStep",
        lambda: abort(stage.office, ADMIN, AGENT, "dev", reason="no", quarantine=False),
    )
    name = stage.deploy(CAREFUL)
    assert stage.state(name) == "rolled_back"
    assert stage.pointer().candidate is None


def test_an_advance_is_not_lost_between_a_decision_and_its_write(stage: Stage) -> None:
    stage.deploy(ONE)
    name = stage.deploy(CAREFUL)
    advance(stage.office, ADMIN, AGENT, "dev")
    stage.look()
    assert stage.state(name) == "active"


# --- drains and warmth -----------------------------------------------------------------------------------------------


def retire(stage: Stage) -> str:
    """v1 was active, has left the traffic, and is no longer kept warm; a request on it goes on."""
    for release in (ONE, TWO, THREE):
        stage.deploy(release)
    stage.router.set_active(AGENT, "dev", ONE.digest, 1)
    stage.pass_time(100.0)
    assert replica_of(ONE) in stage.running()
    return replica_of(ONE)


def test_a_release_that_left_the_traffic_runs_until_its_warm_time_is_over(stage: Stage) -> None:
    for release in (ONE, TWO, THREE):
        stage.deploy(release)
    stage.pass_time(99.0)
    assert len(stage.running()) == 3
    stage.pass_time(1.0)
    assert stage.running() == sorted([replica_of(TWO), replica_of(THREE)])
    assert stage.pointer().retired == ()


def test_last_good_is_kept_warm_without_limit(stage: Stage) -> None:
    stage.deploy(ONE)
    stage.deploy(TWO)
    stage.pass_time(1e6)
    assert len(stage.running()) == 2


def test_a_request_under_way_keeps_its_replica_up_to_the_drain_limit(stage: Stage) -> None:
    name = retire(stage)
    stage.pass_time(29.9)
    assert name not in stops(stage)
    stage.pass_time(0.2)
    assert name in stops(stage)
    assert name not in stage.running()


def test_a_replica_is_stopped_as_soon_as_its_last_request_is_over(stage: Stage) -> None:
    name = retire(stage)
    stage.router.set_active(AGENT, "dev", ONE.digest, 0)
    stage.pass_time(1.0)
    assert name not in stage.running()


def test_a_replica_that_was_wanted_again_meanwhile_is_drained_anew(stage: Stage) -> None:
    name = retire(stage)
    stage.deploy(ONE)
    stage.pass_time(200.0)
    for release in (TWO, THREE):
        stage.deploy(release)
    stage.pass_time(100.0)
    assert name not in stops(stage), "the requests of its second time in the traffic have their time too"
    stage.pass_time(30.1)
    assert name in stops(stage)


def test_a_ring_is_calm_again_once_everything_is_drained(stage: Stage) -> None:
    retire(stage)
    assert stage.reconciler.reconcile(AGENT, "dev") == BUSY_SECONDS
    stage.deploy(ONE)
    assert stage.reconciler.reconcile(AGENT, "dev") == CALM_SECONDS


def test_a_replica_that_is_down_is_started_again(stage: Stage) -> None:
    stage.deploy(ONE)
    stage.runtime.exit(replica_of(ONE), 1)
    stage.look()
    assert stage.answers()[0] == 503
    stage.pass_time(0.5)
    assert stage.answers() == (200, ONE.digest)


def test_a_replica_that_ran_for_an_hour_and_ended_is_started_again(stage: Stage) -> None:
    stage.deploy(ONE)
    for _ in range(6):
        stage.pass_time(3_600.0)
        stage.runtime.exit(replica_of(ONE), 1)
        stage.look()
        assert stage.answers() == (200, ONE.digest)


def test_a_release_that_was_wiped_from_the_machine_is_prepared_again(stage: Stage, tmp_path: Path) -> None:
    stage.deploy(ONE)
    stage.runtime.exit(replica_of(ONE), 1)
    stage.runtime._prepared.clear()
    stage.pass_time(1.0)
    stage.pass_time(1.0)
    assert stage.answers() == (200, ONE.digest)


def test_a_replica_that_cannot_be_started_just_now_is_not_hammered(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.deploy(ONE)
    stage.runtime.exit(replica_of(ONE), 1)
    stage.clock.at += 1.0
    tries: list[str] = []

    def refuse(replica: object) -> None:
        tries.append(str(replica))
        raise RuntimeUnavailable("no process to be had")

    monkeypatch.setattr(stage.runtime, "start", refuse)
    stage.reconciler.reconcile(AGENT, "dev")
    assert 1 <= len(tries) <= 5, f"{len(tries)} tries in one visit"


# --- the proxy -------------------------------------------------------------------------------------------------------


def test_a_rollback_is_decided_while_the_proxy_is_away_and_shown_by_it_when_it_is_back(stage: Stage) -> None:
    stage.deploy(ONE)
    bad = stage.deploy(TWO)
    stage.router.unavailable = True
    name = stage.roll_back()
    assert stage.pointer().stable == ONE.digest
    assert stage.state(name) == "active"
    assert stage.state(bad) == "rolling_back", "the proxy has not confirmed it"
    assert not is_settled(stage.office, show_deployment(stage.office, ADMIN, name)), "nor has it for who waits"
    stage.router.unavailable = False
    stage.look(times=1)
    assert is_settled(stage.office, show_deployment(stage.office, ADMIN, name))
    assert stage.answers() == (200, ONE.digest)
    assert stage.state(bad) == "rolled_back"


def test_nothing_new_becomes_active_and_nothing_is_stopped_while_the_proxy_is_away(stage: Stage) -> None:
    for release in (ONE, TWO):
        stage.deploy(release)
    stage.router.unavailable = True
    name = stage.deploy(THREE)
    stage.pass_time(1_000.0)
    assert stage.state(name) == "validating: proxy"
    assert stops(stage) == []
    stage.router.unavailable = False
    stage.look()
    assert stage.state(name) == "active"


def test_a_proxy_that_is_away_holds_up_no_rollback_while_something_drains(stage: Stage) -> None:
    retire(stage)
    stage.router.unavailable = True
    stage.roll_back()
    assert stage.pointer().stable == TWO.digest
