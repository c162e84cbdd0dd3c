"""How a rollout goes on by what its judge and the breakers say: back, on, or staying where it is. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from turnout.domain.actions import Action, Activate, EndBake, EnterStep, MarkTripped, Retreat, StopCalls, TakeBack, wait
from turnout.domain.breakers import Trip
from turnout.domain.models import CanaryStep, Deployment, Inconclusive, Judgement, JudgeSettings, Ramp, Rollout
from turnout.domain.phases import Phase
from turnout.domain.rollout import canary_steps, describe_step, step_is_over
from turnout.domain.verdicts import is_out_of_time, step_is_earned
from turnout.domain.view import RingView

TELL_AGAIN_SECONDS = 3_600.0
PAUSED_UNTIL = "until `turnout rollout resume`"


def plan_verdicts(view: RingView, now: float) -> Iterator[Action]:
    """What the breakers and the judge say goes before everything that is under way."""
    tripped = list(_plan_trip(view, view.trip, now))
    yield from tripped
    if any(isinstance(action, Retreat | TakeBack) for action in tripped):
        return
    judgement, deployment = view.judgement, view.deployment
    if judgement is None:
        return
    if deployment is not None and deployment.id == view.pointer.rollout:
        if judgement.kind == "fail" and deployment.phase is Phase.VALIDATING and deployment.abort is None:
            yield Retreat(deployment.id, judgement.summary, quarantine=True, cause=judgement)
    elif view.baking is not None:
        yield from _plan_bake(view, view.baking, judgement, now)


def _plan_trip(view: RingView, trip: Trip | None, now: float) -> Iterator[Action]:
    deployment, pointer = view.deployment, view.pointer
    if trip is None:
        return
    if trip.digest == pointer.candidate and deployment is not None and deployment.phase is Phase.VALIDATING:
        yield Retreat(deployment.id, trip.describe(), quarantine=True, cause=trip)
    elif trip.digest == pointer.stable and pointer.last_good is not None and not view.taken_back:
        yield TakeBack(trip.digest, trip.describe(), trip)
    elif trip.digest not in (pointer.stable, pointer.candidate):
        yield StopCalls(trip)
    elif view.active is not None and _is_news(view.active.rollout, trip, now):
        yield MarkTripped(view.active.id, trip)


def _is_news(rollout: Rollout, trip: Trip, now: float) -> bool:
    """What stands is told once, and again when it stands much later."""
    quiet = max(TELL_AGAIN_SECONDS, trip.breaker.window)
    return rollout.tripped != trip.breaker.metric or now - rollout.tripped_at >= quiet


def _plan_bake(view: RingView, baking: Deployment, judgement: Judgement, now: float) -> Iterator[Action]:
    """A release that is active and still judged. What speaks against it prolongs the time, until it is decided, or until
    somebody goes back, or on to the next release.
    """
    settings = view.judge(baking.digest, view.pointer.last_good)
    if judgement.kind == "fail":
        if view.pointer.last_good is not None and not view.taken_back:
            yield TakeBack(baking.digest, judgement.summary, judgement)
        return
    baked = now - (baking.active_at or now)
    if baked >= settings.bake and judgement.kind != "hold":
        yield EndBake(baking.id, f"judged for {baked:.0f} s as the active release: {judgement.summary}")


def plan_canary(view: RingView, deployment: Deployment, now: float) -> Iterator[Action]:
    """Through the canary steps, and then active."""
    stable = view.releases.get(view.pointer.stable) if view.pointer.stable else None
    stable_settings = stable.spec.ring(deployment.ring) if stable is not None else None
    steps = canary_steps(deployment, view.pointer, view.settings(deployment.digest), stable_settings)
    judge = view.judge(deployment.digest, view.pointer.stable)
    at = deployment.rollout.step
    kept = None if deployment.rollout.advance else _kept_at_step(view, deployment, steps, judge, now)
    if isinstance(kept, Retreat):
        yield kept
        return
    if kept is not None:
        yield from wait(deployment, *kept, now)
        return
    if at + 1 < len(steps):
        yield EnterStep(deployment.id, at + 1, steps[at + 1].weight)
        return
    passed = "smoke tasks passed" if view.releases[deployment.digest].spec.smoke else "replicas are healthy"
    if steps:
        passed = "the last canary step was left by hand" if deployment.rollout.advance else "all canary steps passed"
    if steps and view.judgement is not None and judge.ramp is not Ramp.WATCH:
        passed += f"; {view.judgement.summary}"
    bakes = bool(steps) and judge.bake > 0
    yield Activate(deployment.id, passed, bakes=bakes, holdback=judge.holdback if bakes else 0)


def _kept_at_step(
    view: RingView, deployment: Deployment, steps: tuple[CanaryStep, ...], judge: JudgeSettings, now: float
) -> tuple[str, str] | Retreat | None:
    """What keeps a rollout at its step: a condition and its message, or the end of it. None: nothing does."""
    at, judgement, rollout = deployment.rollout.step, view.judgement, deployment.rollout
    place = describe_step(at, steps) if 0 <= at < len(steps) else ""
    if rollout.paused:
        paused = f"paused {PAUSED_UNTIL}"
        return "paused", f"{place}; {paused}" if place else paused
    if not place:
        return None
    if not step_is_over(rollout, steps[at], view.tasks, now):
        kept = "canary", place
    elif judgement is not None and judgement.kind in ("hold", "fail"):
        kept = "held", f"{place}; {judgement.summary}"
    elif step_is_earned(judge, judgement, at, len(steps)):
        return None
    else:
        kept = "evidence", f"{place}, and evidence that it is no worse"
    is_timed = judge.ramp is Ramp.WATCH and now - rollout.entered_at < steps[at].duration  # only time has to pass
    if is_timed or not is_out_of_time(judge, judgement, rollout, now):
        return kept
    said = judgement.summary if judgement is not None else "no task came to it"
    if judge.inconclusive is Inconclusive.BACK:
        return Retreat(deployment.id, f"inconclusive after {judge.limit:g} s: {said}", quarantine=False)
    return "inconclusive", f"{place}; inconclusive after {judge.limit:g} s: `turnout rollout advance` or `abort`"
