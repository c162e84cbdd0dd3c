"""Writes what a plan decided: each action is one transaction, guarded by the lease, with its events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from turnout.domain.actions import (
    Action,
    Activate,
    EndBake,
    EnterStep,
    ForgetRetired,
    MarkPrepared,
    MarkSmokePassed,
    MarkTripped,
    Move,
    Retreat,
    StopCalls,
    TakeBack,
    Wait,
)
from turnout.domain.breakers import BreakerRecord, BreakerState, Trip
from turnout.domain.events import Event, EventType
from turnout.domain.models import Abort, Deployment, Judgement, Kind, Pointer, Quarantine
from turnout.domain.phases import IN_PROGRESS, Phase
from turnout.domain.pointers import (
    activate,
    end_bake,
    forget_retired,
    roll_back,
    shift_traffic,
    take_back_id,
    withdraw_candidate,
)
from turnout.domain.rollout import format_weight
from turnout.ports import Clock, Lease, Store, Transaction

ACTOR = "turnout"
_WAY_TO_ACTIVE = (Phase.QUEUED, Phase.BUILDING, Phase.DEPLOYING, Phase.VALIDATING, Phase.ACTIVE)


class DecisionWriter:
    """Applies the actions of a plan that change the state of a ring."""

    def __init__(self, store: Store, clock: Clock, lease: Lease, build_slots: int) -> None:
        self._store = store
        self._clock = clock
        self._lease = lease
        self._build_slots = build_slots

    def write(self, agent: str, ring: str, action: Action) -> None:
        """Apply one action. Raises `LeaseLost` when another worker holds the ring or changed it meanwhile."""
        now = self._clock.now()
        with self._store.transaction() as transaction:
            transaction.check_lease(self._lease, now)
            match action:
                case Move():
                    self._move(transaction, action, now)
                case Activate():
                    self._activate(transaction, transaction.pointer(agent, ring), action, now)
                case Retreat():
                    _retreat(transaction, transaction.pointer(agent, ring), action, now)
                case TakeBack():
                    self._take_back(transaction, transaction.pointer(agent, ring), action, now)
                case EndBake():
                    pointer = end_bake(transaction.pointer(agent, ring), now)
                    transaction.save_pointer(pointer, actor=ACTOR, reason=action.reason)
                    active = _fetch(transaction, action.deployment)
                    transaction.emit(_event(EventType.ROLLOUT_BAKED, active, now, {"reason": action.reason}))
                case EnterStep():
                    _enter_step(transaction, transaction.pointer(agent, ring), action, now)
                case MarkPrepared() | MarkSmokePassed() | MarkTripped() | Wait():
                    _note(transaction, action, now)
                case StopCalls():
                    tried = (
                        item for item in transaction.deployments(agent, ring) if item.digest == action.cause.digest
                    )
                    last = next(tried, None)  # the page of the alert is about it
                    _tell_trip(transaction, agent, ring, last.id if last else None, action.cause, now)
                case ForgetRetired():
                    pointer = forget_retired(transaction.pointer(agent, ring), action.digest, now)
                    transaction.save_pointer(pointer, actor=ACTOR, reason="the warm time is over")
                case _:
                    raise AssertionError(f"not an action on the state: {action}")

    def _move(self, transaction: Transaction, action: Move, now: float) -> None:
        deployment = _fetch(transaction, action.deployment)
        if action.target is Phase.BUILDING and self._has_to_wait(transaction, deployment):
            return  # another ring was quicker; planned again when a slot is free
        if deployment.abort is not None and action.target in (Phase.DEPLOYING, Phase.VALIDATING):
            return  # taken back while this was decided; planned again
        transaction.move(deployment, action.target, at=now, actor=ACTOR, reason=action.reason)

    def _has_to_wait(self, transaction: Transaction, deployment: Deployment) -> bool:
        """For a build slot. A rollback never waits for one, and neither does what is on its way out."""
        pressing = deployment.abort is not None or deployment.kind is Kind.ROLLBACK
        return not pressing and transaction.unprepared() >= self._build_slots

    def _activate(self, transaction: Transaction, pointer: Pointer, action: Activate, now: float) -> None:
        """Exactly one active deployment at every commit: the old one leaves and the new one comes in one transaction."""
        deployment = _fetch(transaction, action.deployment)
        if deployment.abort is not None or _is_paused(deployment):
            return  # taken back or paused while this was decided; planned again
        former = transaction.deployment(pointer.active_deployment) if pointer.active_deployment else None
        rollback = deployment.kind is Kind.ROLLBACK
        if former is not None:
            target = Phase.ROLLING_BACK if rollback else Phase.SUPERSEDED
            reason = action.reason if rollback else f"deployment {deployment.id} is active"
            transaction.move(former, target, at=now, actor=deployment.actor if rollback else ACTOR, reason=reason)
        if rollback and deployment.quarantine and pointer.stable is not None and pointer.stable != deployment.digest:
            reason = f"rolled back in {deployment.ring}: {deployment.reason}"
            transaction.add_quarantine(
                Quarantine(deployment.agent, pointer.stable, deployment.ring, reason, deployment.actor, now)
            )
        _clear_quarantine(transaction, deployment, now)
        for phase in _WAY_TO_ACTIVE[_WAY_TO_ACTIVE.index(deployment.phase) + 1 :]:
            reason = action.reason if phase is Phase.ACTIVE else "nothing to do: the release is warm"
            deployment = transaction.move(deployment, phase, at=now, actor=ACTOR, reason=reason)
        # Last, and with a time of its own: from here to the commit there is nothing more to do.
        at = self._clock.now()
        if rollback:
            changed = roll_back(pointer, deployment.digest, deployment.id, at)
        else:
            changed = activate(pointer, deployment.digest, deployment.id, at, action.holdback, bakes=action.bakes)
        transaction.save_pointer(changed, actor=deployment.actor, reason=action.reason)

    def _take_back(self, transaction: Transaction, pointer: Pointer, action: TakeBack, now: float) -> None:
        """A rollback that nobody asked for. Its id follows from the pointer, so that it can be made only once."""
        if pointer.stable != action.digest or pointer.last_good is None or pointer.active_deployment is None:
            return  # changed while this was decided; planned again
        former, name = _fetch(transaction, pointer.active_deployment), take_back_id(pointer)
        if transaction.deployment(name) is not None:
            return  # made by another server; planned again
        rollback = Deployment(
            id=name,
            agent=pointer.agent,
            ring=pointer.ring,
            digest=pointer.last_good,
            kind=Kind.ROLLBACK,
            phase=Phase.QUEUED,
            actor=ACTOR,
            created_at=now,
            phase_at=now,
            reason=action.reason,
            quarantine=True,
        )
        for running in transaction.unfinished(pointer.agent, pointer.ring):
            if running.phase in IN_PROGRESS and running.abort is None:
                transaction.save_deployment(replace(running, abort=Abort(ACTOR, action.reason)))
        transaction.add_deployment(rollback)
        _tell_cause(transaction, former, action.cause, now)


def _retreat(transaction: Transaction, pointer: Pointer, action: Retreat, now: float) -> None:
    deployment = _fetch(transaction, action.deployment)
    if action.cause is not None:
        _tell_cause(transaction, deployment, action.cause, now)
    actor = deployment.abort.actor if deployment.abort else ACTOR
    transaction.move(deployment, Phase.ROLLING_BACK, at=now, actor=actor, reason=action.reason)
    if pointer.candidate == deployment.digest:
        transaction.save_pointer(withdraw_candidate(pointer, now), actor=actor, reason=action.reason)
    if action.quarantine and pointer.stable != deployment.digest:
        reason = f"taken out of the canary in {deployment.ring}: {action.reason}"
        transaction.add_quarantine(Quarantine(deployment.agent, deployment.digest, deployment.ring, reason, actor, now))


def _is_paused(deployment: Deployment) -> bool:
    """Whether somebody keeps a rollout where it is; one who asks for the next step all the same gets that one."""
    return deployment.rollout.paused and not deployment.rollout.advance


def _tell_cause(transaction: Transaction, deployment: Deployment, cause: Judgement | Trip, now: float) -> None:
    """The evidence, beside the change that follows from it."""
    if isinstance(cause, Trip):
        _tell_trip(transaction, deployment.agent, deployment.ring, deployment.id, cause, now)
        return
    data = {"kind": cause.kind, "metric": cause.metric, "against": cause.against, "message": cause.summary}
    transaction.emit(_event(EventType.ROLLOUT_JUDGED, deployment, now, data))
    judged = transaction.judgement(deployment.id)
    if judged is not None:
        transaction.save_judgement(deployment.id, replace(judged, decided=cause.kind))


def _tell_trip(transaction: Transaction, agent: str, ring: str, deployment: str | None, trip: Trip, now: float) -> None:
    """Open the breaker: no call of the release is let through from now on."""
    breaker, reason = trip.breaker, trip.describe()
    transaction.save_breaker(
        BreakerRecord(
            agent=agent,
            ring=ring,
            release=trip.digest,
            scope=breaker.scope,
            metric=breaker.metric,
            state=BreakerState.OPEN,
            since=now,
            value=trip.value,
            above=breaker.above,
            window=breaker.window,
            reason=reason,
            actor=ACTOR,
            task=trip.task,
        )
    )
    data: dict[str, object] = {
        "scope": breaker.scope.value,
        "metric": breaker.metric,
        "value": trip.value,
        "above": breaker.above,
        "window": breaker.window,
        "digest": trip.digest,
        "task": trip.task,
        "message": reason,
    }
    transaction.emit(Event(EventType.BREAKER_TRIPPED, now, ACTOR, agent, ring, deployment, data))


def _clear_quarantine(transaction: Transaction, deployment: Deployment, now: float) -> None:
    """Who lets a release serve in spite of a quarantine answers for it there, and in the rings before; else the next
    rollback would not return to a release that serves well. Who only tries it in an earlier ring does not.
    """
    found = transaction.quarantine(deployment.agent, deployment.digest)
    if found is None or not found.is_answered_for(deployment):
        return
    release = transaction.release(deployment.digest)
    if release is None:
        return
    rings = [ring.name for ring in release.spec.rings]
    known = found.ring in rings and deployment.ring in rings
    if found.ring == deployment.ring or (known and rings.index(found.ring) < rings.index(deployment.ring)):
        transaction.clear_quarantine(found, at=now, actor=deployment.actor, reason=deployment.override or "")


def _enter_step(transaction: Transaction, pointer: Pointer, action: EnterStep, now: float) -> None:
    deployment = _fetch(transaction, action.deployment)
    if deployment.abort is not None or _is_paused(deployment):
        return  # taken back or paused while this was decided; planned again
    _check_in_progress(deployment)
    began_at = deployment.rollout.began_at or now
    rollout = replace(deployment.rollout, step=action.step, entered_at=now, advance=False, began_at=began_at)
    transaction.save_deployment(replace(deployment, rollout=rollout, condition=None))
    reason = f"canary step {action.step + 1}: {format_weight(action.weight)}"
    changed = shift_traffic(pointer, deployment.digest, action.weight, deployment.id, now)
    transaction.save_pointer(changed, actor=ACTOR, reason=reason)
    data = {"step": action.step + 1, "weight": action.weight / 100}
    transaction.emit(_event(EventType.ROLLOUT_STEPPED, deployment, now, data))


def _note(transaction: Transaction, action: MarkPrepared | MarkSmokePassed | MarkTripped | Wait, now: float) -> None:
    """What a deployment has reached or waits for inside its state."""
    deployment = _fetch(transaction, action.deployment)
    if isinstance(action, MarkTripped):
        rollout = replace(deployment.rollout, tripped=action.cause.breaker.metric, tripped_at=now)
        transaction.save_deployment(replace(deployment, rollout=rollout))
        _tell_cause(transaction, deployment, action.cause, now)
        return
    _check_in_progress(deployment)
    data: dict[str, object] = {}
    match action:
        case Wait():
            deployment = replace(deployment, condition=action.condition)
            type_ = EventType.DEPLOYMENT_WAITING
            data = {"condition": action.condition.type, "message": action.condition.message}
        case MarkPrepared():
            deployment = replace(deployment, prepared=True, condition=None)
            type_ = EventType.DEPLOYMENT_PREPARED
        case MarkSmokePassed():
            deployment = replace(deployment, smoke_passed=True, condition=None)
            type_ = EventType.DEPLOYMENT_SMOKE_PASSED
    transaction.save_deployment(deployment)
    transaction.emit(_event(type_, deployment, now, data))


def _fetch(transaction: Transaction, deployment_id: str) -> Deployment:
    deployment = transaction.deployment(deployment_id)
    if deployment is None:
        raise AssertionError(f"a plan named deployment {deployment_id}, which does not exist")
    return deployment


def _check_in_progress(deployment: Deployment) -> None:
    if deployment.phase not in IN_PROGRESS:
        raise AssertionError(f"deployment {deployment.id} is over ({deployment.phase})")


def _event(type_: EventType, deployment: Deployment, now: float, data: Mapping[str, object]) -> Event:
    return Event(type_, now, ACTOR, deployment.agent, deployment.ring, deployment.id, data)
