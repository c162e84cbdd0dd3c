"""Approvals: decisions of people about one digest in one ring."""

from __future__ import annotations

from turnout.domain.errors import Conflict
from turnout.domain.evidence import changed_components, find_needs
from turnout.domain.models import Approval, Release, RingSettings
from turnout.domain.phases import IN_PROGRESS, Phase
from turnout.domain.policy import Verb, approvals_needed, assess_approvals
from turnout.domain.replays import KeptReplay
from turnout.ports import Snapshot
from turnout.schemas import ApprovalView
from turnout.services.evals import view_newest_evals
from turnout.services.office import Actor, Office, check_ring, find_release
from turnout.services.views import view_replay


def decide(
    office: Office, actor: Actor, agent: str, ring: str, *, release: str | None, approved: bool, comment: str
) -> ApprovalView:
    """Approve or reject a release for a ring. Without a name it is the one that waits there.

    An approval may come before the promotion does; it is bound to (digest, ring) and expires.
    """
    actor.check(Verb.APPROVE, ring)
    now = office.clock.now()
    with office.store.transaction() as transaction:
        check_ring(transaction, agent, ring)
        found = find_release(transaction, agent, release) if release else _waiting(transaction, agent, ring)
        if not approved:
            _check_can_reject(transaction, found, ring)
        settings = found.spec.ring(ring) or RingSettings(ring)
        expires_at = now + settings.approval_expiry
        approval = Approval(agent, ring, found.digest, actor.name, approved, now, expires_at, comment)
        transaction.add_approval(approval)
        view = _view(transaction, found, ring, now)
    office.wake(agent, ring)
    return view


def show_approvals(office: Office, actor: Actor, agent: str, ring: str, release: str | None) -> ApprovalView:
    """How the approvals of a release in a ring stand."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        check_ring(snapshot, agent, ring)
        found = find_release(snapshot, agent, release) if release else _waiting(snapshot, agent, ring)
        return _view(snapshot, found, ring, office.clock.now())


def _check_can_reject(snapshot: Snapshot, release: Release, ring: str) -> None:
    """A rejection that comes too late would change nothing, and its author must know."""
    past = {Phase.DEPLOYING, Phase.VALIDATING}
    if any(item.digest == release.digest and item.phase in past for item in snapshot.unfinished(release.agent, ring)):
        raise Conflict(
            f"{release.version} has passed its approvals in {ring}",
            hint=f"to take it back: `turnout rollback {release.agent} --ring {ring}`",
        )


def _waiting(snapshot: Snapshot, agent: str, ring: str) -> Release:
    running = [item for item in snapshot.unfinished(agent, ring) if item.phase in IN_PROGRESS]
    release = snapshot.release(running[0].digest) if running else None
    if release is None:
        raise Conflict(
            f"nothing waits for approval in {ring} of {agent}",
            hint="name a release to approve it before it is promoted: --release VERSION",
        )
    return release


def _view(snapshot: Snapshot, release: Release, ring: str, now: float) -> ApprovalView:
    pointed = snapshot.pointer(release.agent, ring).stable
    stable = snapshot.release(pointed) if pointed else None
    needed, needs = approvals_needed(release, stable, ring), find_needs(release, stable, ring)
    decisions = snapshot.approvals(release.agent, ring, release.digest)
    replays = _newest_replays(snapshot, release, ring)
    status = assess_approvals(needed, release.author, decisions, now, needs.approvers)
    return {
        "agent": release.agent,
        "ring": ring,
        "digest": release.digest,
        "needed": status.needed,
        "approvers": list(status.approvers),
        "satisfied": status.satisfied,
        "message": status.describe(),
        "changed": changed_components(stable, release),
        "evals": view_newest_evals(snapshot, release),
        "replay": view_replay(snapshot, replays[0]) if replays else None,
    }


def _newest_replays(snapshot: Snapshot, release: Release, ring: str) -> list[KeptReplay]:
    """The newest that a gate of this ring made; where there is none, the newest that anybody did."""
    found = snapshot.replays(release.agent, release.digest)
    by_gate = [
        replay
        for replay in found
        if replay.deployment is not None
        and (deployment := snapshot.deployment(replay.deployment)) is not None
        and deployment.ring == ring
    ]
    return (by_gate or list(found))[:1]
