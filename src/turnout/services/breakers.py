"""Breakers: how each that a ring declares stands, and letting calls through again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from turnout.domain.breakers import (
    BreakerRecord,
    BreakerState,
    began_at,
    bind,
    find_declared,
    find_looks,
    find_record,
    find_watched,
    ignore_until_now,
    leave_out,
    measure,
)
from turnout.domain.errors import Conflict
from turnout.domain.events import Event, EventType
from turnout.domain.models import Breaker, Digest, Pointer
from turnout.domain.phases import IN_PROGRESS
from turnout.domain.policy import Verb
from turnout.ports import Snapshot, Transaction
from turnout.schemas import BreakerList, BreakerView
from turnout.services.office import Actor, Office, check_agent, check_ring
from turnout.services.views import view_time


@dataclass(frozen=True, slots=True)
class Reset:
    """Which breakers to reset (of a release or metric, None: of any), and how."""

    metric: str | None = None
    release: Digest | None = None
    half_open: bool = False
    reason: str = ""


def list_breakers(office: Office, actor: Actor, agent: str | None = None) -> BreakerList:
    """Every breaker that a ring declares, and every one that is open: by agent and ring."""
    actor.check(Verb.READ)
    now = office.clock.now()
    with office.store.snapshot() as snapshot:
        if agent is not None:
            check_agent(snapshot, agent)
        return {"breakers": [view for pointer in snapshot.pointers(agent) for view in _look_at(snapshot, pointer, now)]}


def reset_breakers(office: Office, actor: Actor, agent: str, ring: str, reset: Reset) -> BreakerList:
    """Let calls through again, and count anew from now on; or on trial. Raises `Conflict` when nothing is to be reset."""
    actor.check(Verb.STEER)
    now = office.clock.now()
    state = BreakerState.HALF_OPEN if reset.half_open else BreakerState.CLOSED
    with office.store.transaction() as transaction:
        check_ring(transaction, agent, ring)
        chosen = [
            record
            for record in transaction.breakers(agent, ring)
            if record.state is BreakerState.OPEN or record.on_trial(now)
            if reset.metric in (None, record.metric) and reset.release in (None, record.release)
        ]
        if not chosen:
            raise Conflict(f"no such breaker is open in {ring} of {agent}", hint="see `turnout breakers list`")
        tallies = transaction.tallies(now)
        for record in chosen:
            ignored = ignore_until_now(record, tallies, trial=reset.half_open)
            changed = replace(
                record, state=state, since=now, ignored=ignored, actor=actor.name, reason=reset.reason or record.reason
            )
            transaction.save_breaker(changed)
        _forget_mark(transaction, agent, ring)
        for release in dict.fromkeys(record.release for record in chosen):
            metrics = [record.metric for record in chosen if record.release == release]
            data = {"digest": release, "state": state.value, "metrics": metrics, "reason": reset.reason}
            transaction.emit(Event(EventType.BREAKER_RESET, now, actor.name, agent, ring, None, data))
        shown = list(_look_at(transaction, transaction.pointer(agent, ring), now))
    office.wake(agent, ring)
    return {"breakers": shown}


def _forget_mark(transaction: Transaction, agent: str, ring: str) -> None:
    """That a breaker tripped without anything to go back to: it is to be told again if it happens again."""
    active = transaction.pointer(agent, ring).active_deployment
    deployment = transaction.deployment(active) if active is not None else None
    if deployment is not None and deployment.rollout.tripped is not None:
        rollout = replace(deployment.rollout, tripped=None, tripped_at=0.0)
        transaction.save_deployment(replace(deployment, rollout=rollout))


def _look_at(snapshot: Snapshot, pointer: Pointer, now: float) -> Iterator[BreakerView]:
    agent, ring = pointer.agent, pointer.ring
    others = snapshot.breakers()
    records = [record for record in others if (record.agent, record.ring) == (agent, ring)]
    watched = find_watched(pointer, records, now)
    declared = {digest: find_declared(snapshot.release(digest), ring) for digest in watched}
    bound = bind(declared, pointer.stable)
    running = [item for item in snapshot.unfinished(agent, ring) if item.phase in IN_PROGRESS]
    active = snapshot.deployment(pointer.active_deployment) if pointer.active_deployment else None
    every = set[Breaker]().union(*bound.values())
    looks = find_looks(every, watched, records, began_at((*running, active)), now)
    resets = {(look.digest, look.breaker): look for look in looks}
    shown: set[tuple[Digest, str, str]] = set()
    for digest in watched:
        for breaker in sorted(bound[digest], key=lambda item: (item.scope, item.metric, item.above)):
            look = resets.get((digest, breaker)) or resets[None, breaker]
            window = snapshot.window(agent, ring, watched, breaker, look.span)
            window = leave_out(look, replace(window, ignored=look.ignored, trial=look.trial), others)
            value, task = measure(agent, ring, digest, breaker, window)
            record = find_record(records, digest, breaker)
            shown.add((digest, breaker.scope, breaker.metric))
            yield _view(snapshot, pointer, digest, breaker, record, value, task, now)
    for record in records:
        if record.state is BreakerState.OPEN and (record.release, record.scope, record.metric) not in shown:
            breaker = Breaker(record.scope, record.metric, record.above, record.window)
            yield _view(snapshot, pointer, record.release, breaker, record, None, record.task, now)


def _view(
    snapshot: Snapshot,
    pointer: Pointer,
    digest: Digest,
    breaker: Breaker,
    record: BreakerRecord | None,
    value: float | None,
    task: str | None,
    now: float,
) -> BreakerView:
    release = snapshot.release(digest)
    state = record.state if record is not None else BreakerState.CLOSED
    if state is BreakerState.HALF_OPEN and record is not None and not record.on_trial(now):
        state = BreakerState.CLOSED
    return {
        "agent": pointer.agent,
        "ring": pointer.ring,
        "digest": digest,
        "version": release.version if release is not None else None,
        "scope": breaker.scope.value,
        "metric": breaker.metric,
        "above": breaker.above,
        "window": breaker.window,
        "tasks": breaker.tasks,
        "state": state.value,
        "value": value,
        "task": task,
        "since": view_time(record.since) if record is not None else None,
        "tripped_with": record.value if record is not None else None,
        "reason": record.reason if record is not None else None,
        "actor": record.actor if record is not None else None,
    }
