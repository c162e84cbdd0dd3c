"""Breakers of rings: what trips them, what an open one stops, and how people let calls through again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.unit.controller.stage import ADMIN, BOB, Stage, staged
from tests.unit.domain.values import AGENT, make_release
from tests.unit.gateway.calls import model_call
from turnout.controller.grants import GrantBook
from turnout.controller.publish import Publisher
from turnout.controller.reconcile import Parts, Reconciler
from turnout.domain.breakers import BreakerState, stopped_reasons
from turnout.domain.budget import Budget, BudgetScope, Unit
from turnout.domain.calls import Ended
from turnout.domain.errors import Conflict, Forbidden, NotFound
from turnout.domain.grants import Grants, Pins
from turnout.domain.models import Breaker, BreakerScope, CanaryStep, Release, RingSettings
from turnout.domain.outcomes import Outcome, Source
from turnout.schemas import BreakerView
from turnout.services import rollouts
from turnout.services.breakers import Reset, list_breakers, reset_breakers
from turnout.services.budgets import BudgetWish, set_budget

BREAKERS = (
    Breaker(BreakerScope.RUN, "cost", 2.0),
    Breaker(BreakerScope.DEPLOYMENT, "cost", 10.0, window=60.0),
    Breaker(BreakerScope.DEPLOYMENT, "error_rate", 0.3, window=60.0, tasks=10),
    Breaker(BreakerScope.DEPLOYMENT, "model_error_rate", 0.5, window=60.0, tasks=4),
    Breaker(BreakerScope.WORKSPACE, "cost", 50.0, window=60.0),
)
RINGS = (RingSettings("dev", canary=(CanaryStep(5_000, tasks=1_000),), breakers=BREAKERS),)
ONE, TWO = (make_release(f"v{number}", rings=RINGS) for number in (1, 2))
_numbers = count()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path, (ONE, TWO)) as stage:
        yield stage


@pytest.fixture
def alone(stage: Stage) -> Stage:
    """v1 is active, and there is nothing to go back to."""
    stage.deploy(ONE)
    stage.pass_time(100.0)
    return stage


@pytest.fixture
def behind(alone: Stage) -> Stage:
    """v2 is active, and v1 is its last-good."""
    deployment = alone.deploy(TWO)
    rollouts.advance(alone.office, ADMIN, AGENT, "dev")
    alone.look()
    assert alone.state(deployment) == "active"
    alone.pass_time(100.0)
    return alone


def call(stage: Stage, release: Release, dollars: float, task: str | None = None, **changes: Any) -> None:
    values = {"at": stage.clock.at, "duration": 0.0, "agent": AGENT, "ring": "dev", "release": release.digest}
    priced = {"nanos": round(dollars * 1e9), "prices": "sha256:table"}
    made = model_call(f"call-{next(_numbers)}", task=task, **{**values, **priced, **changes})
    with stage.store.transaction() as transaction:
        transaction.add_calls([made], "calls/model-0.jsonl", "1:1")


def stopped(stage: Stage) -> list[str]:
    """The versions whose calls are stopped."""
    with stage.store.snapshot() as snapshot:
        found = stopped_reasons(snapshot.breakers())
    return [release.version for release in (ONE, TWO) if (AGENT, "dev", release.digest) in found]


def shown(stage: Stage, release: Release = ONE, metric: str = "cost", scope: str = "deployment") -> BreakerView:
    (view,) = [
        item
        for item in list_breakers(stage.office, BOB, AGENT)["breakers"]
        if (item["digest"], item["metric"], item["scope"]) == (release.digest, metric, scope)
    ]
    return view


def reset(stage: Stage, **how: Any) -> None:
    reset_breakers(stage.office, ADMIN, AGENT, "dev", Reset(**how))


def types(stage: Stage) -> list[str]:
    with stage.store.snapshot() as snapshot:
        return [item.event.type.value for item in snapshot.events(limit=10_000)]


# --- tripping --------------------------------------------------------------------------------------------------------


def test_a_task_that_is_under_way_trips_by_what_its_calls_cost_so_far(behind: Stage) -> None:
    for _ in range(4):
        call(behind, TWO, 0.5, "t1")
    behind.look()
    assert (behind.pointer().stable, stopped(behind)) == (TWO.digest, [])
    call(behind, TWO, 0.01, "t1")
    behind.look()
    assert behind.pointer().stable == ONE.digest
    assert behind.answers() == (200, ONE.digest)
    assert stopped(behind) == ["v2"]
    view = shown(behind, TWO, scope="run")
    assert (view["state"], view["tripped_with"], view["task"]) == ("open", 2.01, "t1")
    assert view["reason"] == "breaker: 2.01 cost of task t1, above 2"


def test_a_candidate_whose_calls_cost_too_much_together_is_taken_back(alone: Stage) -> None:
    deployment = alone.deploy(TWO)
    for number in range(11):
        call(alone, TWO, 1.0, f"t{number}")
    alone.look()
    assert alone.state(deployment) == "rolled_back"
    assert alone.pointer().candidate is None
    assert (stopped(alone), "breaker.tripped" in types(alone)) == (["v2"], True)


def test_a_candidate_brings_no_stricter_rules_for_the_release_that_serves(tmp_path: Path) -> None:
    strict = Breaker(BreakerScope.DEPLOYMENT, "error_rate", 0.01, window=60.0, tasks=10)
    three = make_release(
        "v3", rings=(RingSettings("dev", canary=(CanaryStep(5_000, tasks=1_000),), breakers=(strict,)),)
    )
    with staged(tmp_path, (ONE, three)) as stage:
        stage.deploy(ONE)
        stage.pass_time(100.0)
        deployment = stage.deploy(three)
        stage.serve(ONE, [f"t{number}" for number in range(19)])
        stage.serve(ONE, ["bad"], status=500)
        stage.look()
        assert stage.pointer().stable == ONE.digest
        assert stage.pointer().candidate == three.digest
        views = list_breakers(stage.office, BOB, AGENT)["breakers"]
        assert [view["digest"] for view in views if view["above"] == 0.01] == [three.digest]
        stage.serve(three, [f"c{number}" for number in range(19)])
        stage.serve(three, ["worse"], status=500)
        stage.look()
        assert stage.state(deployment) == "rolled_back"


def test_what_is_reported_of_long_ago_trips_nothing_now(behind: Stage) -> None:
    behind.serve(TWO, [f"day-{number}" for number in range(100)])
    behind.pass_time(100.0)
    behind.serve(TWO, [f"now-{number}" for number in range(10)])
    with behind.store.transaction() as transaction:
        reports = [Outcome(f"day-{n}", Source.REPORT, behind.clock.at, failed=True, reporter="ann") for n in range(20)]
        transaction.add_outcomes(reports)
    behind.look()
    assert behind.pointer().stable == TWO.digest


def test_tasks_of_longer_than_the_window_trip_when_they_fail(behind: Stage) -> None:
    now = behind.clock.at
    behind.clock.at = now - 90.0
    failed = [replace(task, duration=90.0) for task in behind.requests(TWO, [f"t{n}" for n in range(20)], status=500)]
    behind.clock.at = now
    behind.record(failed)
    behind.look()
    assert behind.pointer().stable == ONE.digest


def test_calls_of_no_task_and_after_their_task_count_too(behind: Stage) -> None:
    behind.serve(TWO, ["t1"])
    for _ in range(6):
        call(behind, TWO, 0.9)
    for _ in range(6):
        call(behind, TWO, 0.9, f"late-{next(_numbers)}")
    behind.look()
    assert behind.pointer().stable == ONE.digest


def test_an_agent_that_reports_a_small_cost_hides_nothing(behind: Stage) -> None:
    behind.serve(TWO, ["t1"])
    with behind.store.transaction() as transaction:
        transaction.add_outcomes([Outcome("t1", Source.REPORT, behind.clock.at, cost=0.1, reporter="ann")])
    assert shown(behind, TWO)["value"] == pytest.approx(0.1)
    for _ in range(30):
        call(behind, TWO, 1.0, "t1")
    behind.look()
    assert (behind.pointer().stable, stopped(behind)) == (ONE.digest, ["v2"])


def test_model_calls_that_fail_trip(behind: Stage) -> None:
    call(behind, TWO, 0.0)
    for _ in range(3):
        call(behind, TWO, 0.0, ended=Ended.FAILED)
    behind.look()
    assert behind.pointer().stable == ONE.digest
    assert shown(behind, TWO, "model_error_rate")["tripped_with"] == 0.75


def test_with_nothing_to_go_back_to_calls_stop_all_the_same(alone: Stage) -> None:
    for _ in range(12):
        call(alone, ONE, 1.0)
    alone.look()
    assert alone.pointer().stable == ONE.digest
    assert stopped(alone) == ["v1"]
    active = alone.pointer().active_deployment
    assert active is not None
    assert alone.deployment(active).rollout.tripped == "cost"
    assert types(alone).count("breaker.tripped") == 1
    alone.pass_time(70.0)
    assert stopped(alone) == ["v1"], "only a person lets calls through again"


def test_the_gateway_is_told_what_is_stopped_and_what_budgets_bind(alone: Stage) -> None:
    written: list[Grants] = []
    book = GrantBook(Grants(), lambda _: Pins(), lambda *who: "/".join(who), written.append)
    parts = Parts(alone.store, alone.runtime, alone.router, alone.prober, alone.clock, "one", grants=book)
    publisher = Publisher(alone.store, alone.runtime, alone.router)
    reconciler = Reconciler(parts, alone.jobs, publisher, lambda _agent, _ring: None)
    set_budget(alone.office, ADMIN, BudgetWish("calls", 60.0, 30))
    for _ in range(12):
        call(alone, ONE, 1.0)
    reconciler.reconcile(AGENT, "dev")
    (grant,) = written[-1].grants.values()
    assert grant.stopped is not None
    assert grant.stopped.startswith(
        "breaker: cost 12.00 in 60 s, above 10; to let calls through again: turnout breakers"
    )
    assert grant.budgets == (Budget(BudgetScope.WORKSPACE, 30, Unit.CALLS, 60.0),)
    reset(alone)
    reconciler.reconcile(AGENT, "dev")
    (grant,) = written[-1].grants.values()
    assert grant.stopped is None


def test_a_workspace_breaker_stops_nobody_for_what_runs_where_it_is_not_declared(behind: Stage) -> None:
    call(behind, ONE, 60.0, agent="billing", ring="nightly")
    call(behind, TWO, 1.0)
    behind.look()
    assert stopped(behind) == []
    assert shown(behind, TWO, scope="workspace")["value"] == pytest.approx(61.0)


def test_what_a_stopped_release_gave_stops_nobody_else(behind: Stage) -> None:
    call(behind, TWO, 51.0)
    call(behind, ONE, 2.0)
    behind.look()
    behind.look()
    assert stopped(behind) == ["v2"]
    assert shown(behind, ONE, scope="workspace")["value"] == pytest.approx(2.0)


# --- resetting -------------------------------------------------------------------------------------------------------


def test_a_breaker_that_was_reset_looks_at_nothing_from_before(alone: Stage) -> None:
    for _ in range(12):
        call(alone, ONE, 1.0)
    alone.look()
    reset(alone, reason="the price was wrong")
    alone.look()
    assert stopped(alone) == []
    view = shown(alone)
    assert (view["state"], view["value"], view["actor"]) == ("closed", 0.0, "ann")
    assert alone.deployment(str(alone.pointer().active_deployment)).rollout.tripped is None
    for _ in range(10):
        call(alone, ONE, 1.0)
    alone.look()
    assert stopped(alone) == []
    assert shown(alone)["value"] == pytest.approx(10.0)
    call(alone, ONE, 1.0)
    alone.look()
    assert stopped(alone) == ["v1"]
    assert types(alone).count("breaker.tripped") == 2
    assert types(alone).count("breaker.reset") == 1


def test_a_release_on_trial_is_stopped_by_its_first_fault(alone: Stage) -> None:
    alone.serve(ONE, [f"t{n}" for n in range(10)], status=500)
    alone.look()
    assert stopped(alone) == ["v1"]
    reset(alone, half_open=True)
    alone.serve(ONE, ["good"])
    alone.look()
    assert (stopped(alone), shown(alone, metric="error_rate")["state"]) == ([], "half_open")
    alone.serve(ONE, ["bad"], status=500)
    alone.look()
    assert stopped(alone) == ["v1"]
    assert str(shown(alone, metric="error_rate")["reason"]).startswith("breaker on trial: 50.0% failed tasks")


def test_a_trial_without_a_fault_ends_in_a_closed_breaker(alone: Stage) -> None:
    alone.serve(ONE, [f"t{n}" for n in range(10)], status=500)
    alone.look()
    reset(alone, half_open=True)
    alone.pass_time(59.0)
    assert shown(alone, metric="error_rate")["state"] == "half_open"
    alone.pass_time(2.0)
    assert shown(alone, metric="error_rate")["state"] == "closed"
    alone.serve(ONE, ["bad"], status=500)
    alone.look()
    assert stopped(alone) == []


def test_a_release_that_was_taken_back_can_be_on_trial_beside_the_ring(behind: Stage) -> None:
    for _ in range(3):
        call(behind, TWO, 1.0, "t1")
    behind.look()
    reset(behind, half_open=True)
    behind.look()
    assert stopped(behind) == []
    pointer = behind.pointer()
    for _ in range(3):
        call(behind, TWO, 1.0, "t1")
    behind.look()
    assert stopped(behind) == ["v2"]
    assert behind.pointer() == pointer
    with behind.store.snapshot() as snapshot:
        told = [item.event for item in snapshot.events(limit=1_000) if item.event.type.value == "breaker.tripped"]
        assert [snapshot.deployment(str(event.deployment)).digest for event in told] == [TWO.digest] * 2  # type: ignore[union-attr]


def test_a_release_that_is_deployed_again_begins_anew(alone: Stage) -> None:
    alone.deploy(TWO)
    for number in range(11):
        call(alone, TWO, 1.0, f"t{number}")
    alone.look()
    assert stopped(alone) == ["v2"]
    alone.pass_time(20.0)
    alone.deploy(TWO, override="it was the price")
    assert stopped(alone) == []
    assert alone.pointer().candidate == TWO.digest


def test_only_what_is_open_can_be_reset_and_only_by_who_may(alone: Stage) -> None:
    with pytest.raises(Conflict, match="no such breaker is open in dev of support"):
        reset(alone)
    with pytest.raises(NotFound):
        reset_breakers(alone.office, ADMIN, AGENT, "nowhere", Reset())
    for _ in range(12):
        call(alone, ONE, 1.0)
    alone.look()
    with pytest.raises(Conflict):
        reset(alone, metric="error_rate")
    with pytest.raises(Forbidden):
        reset_breakers(alone.office, BOB, AGENT, "dev", Reset())
    assert stopped(alone) == ["v1"]


def test_the_list_shows_every_declared_breaker_with_what_it_sees(alone: Stage) -> None:
    call(alone, ONE, 1.5, "t1")
    alone.serve(ONE, [f"t{n}" for n in range(10)])
    views = list_breakers(alone.office, BOB)["breakers"]
    assert [(item["scope"], item["metric"], item["value"], item["state"]) for item in views] == [
        ("deployment", "cost", 1.5, "closed"),
        ("deployment", "error_rate", 0.0, "closed"),
        ("deployment", "model_error_rate", None, "closed"),
        ("run", "cost", 1.5, "closed"),
        ("workspace", "cost", 1.5, "closed"),
    ]
    assert views[0]["since"] is None


def test_what_breakers_hold_is_stored_as_it_is(stage: Stage) -> None:
    stage.deploy(ONE)
    for _ in range(12):
        call(stage, ONE, 1.0)
    stage.look()
    with stage.store.transaction() as transaction:
        (record,) = transaction.breakers(AGENT, "dev")
        assert (record.release, record.state, record.value) == (ONE.digest, BreakerState.OPEN, 12.0)
        transaction.save_breaker(replace(record, state=BreakerState.CLOSED, task="t"))
        assert transaction.breakers() == (replace(record, state=BreakerState.CLOSED, task="t"),)
        assert transaction.breakers("another") == ()
