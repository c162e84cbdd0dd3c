"""Rollouts: what the judge says of one, what one will be able to tell, holding one on and letting one go on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from turnout.domain.errors import Conflict, InvalidRequest
from turnout.domain.events import Event, EventType
from turnout.domain.judge import JudgeConfig, PowerPlan, plan_power
from turnout.domain.models import FULL_WEIGHT, CanaryStep, Condition, Deployment, JudgeSettings, Ramp, RingSettings
from turnout.domain.outcomes import Tally, TallyKey
from turnout.domain.phases import IN_PROGRESS
from turnout.domain.policy import Verb, is_last_ring
from turnout.domain.ramp import PAUSED_UNTIL
from turnout.domain.rollout import choose_canary
from turnout.domain.verdicts import build_judge_config, choose_judge
from turnout.ports import Snapshot, Transaction
from turnout.schemas import DeploymentView, DetectionView, RolloutPlanView, RolloutStepView, RolloutView
from turnout.services.deployments import gather_facts
from turnout.services.office import Actor, Office, check_ring, find_release
from turnout.services.views import view_deployment, view_time

_DAY = 86_400.0
_FEWEST = 20  # tasks of a release, before it is said how often it fails
_MOST_DEPLOYMENTS = 1_000  # of one ring that are looked through
_EVER = 1e9  # hours
_DONE = 1e-9  # of the evidence is still missing


def show_rollout(office: Office, actor: Actor, agent: str, ring: str) -> RolloutView:
    """The rollout of a ring with what its judge says: the one under way, else the newest that had a canary."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        check_ring(snapshot, agent, ring)
        pointer = snapshot.pointer(agent, ring)
        deployment = _find(snapshot, agent, ring, pointer.rollout)
        settings = _settings(snapshot, deployment)
        judgement = snapshot.judgement(deployment.id)
        return {
            "deployment": view_deployment(snapshot, deployment),
            "running": pointer.rollout == deployment.id,
            "paused": deployment.rollout.paused,
            "baking": pointer.rollout == deployment.id == pointer.active_deployment,
            "holdback": pointer.holdback * 100 / FULL_WEIGHT,
            "ramp": settings.ramp.value,
            "limit": settings.limit,
            "inconclusive": settings.inconclusive.value,
            "began_at": view_time(deployment.rollout.began_at) if deployment.rollout.began_at else None,
            "verdict": dict(judgement.verdict) if judgement is not None else None,
            "decided": judgement.decided if judgement is not None else None,
            "unknown_reports": snapshot.unknown_reports(),
        }


def pause(office: Office, actor: Actor, agent: str, ring: str, *, paused: bool) -> DeploymentView:
    """Keep a rollout at its step, or let it go on. The judge and the breakers go on either way.

    What it waits for is said at once, not when the controller comes by: the answer would be that of the moment before.
    """
    now = office.clock.now()
    with office.store.transaction() as transaction:
        found = _find_canary(transaction, actor, agent, ring)
        if found.rollout.paused != paused:
            found = _paused(found, now) if paused else _resumed(found, now)
            type_ = EventType.ROLLOUT_PAUSED if paused else EventType.ROLLOUT_RESUMED
            _save(transaction, found, type_, actor, now)
        view = view_deployment(transaction, found)
    office.wake(agent, ring)
    return view


def advance(office: Office, actor: Actor, agent: str, ring: str) -> DeploymentView:
    """Leave the present canary step without waiting for its time and tasks."""
    now = office.clock.now()
    with office.store.transaction() as transaction:
        found = _find_canary(transaction, actor, agent, ring)
        found = replace(found, rollout=replace(found.rollout, advance=True))
        _save(transaction, found, EventType.ROLLOUT_ADVANCE_REQUESTED, actor, now)
        view = view_deployment(transaction, found)
    office.wake(agent, ring)
    return view


def _find_canary(snapshot: Snapshot, actor: Actor, agent: str, ring: str) -> Deployment:
    """The rollout under way that an actor may steer. Raises `Conflict`, `Forbidden`."""
    actor.check(Verb.DEPLOY, ring)
    check_ring(snapshot, agent, ring)
    running = [item for item in snapshot.unfinished(agent, ring) if item.phase in IN_PROGRESS]
    found = next((item for item in running if item.rollout.step >= 0), None)
    if found is None:
        raise Conflict(f"no canary runs in {ring} of {agent}", hint=f"see `turnout status {agent}`")
    release = snapshot.release(found.digest)
    if release is not None:
        last_ring = is_last_ring(gather_facts(snapshot, agent, ring, release))
        actor.check(Verb.DEPLOY, ring, last_ring=last_ring)
    return found


