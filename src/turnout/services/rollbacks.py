"""Rollback and abort: they pre-empt everything else in the ring."""

from __future__ import annotations

from dataclasses import dataclass, replace

from turnout.domain.errors import Conflict, PolicyRefused
from turnout.domain.events import Event, EventType
from turnout.domain.models import Abort, Deployment, Kind, Pointer, Release, ReplicaState
from turnout.domain.phases import IN_PROGRESS, Phase
from turnout.domain.policy import Verb, check_known_digest, describe_quarantine
from turnout.domain.routes import warm_digests
from turnout.ports import Snapshot, Transaction
from turnout.schemas import DeploymentView, PreviewView
from turnout.services.office import Actor, Office, check_ring, find_release, find_way_back
from turnout.services.views import view_deployment


@dataclass(frozen=True, slots=True)
class RollbackWish:
    """What somebody wants undone. `leaving`: the digest that they saw in the traffic and want out of it."""

    agent: str
    ring: str
    version: str | None = None
    leaving: str | None = None
    override: str | None = None
    reason: str = ""
    quarantine: bool = True


def roll_back(office: Office, actor: Actor, wish: RollbackWish) -> DeploymentView:
    """Undo the last change of a ring.

    While a canary runs, its candidate is taken out and stable gets everything: the deployment of the candidate is
    returned. Otherwise the pointer goes back to last-good, or to a version: at once if it is warm, else through deploy
    and validation while what is stable goes on serving. Whatever else is in progress in the ring is ended.
    Raises `Conflict` when what was to leave has left already, `PolicyRefused` for a version in quarantine.
    """
    actor.check(Verb.ROLL_BACK, wish.ring)
    if wish.override is not None:
        actor.check(Verb.OVERRIDE, wish.ring)
    now = office.clock.now()
    with office.store.transaction() as transaction:
        check_ring(transaction, wish.agent, wish.ring)
        pointer = transaction.pointer(wish.agent, wish.ring)
        _check_leaving(transaction, pointer, wish.leaving)
        running = _running(transaction, wish.agent, wish.ring)
        candidate = next((item for item in running if item.digest == pointer.candidate), None)
        target = None if candidate and wish.version is None else _find_target(transaction, pointer, wish)
        aborted = [
            _end(transaction, item, Abort(actor.name, wish.reason or "rolled back", wish.quarantine), now)
            for item in running
        ]
        if target is None:
            taken_out = next(item for item in aborted if item.digest == pointer.candidate)
            view = view_deployment(transaction, taken_out)
        else:
            overridden = _overridden(transaction, wish, target)
            rollback = _new_rollback(office.new_id("dep"), actor, wish, target, now)
            transaction.add_deployment(rollback)
            if overridden:
                data = {"overridden": overridden, "reason": wish.override}
                type_ = EventType.POLICY_OVERRIDDEN
                transaction.emit(Event(type_, now, actor.name, wish.agent, wish.ring, rollback.id, data))
            view = view_deployment(transaction, rollback)
    office.wake(wish.agent, wish.ring)
    return view


def preview_rollback(office: Office, actor: Actor, wish: RollbackWish) -> PreviewView:
    """What `roll_back` would do. Changes nothing."""
    agent, ring, version = wish.agent, wish.ring, wish.version
    actor.check(Verb.ROLL_BACK, ring)
    with office.store.snapshot() as snapshot:
        check_ring(snapshot, agent, ring)
        pointer = snapshot.pointer(agent, ring)
        steps = [f"abort {item.id} ({item.phase})" for item in _running(snapshot, agent, ring)]
        overridden: list[str] = []
        if pointer.candidate is not None and version is None:
            target = snapshot.release(check_known_digest(pointer.stable, ring, agent))
            steps.append("take the candidate out of the traffic; stable gets everything")
        else:
            target = _find_target(snapshot, pointer, wish)
            overridden = _overridden(snapshot, wish, target)
            warm = target.digest in warm_digests(pointer) and any(
                (item.ring, item.digest, item.state) == (ring, target.digest, ReplicaState.READY)
                for item in snapshot.replicas(agent)
            )
            steps.append("flip the pointer: it is warm" if warm else "deploy and validate it first: it is not warm")
    if target is None:
        raise Conflict(f"the stable release of {ring} is not known")
    return {
        "agent": agent,
        "ring": ring,
        "digest": target.digest,
        "version": target.version,
        "kind": Kind.ROLLBACK.value,
        "steps": steps,
        "later": {},
        "overrides": overridden,
        "changed": [],
        "config": [],
    }


def abort(office: Office, actor: Actor, agent: str, ring: str, *, reason: str, quarantine: bool) -> DeploymentView:
    """End the deployment in progress in a ring; what is stable goes on serving."""
    actor.check(Verb.ROLL_BACK, ring)
    now = office.clock.now()
    with office.store.transaction() as transaction:
        check_ring(transaction, agent, ring)
        running = _running(transaction, agent, ring)
        if not running:
            raise Conflict(
                f"no deployment is in progress in {ring} of {agent}",
                hint=f"to undo the active release: `turnout rollback {agent} --ring {ring}`",
            )
        wish = Abort(actor.name, reason or "no reason given", quarantine)
        aborted = [_abort(transaction, item, wish, now) for item in running]
        view = view_deployment(transaction, aborted[0])
    office.wake(agent, ring)
    return view


