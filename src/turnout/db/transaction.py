"""ports.Transaction on a SQLAlchemy connection: every write, and the events that belong to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import zstandard
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from turnout.db import rows
from turnout.db.call_writes import CallWrites
from turnout.db.limits import BreakerWrites
from turnout.db.recordings import RecordingWrites
from turnout.db.replays import ReplayWrites
from turnout.db.snapshot import SqlSnapshot
from turnout.db.tables import (
    agents,
    approvals,
    deployments,
    eval_runs,
    events,
    keys,
    leases,
    pointers,
    quarantines,
    releases,
    replicas,
    responses,
    tags,
    tokens,
)
from turnout.domain.errors import Conflict, LeaseLost, NotFound
from turnout.domain.events import Event, EventType
from turnout.domain.evidence import EvalRun
from turnout.domain.models import Approval, Deployment, Digest, Pointer, Quarantine, Release, ReplicaStatus
from turnout.domain.phases import Phase, check_transition
from turnout.ports import KeyRecord, Lease, StoredResponse, TokenRecord

_KEEP_RESPONSES = 86_400.0  # an idempotency key is honoured for a day


class SqlTransaction(CallWrites, BreakerWrites, RecordingWrites, ReplayWrites, SqlSnapshot):
    """Reads and writes; see the port for the meaning of each."""

    def add_agent(self, name: str, at: float) -> None:
        """Make an agent known; changes nothing if it is."""
        self._insert_new(agents, [{"name": name, "created_at": at}])

    def add_release(self, release: Release, config: bytes) -> None:
        """Record a release with its config component; its version becomes a tag."""
        self._insert_new(releases, [rows.release_to_row(release, config)])
        self.add_tag(release.agent, release.version, release.digest)

    def add_rings(self, agent: str, rings: Iterable[str]) -> None:
        """Give each ring a pointer that names nothing yet, so that the proxy knows it; changes nothing if it has one."""
        self._insert_new(pointers, [rows.pointer_to_row(Pointer(agent, ring)) for ring in rings])

    def add_tag(self, agent: str, tag: str, digest: Digest) -> None:
        """Let a tag point at a release. Raises `Conflict` when it points at another."""
        self._insert_new(tags, [{"agent": agent, "tag": tag, "digest": digest}])
        stored = self._connection.scalar(select(tags.c.digest).where(tags.c.agent == agent, tags.c.tag == tag))
        if stored != digest:
            raise Conflict(
                f"the version {tag} of {agent} already names {stored}",
                hint="a version never moves to another release: choose a new one with --tag",
            )

    def remove_tag(self, agent: str, tag: str) -> None:
        """Let a tag name nothing. Raises `NotFound`."""
        removed = delete(tags).where(tags.c.agent == agent, tags.c.tag == tag)
        if self._connection.execute(removed).rowcount == 0:
            raise NotFound(f"{agent} has no version {tag!r}", hint=f"see `turnout history {agent} --releases`")

    def add_deployment(self, deployment: Deployment) -> None:
        """Record a new deployment. Raises `Conflict` when one is in progress in the ring."""
        try:
            self._connection.execute(insert(deployments).values(rows.deployment_to_row(deployment)))
        except IntegrityError as error:
            raise Conflict(
                f"another {deployment.kind} is in progress in {deployment.ring} of {deployment.agent}",
                hint=f"see `turnout status {deployment.agent}`",
            ) from error
        self.emit(
            _event(
                EventType.DEPLOYMENT_CREATED,
                deployment,
                deployment.created_at,
                deployment.actor,
                digest=deployment.digest,
                kind=deployment.kind.value,
                reason=deployment.reason,
            )
        )

    def save_deployment(self, deployment: Deployment) -> None:
        """Write everything of a deployment but its state."""
        values = rows.deployment_to_row(deployment)
        for fixed in ("id", "phase", "phase_at"):
            del values[fixed]
        self._connection.execute(update(deployments).where(deployments.c.id == deployment.id).values(values))

    def move(self, deployment: Deployment, target: Phase, *, at: float, actor: str, reason: str) -> Deployment:
        """The one door for state changes: checks the table, writes state and event."""
        check_transition(deployment.phase, target)
        active_at = at if target is Phase.ACTIVE else deployment.active_at
        changed = self._connection.execute(
            update(deployments)
            .where(deployments.c.id == deployment.id, deployments.c.phase == deployment.phase.value)
            .values(phase=target.value, phase_at=at, condition=None, active_at=active_at)
        )
        if changed.rowcount != 1:
            raise LeaseLost(f"deployment {deployment.id} is no longer in {deployment.phase}")
        self.emit(
            _event(
                EventType.DEPLOYMENT_TRANSITIONED,
                deployment,
                at,
                actor,
                **{"from": deployment.phase.value, "to": target.value, "reason": reason},
            )
        )
        return replace(deployment, phase=target, phase_at=at, condition=None, active_at=active_at)

    def save_pointer(self, pointer: Pointer, *, actor: str, reason: str) -> None:
        """Write a pointer and its event."""
        values = rows.pointer_to_row(pointer)
        changed = self._connection.execute(
            update(pointers).where(pointers.c.agent == pointer.agent, pointers.c.ring == pointer.ring).values(values)
        )
        if changed.rowcount == 0:
            self._connection.execute(insert(pointers).values(values))
        self.emit(
            Event(
                EventType.POINTER_CHANGED,
                pointer.changed_at,
                actor,
                pointer.agent,
                pointer.ring,
                pointer.active_deployment,
                {
                    "stable": pointer.stable,
                    "candidate": pointer.candidate,
                    "weight": pointer.weight,
                    "last_good": pointer.last_good,
                    "generation": pointer.generation,
                    "reason": reason,
                },
            )
        )

    def add_approval(self, approval: Approval) -> None:
        """Record a decision."""
        values = {name: getattr(approval, name) for name in Approval.__dataclass_fields__}
        self._connection.execute(insert(approvals).values(values))
        type_ = EventType.APPROVAL_GIVEN if approval.approved else EventType.APPROVAL_REJECTED
        data = {"digest": approval.digest, "expires_at": approval.expires_at, "comment": approval.comment}
        self.emit(Event(type_, approval.at, approval.approver, approval.agent, approval.ring, None, data))

    def add_eval_run(self, run: EvalRun, report: bytes) -> None:
        """Keep a run of a suite with its report."""
        values = {name: getattr(run, name) for name in EvalRun.__dataclass_fields__}
        self._connection.execute(
            insert(eval_runs).values(**{**values, "verdict": dict(run.verdict)}, content=zstandard.compress(report))
        )
        data = {"digest": run.release, "suite": run.suite, "passed": run.passed, "run": run.id}
        self.emit(Event(EventType.EVAL_RECORDED, run.at, run.actor, run.agent, data=data))

    def add_quarantine(self, quarantine: Quarantine) -> None:
        """Put a release into quarantine; the first reason stays."""
        values = {name: getattr(quarantine, name) for name in Quarantine.__dataclass_fields__}
        if self._insert_new(quarantines, [values]):
            data = {"digest": quarantine.digest, "reason": quarantine.reason}
            type_ = EventType.RELEASE_QUARANTINED
            where = (quarantine.agent, quarantine.ring)
            self.emit(Event(type_, quarantine.at, quarantine.actor, *where, data=data))

    def clear_quarantine(self, quarantine: Quarantine, *, at: float, actor: str, reason: str) -> None:
        """Let a release out of quarantine."""
        where = (quarantines.c.agent == quarantine.agent, quarantines.c.digest == quarantine.digest)
        self._connection.execute(delete(quarantines).where(*where))
        data = {"digest": quarantine.digest, "reason": reason}
        self.emit(Event(EventType.RELEASE_CLEARED, at, actor, quarantine.agent, quarantine.ring, data=data))

    def save_replicas(self, agent: str, ring: str, statuses: Iterable[ReplicaStatus]) -> None:
        """Replace what is known of the replicas of a ring."""
        self._connection.execute(delete(replicas).where(replicas.c.agent == agent, replicas.c.ring == ring))
        values = [rows.replica_to_row(status) for status in statuses]
        if values:
            self._connection.execute(insert(replicas), values)

    def emit(self, event: Event) -> int:
        """Append an event; returns its sequence number."""
        seq = self._connection.scalar(
            insert(events)
            .values(
                type=event.type.value,
                at=event.at,
                actor=event.actor,
                agent=event.agent,
                ring=event.ring,
                deployment=event.deployment,
                data=dict(event.data),
            )
            .returning(events.c.seq)
        )
        return int(seq or 0)

    def acquire_lease(self, name: str, holder: str, now: float, ttl: float) -> Lease | None:
        """The lease if it is free, expired or already the holder's; None if another holds it."""
        row = self._one(select(leases).where(leases.c.name == name).with_for_update())
        if row is None:
            lease = Lease(name, holder, 1, now + ttl)
            return lease if self._insert_new(leases, [_lease_row(lease)]) else None
        if row["holder"] != holder and row["expires_at"] > now:
            return None
        token = row["token"] if row["holder"] == holder else row["token"] + 1
        lease = Lease(name, holder, token, now + ttl)
        self._connection.execute(update(leases).where(leases.c.name == name).values(_lease_row(lease)))
        return lease

    def check_lease(self, lease: Lease, now: float) -> None:
        """Raise `LeaseLost` unless the lease is still held."""
        query = select(leases.c.expires_at).where(
            leases.c.name == lease.name, leases.c.holder == lease.holder, leases.c.token == lease.token
        )
        expires_at = self._connection.scalar(query.with_for_update())
        if expires_at is None or expires_at <= now:
            raise LeaseLost(f"the lease on {lease.name} is no longer held by {lease.holder}")

    def add_key(self, key: KeyRecord) -> bool:
        """Trust a key; False when it is known already."""
        return bool(self._insert_new(keys, [asdict(key)]))

    def revoke_key(self, keyid: str, at: float) -> None:
        """Trust a key no longer, nor anything that it signed. Raises `NotFound`."""
        changed = update(keys).where(keys.c.keyid == keyid, keys.c.revoked_at.is_(None)).values(revoked_at=at)
        if self._connection.execute(changed).rowcount == 0:
            raise NotFound(f"no key {keyid[:12]} is trusted", hint="see `turnout keys list`")

    def add_token(self, token: TokenRecord) -> None:
        """Record a token. Raises `Conflict` when the name is taken."""
        values = {
            "name": token.name,
            "role": token.role.value,
            "digest": token.digest,
            "created_at": token.created_at,
        }
        if not self._insert_new(tokens, [values]):
            raise Conflict(f"there is a token named {token.name}", hint="revoke it first, or choose another name")

    def remove_token(self, name: str) -> None:
        """Forget a token. Raises `NotFound`."""
        if self._connection.execute(delete(tokens).where(tokens.c.name == name)).rowcount == 0:
            raise NotFound(f"there is no token named {name}", hint="see `turnout tokens list`")

    def save_response(self, actor: str, key: str, response: StoredResponse, at: float) -> None:
        """Record what a write answered, for a day; status 0 while it is not known yet."""
        self._connection.execute(delete(responses).where(responses.c.at < at - _KEEP_RESPONSES))
        mine = (responses.c.actor == actor, responses.c.key == key)
        values = {"fingerprint": response.fingerprint, "status": response.status, "body": response.body, "at": at}
        if self._connection.execute(update(responses).where(*mine).values(values)).rowcount == 0:
            self._connection.execute(insert(responses).values(actor=actor, key=key, **values))


def _event(type_: EventType, deployment: Deployment, at: float, actor: str, **data: object) -> Event:
    return Event(type_, at, actor, deployment.agent, deployment.ring, deployment.id, data)


def _lease_row(lease: Lease) -> dict[str, Any]:
    return {"name": lease.name, "holder": lease.holder, "token": lease.token, "expires_at": lease.expires_at}