def _save(transaction: Transaction, changed: Deployment, type_: EventType, actor: Actor, now: float) -> None:
    transaction.save_deployment(changed)
    data = {"step": changed.rollout.step + 1}
    transaction.emit(Event(type_, now, actor.name, changed.agent, changed.ring, changed.id, data))


def _paused(deployment: Deployment, now: float) -> Deployment:
    rollout = replace(deployment.rollout, paused=True, paused_at=now)
    return replace(deployment, rollout=rollout, condition=Condition("paused", PAUSED_UNTIL, now))


def _resumed(deployment: Deployment, now: float) -> Deployment:
    """The time of the pause does not count towards the limit."""
    rollout = deployment.rollout
    began_at = rollout.began_at + max(now - rollout.paused_at, 0.0)
    return replace(deployment, rollout=replace(rollout, paused=False, began_at=began_at), condition=None)


def plan_rollout(office: Office, actor: Actor, agent: str, ring: str, ref: str | None) -> RolloutPlanView:
    """What a rollout of a release (None: by the rules of the one that serves) could tell, by the traffic of the last day.

    Raises `Conflict` where nothing serves yet, or nobody called.
    """
    actor.check(Verb.READ)
    now = office.clock.now()
    with office.store.snapshot() as snapshot:
        check_ring(snapshot, agent, ring)
        stable = find_release(snapshot, agent, f"ring:{ring}")
        candidate = find_release(snapshot, agent, ref) if ref is not None else stable
        own, serving = (item.spec.ring(ring) or RingSettings(ring) for item in (candidate, stable))
        settings = choose_judge(own, serving)
        since = _serves_since(snapshot, agent, ring, now)
        counted = snapshot.tallies(since, agent, ring)
    requests = sum(tally.requests for tally in counted.values())
    if not requests:
        raise Conflict(
            f"nobody called {ring} of {agent} in the last day, so nothing can be said",
            hint="send it some traffic first",
        )
    past = counted.get(TallyKey(agent, ring, stable.digest), Tally())
    config = build_judge_config(settings, stable.spec.success, past if past.requests >= _FEWEST else Tally())
    steps = choose_canary(own, serving)
    if all(step.weight == FULL_WEIGHT for step in steps):
        raise InvalidRequest(f"{candidate.version} declares no canary for {ring}", hint="see [[rings.<name>.canary]]")
    return _view_plan(config, settings, requests * 3600 / max(now - since, 60.0), past.requests, steps)


def _view_plan(
    config: JudgeConfig, settings: JudgeSettings, pace: float, seen: int, steps: tuple[CanaryStep, ...]
) -> RolloutPlanView:
    limit = settings.limit / 3600
    compared = [step.weight / FULL_WEIGHT for step in steps if step.weight < FULL_WEIGHT]
    proofs = plan_power(config, pace, _shares_of_levels(settings, compared), limit, effects=())
    shown = list(_view_steps(settings, pace, steps, proofs))
    watched = settings.ramp is Ramp.WATCH  # it ends without asking the judge; the others stay until the limit
    spans = _watched_spans(settings, shown, limit) if watched else [(compared[0], limit)]
    return {
        "tasks_per_hour": pace,
        "rates": {"failure": config.history.failure, "intervention": config.history.intervention},
        "seen": seen,
        "assumed": seen < _FEWEST,
        "ramp": settings.ramp.value,
        "limit_hours": proofs.limit,
        "decides": proofs.decides,
        "hours_to_pass": proofs.hours_to_pass,
        "over_after_hours": shown[-1]["leaves_at_hours"] if watched else None,
        "bake_hours": _bake_hours(settings),
        "steps": shown,
        "detections": list(_view_detections(config, pace, spans, limit)),
    }


def _shares_of_levels(settings: JudgeSettings, compared: Sequence[float]) -> tuple[float, float, float]:
    """At which share each of the three levels of margins is proven, as `step_is_earned` asks for it: all at the last step,
    or the last level there, one less at each step before, and the first level already at the first step.
    """
    last = compared[-1]
    if settings.ramp is not Ramp.EVIDENCE:
        return last, last, last
    return compared[0], compared[max(len(compared) - 2, 0)], last


def _bake_hours(settings: JudgeSettings) -> float:
    """How long the judge compares after 100 %: without a holdback there is nothing to compare with."""
    return settings.bake / 3600 if settings.holdback else 0.0