def _running(snapshot: Snapshot, agent: str, ring: str) -> list[Deployment]:
    return [item for item in snapshot.unfinished(agent, ring) if item.phase in IN_PROGRESS]


def _abort(transaction: Transaction, deployment: Deployment, wish: Abort, now: float) -> Deployment:
    changed = replace(deployment, abort=deployment.abort or wish)
    transaction.save_deployment(changed)
    data = {"reason": wish.reason, "quarantine": wish.quarantine}
    transaction.emit(
        Event(
            EventType.DEPLOYMENT_ABORT_REQUESTED,
            now,
            wish.actor,
            deployment.agent,
            deployment.ring,
            deployment.id,
            data,
        )
    )
    return changed


def _check_leaving(snapshot: Snapshot, pointer: Pointer, leaving: str | None) -> None:
    """Two people press at once, or a canary ended by itself: nobody may undo what they have not seen."""
    now_leaving = pointer.candidate or pointer.stable
    if leaving is None or leaving == now_leaving:
        return
    there = snapshot.release(now_leaving) if now_leaving else None
    stable = snapshot.release(pointer.stable) if pointer.stable and leaving == pointer.stable else None
    if there is not None and stable is not None:
        back = f"turnout rollback {pointer.agent} --ring {pointer.ring}"
        raise Conflict(
            f"a canary of {there.version} runs in {pointer.ring} of {pointer.agent}: a rollback takes out that one, "
            f"and {stable.version} stays",
            hint=f"to take it out: `{back}`; to leave {stable.version} too, name where to go: `{back} --version VERSION`",
        )
    raise Conflict(
        f"{pointer.ring} of {pointer.agent} has changed meanwhile: a rollback would now take out "
        f"{there.version if there else 'nothing'}",
        hint=f"look at `turnout status {pointer.agent}`, and roll back again if that is what you want",
    )


def _end(transaction: Transaction, deployment: Deployment, wish: Abort, now: float) -> Deployment:
    """A rollback in progress ends here and now, since only one can be in progress; others are ended by the controller."""
    if deployment.kind is not Kind.ROLLBACK:
        return _abort(transaction, deployment, wish, now)
    ways = {
        Phase.QUEUED: (Phase.BUILDING, Phase.FAILED),
        Phase.BUILDING: (Phase.FAILED,),
        Phase.DEPLOYING: (Phase.FAILED,),
        Phase.VALIDATING: (Phase.ROLLING_BACK,),
    }
    for phase in ways[deployment.phase]:
        deployment = transaction.move(
            deployment, phase, at=now, actor=wish.actor, reason="another rollback was asked for"
        )
    return deployment


def _find_target(snapshot: Snapshot, pointer: Pointer, wish: RollbackWish) -> Release:
    """The release to go back to: the named one, last-good, or the newest one before it in history that is not in doubt."""
    stable = check_known_digest(pointer.stable, pointer.ring, pointer.agent)
    if wish.version is not None:
        named = find_release(snapshot, pointer.agent, wish.version)
        if named.digest == stable:
            raise Conflict(f"{named.version} is already the stable release of {pointer.ring}")
        if named.digest not in snapshot.activations(pointer.agent, pointer.ring):
            raise Conflict(
                f"{named.version} was never active in {pointer.ring}",
                hint="a rollback returns to what was active; promote a new release instead",
            )
        quarantine = snapshot.quarantine(pointer.agent, named.digest)
        if quarantine is not None and wish.override is None:
            raise PolicyRefused(
                describe_quarantine(named, quarantine),
                hint="name another version, or give --override REASON as an admin",
            )
        return named
    digest = find_way_back(snapshot, pointer)
    release = snapshot.release(digest) if digest else None
    if release is None:
        raise Conflict(
            f"{pointer.ring} of {pointer.agent} has no release to go back to",
            hint="no other release that is not in quarantine was active there; promote one, or name one with --version",
        )
    return release


def _overridden(snapshot: Snapshot, wish: RollbackWish, target: Release) -> list[str]:
    """What an override passes over."""
    quarantine = snapshot.quarantine(wish.agent, target.digest) if wish.override is not None else None
    return [] if quarantine is None else [describe_quarantine(target, quarantine)]


def _new_rollback(deployment_id: str, actor: Actor, wish: RollbackWish, target: Release, now: float) -> Deployment:
    return Deployment(
        id=deployment_id,
        agent=wish.agent,
        ring=wish.ring,
        digest=target.digest,
        kind=Kind.ROLLBACK,
        phase=Phase.QUEUED,
        actor=actor.name,
        created_at=now,
        phase_at=now,
        reason=wish.reason or wish.override or f"rolled back by {actor.name}",
        quarantine=wish.quarantine,
        override=wish.override,
    )
