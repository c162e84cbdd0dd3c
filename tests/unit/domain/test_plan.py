"""What is done next for one ring, situation by situation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.domain.ring_world import RingWorld
from tests.unit.domain.values import AGENT, CANARY, RING, make_approval, make_deployment, make_release, make_replica
from tests.unit.domain.views import (
    ALL,
    ASKED,
    CAREFUL,
    EXITED,
    NEW,
    NOW,
    OLD,
    ON_OLD,
    READY,
    SIGNED,
    SMOKED,
    STARTING,
    UNREADY,
    deploying,
    look,
    validating,
)
from turnout.domain.actions import (
    Activate,
    EnterStep,
    MarkPrepared,
    MarkSmokePassed,
    Move,
    Prepare,
    Retreat,
    RunSmoke,
    StartReplica,
    Verify,
    Wait,
)
from turnout.domain.models import (
    Abort,
    ChangeRule,
    Condition,
    Deployment,
    Kind,
    Pointer,
    Quarantine,
    Release,
    ReplicaState,
    Retired,
    RingSettings,
    Rollout,
)
from turnout.domain.phases import Phase
from turnout.domain.plan import plan
from turnout.domain.replicas import CRASH_LOOP_ATTEMPTS
from turnout.domain.view import Job, RingView

# --- rest ------------------------------------------------------------------------------------------------------------


def test_an_empty_ring_plans_nothing() -> None:
    assert plan(RingView(Pointer(AGENT, RING), {}), NOW) == ()


def test_a_ring_at_rest_plans_nothing() -> None:
    assert plan(look(), NOW) == ()


def test_a_condition_that_says_nothing_new_is_not_written_again() -> None:
    waiting = Condition("build_slot", "waiting for a build slot", NOW - 5)
    assert plan(look(make_deployment(NEW), slot_free=False), NOW) == (Wait("dep_1", replace(waiting, since=NOW)),)
    assert plan(look(make_deployment(NEW, condition=waiting), slot_free=False), NOW) == ()


# --- build and approval ----------------------------------------------------------------------------------------------


def test_preparation_is_started_once_and_waited_for() -> None:
    building = make_deployment(NEW, phase=Phase.BUILDING)
    assert plan(look(building), NOW)[0] == Prepare("dep_1", NEW.digest)
    assert not any(isinstance(item, Prepare) for item in plan(look(building, preparations={"dep_1": Job()}), NOW))


def test_a_preparation_that_went_well_is_noted() -> None:
    building = make_deployment(NEW, phase=Phase.BUILDING)
    assert plan(look(building, preparations={"dep_1": Job(over=True)}), NOW) == (MarkPrepared("dep_1"),)


def test_a_preparation_that_failed_fails_the_deployment_for_its_reason() -> None:
    building = make_deployment(NEW, phase=Phase.BUILDING)
    view = look(building, preparations={"dep_1": Job(over=True, error="no such package")})
    assert plan(view, NOW) == (Move("dep_1", Phase.FAILED, "no such package"),)


def test_an_approval_is_waited_for_and_then_named() -> None:
    built = make_deployment(ASKED, phase=Phase.BUILDING, prepared=True)
    (waits,) = plan(look(built), NOW)
    assert isinstance(waits, Wait)
    assert waits.condition.type == "awaiting_approval"
    approved = make_approval(ASKED, "bob", at=NOW)
    attest, move = plan(look(built, approvals=(approved,)), NOW)
    assert attest == Verify("dep_1", ASKED.digest, ())
    assert move == Move("dep_1", Phase.DEPLOYING, "approved by bob"), "nothing is demanded, so nothing waits for it"


def test_a_result_that_grew_old_while_a_deployment_waited_holds_it() -> None:
    built = make_deployment(ASKED, phase=Phase.BUILDING, prepared=True)
    approved = make_approval(ASKED, "bob", at=NOW)
    (waits,) = plan(look(built, approvals=(approved,), unproven=("the suite was passed too long ago",)), NOW)
    assert isinstance(waits, Wait)
    assert (waits.condition.type, waits.condition.message) == ("awaiting_evals", "the suite was passed too long ago")
    allowed = replace(built, override="the suite itself is broken")
    assert Move("dep_1", Phase.DEPLOYING, "approved by bob") in plan(
        look(allowed, approvals=(approved,), unproven=("the suite was passed too long ago",)), NOW
    )


def test_a_change_that_asks_for_somebody_waits_for_them() -> None:
    rule = ChangeRule(("code",), approvers=("lead", "owner"))
    governed = make_release("governed", rings=(RingSettings(RING, changes=(rule,)),))
    built = make_deployment(governed, phase=Phase.BUILDING, prepared=True)
    world: dict[str, Any] = {"releases": {**ALL, governed.digest: governed}}
    (waits,) = plan(look(built, approvals=(make_approval(governed, "bob", at=NOW),), **world), NOW)
    assert isinstance(waits, Wait)
    assert waits.condition.message == "lead or owner has to approve; so far approved by bob"
    given = (make_approval(governed, "bob", at=NOW), make_approval(governed, "owner", at=NOW))
    assert Move("dep_1", Phase.DEPLOYING, "approved by bob, owner") in plan(look(built, approvals=given, **world), NOW)


def test_what_the_ring_demands_is_verified_before_anything_starts() -> None:
    built = make_deployment(SIGNED, phase=Phase.BUILDING, prepared=True)
    attest, wait = plan(look(built), NOW)
    assert attest == Verify("dep_1", SIGNED.digest, ("provenance",))
    assert isinstance(wait, Wait)
    assert wait.condition.type == "verifying"
    going = look(built, verifications={"dep_1": Job()})
    assert [type(action) for action in plan(going, NOW)] == [Wait]
    failed = look(built, verifications={"dep_1": Job(over=True, error="no provenance")})
    assert plan(failed, NOW) == (Move("dep_1", Phase.FAILED, "no provenance"),)
    (move,) = plan(look(built, verifications={"dep_1": Job(over=True)}), NOW)
    assert move == Move("dep_1", Phase.DEPLOYING, "no approval is needed; provenance verified")


def test_a_release_cannot_drop_what_the_stable_one_demands_and_an_override_passes_over_it() -> None:
    built = make_deployment(NEW, phase=Phase.BUILDING, prepared=True)
    after_signed = replace(ON_OLD, stable=SIGNED.digest)
    assert Verify("dep_1", NEW.digest, ("provenance",)) in plan(look(built, pointer=after_signed), NOW)
    urgent = make_deployment(NEW, phase=Phase.BUILDING, prepared=True, override="urgent")
    assert Move("dep_1", Phase.DEPLOYING, "no approval is needed") in plan(look(urgent, pointer=after_signed), NOW)


def test_a_rejection_fails_the_deployment() -> None:
    built = make_deployment(ASKED, phase=Phase.BUILDING, prepared=True)
    rejected = make_approval(ASKED, "bob", approved=False, at=NOW)
    assert plan(look(built, approvals=(rejected,)), NOW) == (Move("dep_1", Phase.FAILED, "rejected by bob"),)


def test_the_stable_release_sets_the_bar_for_a_laxer_one() -> None:
    built = make_deployment(NEW, phase=Phase.BUILDING, prepared=True)
    strict = replace(ON_OLD, stable=ASKED.digest)
    (waits,) = plan(look(built, pointer=strict, replicas=(make_replica(ASKED),)), NOW)
    assert isinstance(waits, Wait)


# --- start -----------------------------------------------------------------------------------------------------------


def test_replicas_are_started_beside_the_stable_ones() -> None:
    assert StartReplica(NEW.digest, 0, 1) in plan(look(deploying(NEW)), NOW)


def test_a_release_is_validated_only_when_all_of_its_replicas_are_ready() -> None:
    pair = make_release("pair", rings=(RingSettings(RING, replicas=2),))
    releases = {**ALL, pair.digest: pair}
    view = replace(
        look(deploying(pair), others=(make_replica(pair), make_replica(pair, STARTING, 1))), releases=releases
    )
    assert not any(isinstance(item, Move) for item in plan(view, NOW))
    view = replace(view, replicas=(make_replica(OLD), make_replica(pair), make_replica(pair, READY, 1)))
    assert plan(view, NOW)[0] == Move("dep_1", Phase.VALIDATING, "2 of 2 replicas are ready")


def test_a_release_that_never_gets_ready_fails_when_its_time_is_over() -> None:
    view = look(deploying(NEW), others=(make_replica(NEW, STARTING, message="GET /ping answered 503"),))
    assert not any(isinstance(item, Move) for item in plan(view, NOW + 60.0))
    (failed,) = plan(view, NOW + 60.1)
    assert failed == Move("dep_1", Phase.FAILED, "not ready within 60 s: replica 0: GET /ping answered 503")


def test_a_new_release_that_keeps_ending_is_given_up() -> None:
    ended = make_replica(NEW, EXITED, attempt=CRASH_LOOP_ATTEMPTS, started_at=NOW - 1, exited_at=NOW, exit_code=-9)
    first, *_ = plan(look(deploying(NEW), others=(ended,)), NOW)
    assert first == Move("dep_1", Phase.FAILED, "replica 0 keeps ending: ended by signal 9 after 4 starts")


def test_a_stable_release_that_keeps_ending_is_started_for_ever() -> None:
    ended = make_replica(OLD, EXITED, attempt=5_000, started_at=NOW - 1, exited_at=NOW)
    assert plan(look(replicas=(ended,)), NOW) == ()
    assert plan(look(replicas=(ended,)), NOW + 30.0) == (StartReplica(OLD.digest, 0, 5_001),)


# --- validation ------------------------------------------------------------------------------------------------------


def test_smoke_tasks_run_against_a_ready_replica() -> None:
    tried = validating(SMOKED, smoke_passed=False)
    first, *_ = plan(look(tried, others=(make_replica(SMOKED, STARTING), make_replica(SMOKED, READY, 1))), NOW)
    assert first == RunSmoke("dep_1", SMOKED.digest, "v4-1:1")


def test_smoke_tasks_that_passed_are_noted_and_those_that_failed_take_the_candidate_back() -> None:
    tried = validating(SMOKED, smoke_passed=False)
    view = look(tried, others=(make_replica(SMOKED),))
    assert plan(replace(view, smoke={"dep_1": Job(over=True)}), NOW) == (MarkSmokePassed("dep_1"),)
    broken = plan(replace(view, smoke={"dep_1": Job(over=True, error="greet answered 500")}), NOW)
    assert broken == (Retreat("dep_1", "greet answered 500", quarantine=False),)


def test_smoke_tasks_without_a_replica_to_ask_are_given_up_when_the_time_is_over() -> None:
    tried = validating(SMOKED, smoke_passed=False)
    view = look(tried, others=(make_replica(SMOKED, UNREADY),))
    assert plan(view, NOW + 60.0) == ()
    assert isinstance(plan(view, NOW + 60.1)[0], Retreat)


def test_a_release_without_canary_becomes_active_at_once() -> None:
    view = look(validating(NEW), others=(make_replica(NEW),))
    assert plan(view, NOW) == (Activate("dep_1", "replicas are healthy"),)


@pytest.mark.parametrize("state", [STARTING, UNREADY, EXITED])
def test_a_release_that_is_not_ready_any_more_does_not_replace_one_that_is(state: ReplicaState) -> None:
    view = look(validating(NEW), others=(make_replica(NEW, state, exited_at=NOW),))
    assert not any(isinstance(item, Activate) for item in plan(view, NOW))


@pytest.mark.parametrize("state", [STARTING, UNREADY, EXITED])
def test_a_candidate_that_is_not_ready_any_more_gets_no_further_step(state: ReplicaState) -> None:
    view = look(validating(CAREFUL), others=(make_replica(CAREFUL, state, exited_at=NOW),))
    assert not any(isinstance(item, EnterStep) for item in plan(view, NOW))


def test_a_candidate_that_stays_unready_is_taken_back() -> None:
    since = Condition("unready", "no replica of the candidate is ready", NOW)
    view = look(validating(NEW, condition=since), others=(make_replica(NEW, UNREADY, message="answered 503"),))
    assert plan(view, NOW + 60.0) == ()
    assert plan(view, NOW + 60.1) == (
        Retreat("dep_1", "no replica is ready: replica 0: answered 503", quarantine=False),
    )


def test_nothing_moves_on_while_the_proxy_has_not_taken_the_routes() -> None:
    for view in (look(validating(NEW), others=(make_replica(NEW),)), in_canary(1)):
        (waits,) = plan(replace(view, routed=False), NOW + 600.0)
        assert isinstance(waits, Wait)
        assert waits.condition.type == "proxy"


# --- canary ----------------------------------------------------------------------------------------------------------


def in_canary(step: int, **fields: Any) -> RingView:
    """A canary that entered a step now."""
    tried = validating(CAREFUL, rollout=Rollout(step, NOW, advance=bool(fields.pop("advance", False))))
    pointer = replace(ON_OLD, candidate=CAREFUL.digest, weight=CANARY[step].weight)
    return look(tried, **{"pointer": pointer, "others": (make_replica(CAREFUL),), **fields})


def test_a_canary_begins_with_its_first_step() -> None:
    view = look(validating(CAREFUL), others=(make_replica(CAREFUL),))
    assert plan(view, NOW) == (EnterStep("dep_1", 0, 1_000),)


def test_a_step_waits_for_its_time_and_its_tasks() -> None:
    for view, now in ((in_canary(0, tasks=2), NOW + 59.0), (in_canary(0, tasks=1), NOW + 60.0)):
        (waits,) = plan(view, now)
        assert isinstance(waits, Wait)
        assert waits.condition.message == "step 1 of 2: 10 % until 60 s and 2 tasks"


def test_a_step_that_is_over_is_followed_by_the_next() -> None:
    assert plan(in_canary(0, tasks=2), NOW + 60.0) == (EnterStep("dep_1", 1, 5_000),)
    assert plan(in_canary(0, advance=True), NOW) == (EnterStep("dep_1", 1, 5_000),)


def test_after_the_last_step_the_candidate_becomes_active() -> None:
    assert plan(in_canary(1), NOW + 60.0) == (Activate("dep_1", "all canary steps passed"),)


def test_a_crash_loop_in_a_canary_takes_the_candidate_back_into_quarantine() -> None:
    ended = make_replica(CAREFUL, EXITED, attempt=CRASH_LOOP_ATTEMPTS, started_at=NOW - 1, exited_at=NOW, exit_code=1)
    first, *_ = plan(in_canary(0, others=(ended,)), NOW)
    assert first == Retreat("dep_1", "replica 0 keeps ending: exit code 1 after 4 starts", quarantine=True)


# --- abort and rollback ----------------------------------------------------------------------------------------------

ABORT = Abort("bob", "it is wrong", quarantine=True)


@pytest.mark.parametrize(
    ("phase", "action"),
    [
        (Phase.QUEUED, Move("dep_1", Phase.BUILDING, "aborted by bob: it is wrong")),
        (Phase.BUILDING, Move("dep_1", Phase.FAILED, "aborted by bob: it is wrong")),
        (Phase.DEPLOYING, Move("dep_1", Phase.FAILED, "aborted by bob: it is wrong")),
        (Phase.VALIDATING, Retreat("dep_1", "aborted by bob: it is wrong", quarantine=False)),
    ],
)
def test_every_state_has_its_own_way_out(phase: Phase, action: object) -> None:
    aborted = make_deployment(NEW, phase=phase, phase_at=NOW, abort=ABORT)
    assert plan(look(aborted, slot_free=False), NOW) == (action,)


def test_an_abort_quarantines_only_what_callers_had_reached() -> None:
    view = in_canary(0)
    assert view.deployment is not None
    aborted = replace(view, deployment=replace(view.deployment, abort=ABORT))
    assert plan(aborted, NOW)[0] == Retreat("dep_1", "aborted by bob: it is wrong", quarantine=True)


@pytest.mark.parametrize(
    ("phase", "action"),
    [
        (Phase.BUILDING, Move("dep_1", Phase.FAILED, "in quarantine: it lied")),
        (Phase.DEPLOYING, Move("dep_1", Phase.FAILED, "in quarantine: it lied")),
        (Phase.VALIDATING, Retreat("dep_1", "in quarantine: it lied", quarantine=False)),
    ],
)
def test_a_release_that_another_ring_took_back_for_a_fault_goes_no_further(phase: Phase, action: object) -> None:
    running = make_deployment(NEW, phase=phase, phase_at=NOW)
    doubt = Quarantine(AGENT, NEW.digest, "dev", "it lied", "bob", running.created_at)
    view = look(running, others=(make_replica(NEW),), quarantine=doubt)
    assert plan(view, NOW)[0] == action
    view = replace(view, deployment=replace(running, override="it did not"))
    assert plan(view, NOW)[0] != action
    later = replace(doubt, at=running.created_at + 1)
    assert plan(replace(view, quarantine=later), NOW)[0] == action, "nobody knew of it"


def back_to(release: Release, **fields: Any) -> Deployment:
    return make_deployment(release, "dep_r", kind=Kind.ROLLBACK, reason="it lies", **fields)


WARM = replace(ON_OLD, stable=NEW.digest, last_good=OLD.digest)


@pytest.mark.parametrize("others", [(), (Phase.QUEUED,), (Phase.BUILDING,), (Phase.VALIDATING,)])
def test_a_rollback_to_a_warm_release_comes_first_whatever_else_goes_on(others: tuple[Phase, ...]) -> None:
    running = make_deployment(ASKED, phase=others[0], abort=ABORT) if others else None
    view = look(running, pointer=WARM, rollback=back_to(OLD), others=(make_replica(NEW),), slot_free=False)
    assert plan(view, NOW)[0] == Activate("dep_r", "it lies")


def test_a_retired_release_is_warm_too() -> None:
    pointer = replace(ON_OLD, stable=NEW.digest, retired=(Retired(OLD.digest, NOW),))
    assert plan(look(pointer=pointer, rollback=back_to(OLD), others=(make_replica(NEW),)), NOW)[0] == Activate(
        "dep_r", "it lies"
    )


def test_a_rollback_to_a_release_that_is_not_ready_goes_through_the_states_without_approval_and_canary() -> None:
    strict = make_release("strict", rings=(RingSettings(RING, approvals=3, canary=CANARY),))
    world = RingWorld({**ALL, strict.digest: strict})
    world.ask_deploy(NEW)
    world.settle()
    world.ask_rollback(strict.digest)
    seen = []
    for _ in range(4):
        world.reconcile()
        seen.append(world.deployments["dep_2"].phase)
        assert world.pointer.candidate is None
        world.finish_jobs(None)
        for name in list(world.replicas):
            world.set_state(name, READY)
    assert seen == [Phase.BUILDING, Phase.DEPLOYING, Phase.ACTIVE, Phase.ACTIVE]
    assert world.deployments["dep_1"].phase is Phase.ROLLED_BACK


def test_what_serves_goes_on_serving_while_a_cold_rollback_is_prepared() -> None:
    view = look(pointer=replace(ON_OLD, stable=NEW.digest), rollback=back_to(OLD), replicas=(make_replica(NEW),))
    assert plan(view, NOW) == (Move("dep_r", Phase.BUILDING, "a build slot is free"),)


def test_a_deployment_is_rolled_back_when_the_proxy_has_confirmed_it() -> None:
    leaving = make_deployment(NEW, phase=Phase.ROLLING_BACK)
    assert plan(look(rolling_back=(leaving,), routed=False), NOW) == ()
    assert plan(look(rolling_back=(leaving,)), NOW) == (Move("dep_1", Phase.ROLLED_BACK, "v1 serves production"),)