def _watched_spans(
    settings: JudgeSettings, steps: Sequence[RolloutStepView], limit: float
) -> list[tuple[float, float]]:
    """The shares of a candidate that is only watched, each with its hours, until nothing is compared any more."""
    ends = [limit if step["leaves_at_hours"] is None else step["leaves_at_hours"] for step in steps]
    hours = [end - before for before, end in pairwise([0.0, *ends])]
    spans = [(step["share"], span) for step, span in zip(steps, hours, strict=True) if step["share"] < 1]
    return [*spans, (1 - settings.holdback / FULL_WEIGHT, _bake_hours(settings))] if _bake_hours(settings) else spans


def _view_detections(
    config: JudgeConfig, pace: float, spans: Sequence[tuple[float, float]], limit: float
) -> Iterator[DetectionView]:
    """Evidence gathers over all spans, in each at the pace of its share. What they are too short for is shown as it would
    be if the first one went on.
    """
    plans = [plan_power(config, pace, (share,), _EVER).detections for share, _ in spans]
    for found in zip(*plans, strict=True):
        hours, tasks, left = 0.0, 0.0, 1.0
        for (share, span), item in zip(spans, found, strict=True):
            spent = span if item.hours is None else min(span, left * item.hours)
            hours, tasks = hours + spent, tasks + spent * pace * share
            left -= 0.0 if item.hours is None else spent / item.hours
            if left < _DONE:
                break
        first, in_time = found[0], left < _DONE
        if not in_time:
            hours = first.hours if first.hours is not None and first.hours <= limit else math.inf
            tasks = hours * pace * first.share
        yield {
            "metric": first.metric,
            "effect": first.effect,
            "tasks": math.ceil(tasks) if hours < math.inf else None,
            "hours": hours if hours < math.inf else None,
            "in_time": in_time,
        }


def _view_steps(
    settings: JudgeSettings, pace: float, steps: tuple[CanaryStep, ...], proofs: PowerPlan
) -> Iterator[RolloutStepView]:
    """Each step waits for its time and tasks, and where the ramp asks for it for proof. None: not within the limit."""
    left: float | None = 0.0
    for number, step in enumerate(steps, start=1):
        share = step.weight / FULL_WEIGHT
        own = max(step.duration / 3600, step.tasks / (pace * share))
        level = max(len(proofs.steps) - len(steps) + number - 1, 0)
        asked = settings.ramp is Ramp.EVIDENCE or (settings.ramp is Ramp.TIMED and number == len(steps))
        proof = proofs.steps[level] if asked else None
        left = None if left is None or (proof is not None and proof.leaves_at is None) else left + own
        if left is not None and proof is not None and proof.leaves_at is not None:
            left = max(left, proof.leaves_at)
        left = left if left is not None and left <= settings.limit / 3600 else None
        yield {
            "share": share,
            "seconds": step.duration,
            "tasks": step.tasks,
            "proof": proof is not None,
            "leaves_at_hours": left,
            "slowest": proof.slowest if proof is not None else None,
        }


def _find(snapshot: Snapshot, agent: str, ring: str, rollout: str | None) -> Deployment:
    if rollout is not None and (named := snapshot.deployment(rollout)) is not None:
        return named
    found = next((item for item in snapshot.deployments(agent, ring) if item.rollout.step >= 0), None)
    if found is None:
        raise Conflict(f"there was no rollout in {ring} of {agent} yet", hint="promote a release to it")
    return found


def _settings(snapshot: Snapshot, deployment: Deployment) -> JudgeSettings:
    """As far as it is known now: by the release that serves, unless that is the one of the rollout."""
    pointer = snapshot.pointer(deployment.agent, deployment.ring)
    other = pointer.last_good if pointer.stable == deployment.digest else pointer.stable
    candidate = snapshot.release(deployment.digest)
    stable = snapshot.release(other) if other is not None else None
    own = candidate.spec.ring(deployment.ring) if candidate is not None else None
    return choose_judge(own or RingSettings(deployment.ring), stable.spec.ring(deployment.ring) if stable else None)


def _serves_since(snapshot: Snapshot, agent: str, ring: str, now: float) -> float:
    """Since when a ring serves, whichever release; a day at most. What it was asked since tells its pace."""
    began = (item.active_at for item in snapshot.deployments(agent, ring, _MOST_DEPLOYMENTS) if item.active_at)
    return max(min(began, default=now - _DAY), now - _DAY)
