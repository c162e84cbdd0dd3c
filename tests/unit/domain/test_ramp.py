"""How a rollout goes on by what its judge and the breakers say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.domain.values import AGENT, RING, make_deployment, make_release, make_replica
from tests.unit.domain.views import NOW, OLD
from turnout.domain.actions import (
    Activate,
    EndBake,
    EnterStep,
    MarkTripped,
    Retreat,
    TakeBack,
    Wait,
)
from turnout.domain.breakers import Trip
from turnout.domain.models import (
    Breaker,
    BreakerScope,
    CanaryStep,
    Deployment,
    Inconclusive,
    Judgement,
    JudgeSettings,
    Kind,
    Pointer,
    Ramp,
    Release,
    RingSettings,
    Rollout,
)
from turnout.domain.phases import Phase
from turnout.domain.plan import plan
from turnout.domain.rollout import EVIDENCE_STEPS, choose_canary
from turnout.domain.view import RingView

STEPS = (CanaryStep(500, 60.0, 10), CanaryStep(2_500), CanaryStep(5_000))
SAYS = Judgement("inconclusive", "cost", 0, 3, 1.0, "40 tasks; cost is not proven yet")
FAIL = replace(SAYS, kind="fail", metric="failure", against=25.0, summary="the judge says fail: failure")
TRIP = Trip(Breaker(BreakerScope.DEPLOYMENT, "error_rate", 0.3), OLD.digest, 0.5)


def candidate(**judge: Any) -> Release:
    settings = JudgeSettings(**{"ramp": Ramp.EVIDENCE, "limit": 3_600.0, **judge})
    return make_release("v9", rings=(RingSettings(RING, canary=STEPS, judge=settings),))


def at_step(step: int, release: Release | None = None, **fields: Any) -> RingView:
    """A rollout that entered a step long enough ago."""
    new = release or candidate()
    rollout = Rollout(step, NOW - 100.0, began_at=NOW - 200.0, **fields.pop("rollout", {}))
    deployment = make_deployment(
        new, phase=Phase.VALIDATING, prepared=True, smoke_passed=True, phase_at=NOW, rollout=rollout
    )
    pointer = Pointer(
        AGENT, RING, OLD.digest, new.digest, STEPS[step].weight, active_deployment="dep_0", rollout=deployment.id
    )
    given: dict[str, Any] = {"tasks": 10, "judgement": SAYS, "active": make_deployment(OLD, "dep_0", Phase.ACTIVE)}
    return RingView(
        pointer,
        {OLD.digest: OLD, new.digest: new},
        deployment=deployment,
        replicas=(make_replica(OLD), make_replica(new)),
        **{**given, **fields},
    )


def baking(**fields: Any) -> RingView:
    """A release that became active 100 s ago, and is still judged."""
    new = candidate(bake=600.0, holdback=200)
    active = make_deployment(new, "dep_1", Phase.ACTIVE, active_at=NOW - 100.0)
    pointer = Pointer(
        AGENT, RING, new.digest, last_good=OLD.digest, active_deployment="dep_1", rollout="dep_1", holdback=200
    )
    replicas = (make_replica(OLD), make_replica(new))
    releases = {OLD.digest: OLD, new.digest: new}
    given: dict[str, Any] = {"judgement": SAYS, "baking": active, "active": active}
    return RingView(pointer, releases, replicas=replicas, **{**given, **fields})


def condition_of(view: RingView, now: float = NOW) -> str:
    (waits,) = plan(view, now)
    assert isinstance(waits, Wait)
    return waits.condition.type


# --- the ramp --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 1])
def test_each_step_of_the_evidence_ramp_has_to_be_earned(step: int) -> None:
    assert condition_of(at_step(step, judgement=replace(SAYS, proven=step))) == "evidence"
    earned = at_step(step, judgement=replace(SAYS, proven=step + 1))
    assert plan(earned, NOW) == (EnterStep("dep_1", step + 1, STEPS[step + 1].weight),)


def test_a_ramp_of_more_steps_than_margins_needs_proof_for_its_first_step_too() -> None:
    steps = tuple(CanaryStep(weight) for weight in (100, 500, 1_000, 2_500, 5_000))
    settings = JudgeSettings(Ramp.EVIDENCE)
    many = make_release("v9", rings=(RingSettings(RING, canary=steps, judge=settings),))
    assert condition_of(at_step(0, many)) == "evidence"
    assert plan(at_step(0, many, judgement=replace(SAYS, proven=1)), NOW) == (EnterStep("dep_1", 1, 500),)


def test_only_what_is_proven_at_the_true_margins_becomes_active() -> None:
    assert condition_of(at_step(2, judgement=replace(SAYS, proven=2))) == "evidence"
    passed = replace(SAYS, kind="pass", proven=3, summary="proven")
    assert plan(at_step(2, judgement=passed), NOW) == (
        Activate("dep_1", "all canary steps passed; proven", bakes=False, holdback=0),
    )


def test_evidence_does_not_replace_the_least_time_and_tasks() -> None:
    assert condition_of(at_step(0, judgement=replace(SAYS, proven=3), tasks=9)) == "canary"


def test_a_timed_ramp_needs_proof_only_at_its_end() -> None:
    timed = candidate(ramp=Ramp.TIMED)
    assert plan(at_step(0, timed), NOW) == (EnterStep("dep_1", 1, 2_500),)
    assert condition_of(at_step(2, timed)) == "evidence"


def test_a_canary_that_is_only_watched_needs_no_proof() -> None:
    assert plan(at_step(2, candidate(ramp=Ramp.WATCH)), NOW)[0] == Activate("dep_1", "all canary steps passed")


def test_evidence_against_it_keeps_a_rollout_at_its_step() -> None:
    held = replace(SAYS, kind="hold", proven=3, summary="failure speaks against it")
    for ramp in Ramp:
        assert condition_of(at_step(0, candidate(ramp=ramp), judgement=held)) == "held"


def test_a_paused_rollout_stays_until_it_is_resumed_or_advanced() -> None:
    proven = replace(SAYS, proven=3)
    assert condition_of(at_step(0, judgement=proven, rollout={"paused": True})) == "paused"
    advanced = at_step(0, rollout={"paused": True, "advance": True}, tasks=0)
    assert plan(advanced, NOW) == (EnterStep("dep_1", 1, 2_500),)


@pytest.mark.parametrize(
    ("policy", "outcome"),
    [(Inconclusive.HOLD, "inconclusive"), (Inconclusive.EXTEND, "evidence"), (Inconclusive.BACK, None)],
)
@pytest.mark.parametrize("judgement", [SAYS, None])
def test_what_cannot_be_decided_in_time_is_never_promoted(
    policy: Inconclusive, outcome: str | None, judgement: Judgement | None
) -> None:
    view = at_step(0, candidate(inconclusive=policy), judgement=judgement)
    if outcome is not None:
        assert condition_of(view, NOW + 3_600.0) == outcome
        return
    (back,) = plan(view, NOW + 3_600.0)
    assert isinstance(back, Retreat)
    assert not back.quarantine
    assert back.reason.startswith("inconclusive after 3600 s: ")


def test_a_ring_that_asks_for_evidence_without_steps_gets_the_usual_ramp() -> None:
    plain = make_release("v9", rings=(RingSettings(RING, judge=JudgeSettings(Ramp.EVIDENCE)),))
    view = at_step(0, plain)
    assert view.deployment is not None
    fresh = replace(view, deployment=replace(view.deployment, rollout=Rollout()), judgement=None)
    assert plan(fresh, NOW) == (EnterStep("dep_1", 0, EVIDENCE_STEPS[0].weight),)


def test_a_release_is_judged_as_the_serving_one_says() -> None:
    strict = make_release("v1", rings=(RingSettings(RING, judge=JudgeSettings(Ramp.EVIDENCE, limit=10.0)),))
    lax = candidate(ramp=Ramp.WATCH)
    view = at_step(2, lax)
    view = replace(view, releases={**view.releases, OLD.digest: strict})
    assert condition_of(view) == "inconclusive"


# --- verdicts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{"rollout": {"paused": True}}, {"tasks": 0}, {"routed": False}])
def test_a_fail_takes_the_candidate_back_whatever_else_is_waited_for(fields: dict[str, Any]) -> None:
    first, *rest = plan(at_step(1, judgement=FAIL, **fields), NOW)
    assert first == Retreat("dep_1", FAIL.summary, quarantine=True, cause=FAIL)
    assert not any(isinstance(action, EnterStep | Activate | Wait) for action in rest)


def test_a_fail_while_it_bakes_rolls_the_active_release_back() -> None:
    view = baking(judgement=FAIL)
    assert plan(view, NOW) == (TakeBack(view.pointer.stable or OLD.digest, FAIL.summary, FAIL),)


def test_a_bake_ends_with_its_time_unless_something_speaks_against_the_release() -> None:
    assert plan(baking(), NOW) == ()
    (end,) = plan(baking(), NOW + 500.0)
    assert isinstance(end, EndBake)
    held = replace(SAYS, kind="hold")
    assert plan(baking(judgement=held), NOW + 500.0) == ()
    assert plan(baking(judgement=held), NOW + 7_200.0) == (), "what speaks against it never gives it everything"


def test_a_release_that_bakes_becomes_active_with_what_it_is_compared_with() -> None:
    passed = replace(SAYS, kind="pass", proven=3, summary="proven")
    (active,) = plan(at_step(2, candidate(bake=60.0, holdback=300), judgement=passed), NOW)
    assert active == Activate("dep_1", "all canary steps passed; proven", bakes=True, holdback=300)


def test_a_judge_of_another_rollout_says_nothing_about_this_one() -> None:
    view = at_step(1, judgement=FAIL)
    view = replace(view, pointer=replace(view.pointer, rollout="dep_7"))
    assert not any(isinstance(action, Retreat) for action in plan(view, NOW))


# --- breakers --------------------------------------------------------------------------------------------------------


def test_a_breaker_on_the_candidate_takes_it_back() -> None:
    view = at_step(1)
    assert view.deployment is not None
    trip = replace(TRIP, digest=view.deployment.digest)
    assert plan(replace(view, trip=trip), NOW)[0] == Retreat("dep_1", trip.describe(), quarantine=True, cause=trip)


def test_a_breaker_on_the_stable_release_goes_before_the_rollout_beside_it() -> None:
    view = at_step(1, judgement=replace(SAYS, proven=3), trip=TRIP)
    good = candidate()
    view = replace(view, pointer=replace(view.pointer, last_good=good.digest))
    assert plan(view, NOW)[0] == TakeBack(OLD.digest, TRIP.describe(), TRIP)


def test_a_breaker_with_nothing_to_go_back_to_is_told_once() -> None:
    view = at_step(0, trip=TRIP, tasks=0)
    assert plan(view, NOW)[0] == MarkTripped("dep_0", TRIP)
    told = make_deployment(OLD, "dep_0", Phase.ACTIVE, rollout=Rollout(tripped="error_rate", tripped_at=NOW - 60.0))
    assert not any(isinstance(action, MarkTripped) for action in plan(replace(view, active=told), NOW))


def test_a_rollback_that_is_under_way_is_not_asked_for_again() -> None:
    view = baking(judgement=FAIL, trip=TRIP)
    rollback = Deployment("dep_2", AGENT, RING, OLD.digest, Kind.ROLLBACK, Phase.QUEUED, "turnout", NOW, NOW)
    assert plan(replace(view, rollback=rollback), NOW) == (Activate("dep_2", "rolled back"),)


def test_a_breaker_that_leads_to_nothing_does_not_hide_the_judge() -> None:
    told = make_deployment(OLD, "dep_0", Phase.ACTIVE, rollout=Rollout(tripped="error_rate", tripped_at=NOW - 60.0))
    for ramp in Ramp:
        view = at_step(1, candidate(ramp=ramp), judgement=FAIL, trip=TRIP, active=told)
        assert plan(view, NOW)[0] == Retreat("dep_1", FAIL.summary, quarantine=True, cause=FAIL)


def test_what_still_stands_much_later_is_told_again() -> None:
    told = make_deployment(OLD, "dep_0", Phase.ACTIVE, rollout=Rollout(tripped="error_rate", tripped_at=NOW - 4_000.0))
    assert plan(at_step(0, trip=TRIP, tasks=0, active=told), NOW)[0] == MarkTripped("dep_0", TRIP)


def test_a_rollback_by_itself_that_failed_is_not_tried_again_and_ends_no_bake() -> None:
    assert plan(baking(judgement=FAIL, taken_back=True), NOW + 10_000.0) == ()
    view = baking(taken_back=True)
    trip = replace(TRIP, digest=view.pointer.stable or OLD.digest)
    assert plan(replace(view, trip=trip), NOW) == (MarkTripped("dep_1", trip),)


@pytest.mark.parametrize("fields", [{"tasks": 0}, {"judgement": replace(SAYS, kind="hold")}])
def test_a_rollout_that_waits_for_tasks_or_is_held_runs_out_of_time_too(fields: dict[str, Any]) -> None:
    assert condition_of(at_step(0, **fields), NOW + 3_600.0) == "inconclusive"
    (back,) = plan(at_step(0, candidate(inconclusive=Inconclusive.BACK), **fields), NOW + 3_600.0)
    assert isinstance(back, Retreat)


def test_what_is_proven_by_its_limit_only_takes_its_time() -> None:
    passed = replace(SAYS, kind="pass", proven=3, summary="proven")
    back = candidate(inconclusive=Inconclusive.BACK)
    assert condition_of(at_step(0, back, judgement=passed, tasks=9), NOW + 3_600.0) == "canary"


def test_a_rollout_that_somebody_pushed_through_says_so() -> None:
    (active,) = plan(at_step(2, rollout={"advance": True}), NOW)
    assert isinstance(active, Activate)
    assert active.reason == f"the last canary step was left by hand; {SAYS.summary}"


def test_a_canary_that_is_only_watched_waits_for_its_time_however_long() -> None:
    slow = RingSettings(RING, canary=(CanaryStep(500, 10_000.0, 10),), judge=JudgeSettings(Ramp.WATCH, limit=3_600.0))
    watched = make_release("v9", rings=(slow,))
    assert condition_of(at_step(0, watched), NOW + 9_000.0) == "canary"
    assert condition_of(at_step(0, watched, tasks=9), NOW + 11_000.0) == "inconclusive", "nobody calls it"


def test_a_pause_outlasts_the_limit_and_the_last_step() -> None:
    paused = {"paused": True, "paused_at": NOW}
    assert condition_of(at_step(0, rollout=paused), NOW + 3_600.0) == "paused"
    beyond = at_step(2, rollout=paused)
    assert beyond.deployment is not None
    past = replace(beyond, deployment=replace(beyond.deployment, rollout=replace(beyond.deployment.rollout, step=3)))
    assert condition_of(past) == "paused"


def test_where_something_has_to_be_proven_no_step_gives_the_candidate_everything() -> None:
    whole = RingSettings(RING, canary=(CanaryStep(500), CanaryStep(10_000)), judge=JudgeSettings(Ramp.EVIDENCE))
    assert choose_canary(whole, None) == (CanaryStep(500),)
    assert choose_canary(replace(whole, canary=(CanaryStep(10_000),)), None) == EVIDENCE_STEPS
    assert choose_canary(replace(whole, judge=None), None) == whole.canary
