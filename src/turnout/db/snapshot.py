"""ports.Snapshot on a SQLAlchemy connection."""

from __future__ import annotations

import zstandard
from sqlalchemy import func, select

from turnout.db import rows
from turnout.db.limits import BreakerReads
from turnout.db.recordings import RecordingReads
from turnout.db.replays import ReplayReads
from turnout.db.tables import (
    agents,
    approvals,
    cursors,
    deployments,
    eval_runs,
    events,
    keys,
    pointers,
    quarantines,
    releases,
    replicas,
    responses,
    tags,
    tokens,
)
from turnout.db.task_reads import TaskReads
from turnout.domain.evidence import EvalRun
from turnout.domain.models import (
    Approval,
    Deployment,
    Digest,
    Pointer,
    Quarantine,
    Release,
    ReplicaStatus,
)
from turnout.domain.phases import IN_PROGRESS, Phase
from turnout.domain.policy import Role
from turnout.ports import KeyRecord, StoredEvent, StoredResponse, TokenRecord

_EVAL_RUN = tuple(eval_runs.c[name] for name in EvalRun.__dataclass_fields__)
_UNFINISHED = sorted(IN_PROGRESS | {Phase.ROLLING_BACK})


class SqlSnapshot(TaskReads, BreakerReads, RecordingReads, ReplayReads):
    """Reads; see the port for the meaning of each."""

    def agents(self) -> tuple[str, ...]:
        """All agents, by name."""
        return tuple(self._connection.scalars(select(agents.c.name).order_by(agents.c.name)))

    def release(self, digest: Digest) -> Release | None:
        """One release."""
        row = self._one(select(releases).where(releases.c.digest == digest))
        return rows.release_from_row(row) if row else None

    def release_tagged(self, agent: str, tag: str) -> Release | None:
        """The release that a version tag points at."""
        row = self._one(
            select(releases)
            .join(tags, tags.c.digest == releases.c.digest)
            .where(tags.c.agent == agent, tags.c.tag == tag)
        )
        return rows.release_from_row(row) if row else None

    def releases(self, agent: str) -> tuple[Release, ...]:
        """All releases of an agent, newest first."""
        query = select(releases).where(releases.c.agent == agent).order_by(releases.c.created_at.desc())
        return tuple(rows.release_from_row(row) for row in self._all(query))

    def tags(self, agent: str) -> dict[str, Digest]:
        """Every version tag of an agent."""
        return {row["tag"]: row["digest"] for row in self._all(select(tags).where(tags.c.agent == agent))}

    def deployment(self, deployment_id: str) -> Deployment | None:
        """One deployment."""
        row = self._one(select(deployments).where(deployments.c.id == deployment_id))
        return rows.deployment_from_row(row) if row else None

    def deployments(self, agent: str | None = None, ring: str | None = None, limit: int = 50) -> tuple[Deployment, ...]:
        """Deployments, newest first."""
        query = select(deployments).order_by(deployments.c.created_at.desc(), deployments.c.id.desc()).limit(limit)
        if agent is not None:
            query = query.where(deployments.c.agent == agent)
        if ring is not None:
            query = query.where(deployments.c.ring == ring)
        return tuple(rows.deployment_from_row(row) for row in self._all(query))

    def unfinished(self, agent: str, ring: str) -> tuple[Deployment, ...]:
        """Those of a ring that are in progress or rolling back, oldest first."""
        query = (
            select(deployments)
            .where(deployments.c.agent == agent, deployments.c.ring == ring, deployments.c.phase.in_(_UNFINISHED))
            .order_by(deployments.c.created_at)
        )
        return tuple(rows.deployment_from_row(row) for row in self._all(query))

    def activations(self, agent: str, ring: str) -> tuple[Digest, ...]:
        """The releases that became active in a ring, newest first, at most a thousand."""
        query = (
            select(deployments.c.digest)
            .where(deployments.c.agent == agent, deployments.c.ring == ring, deployments.c.active_at.is_not(None))
            .order_by(deployments.c.active_at.desc())
            .limit(1_000)
        )
        return tuple(self._connection.scalars(query))

    def unprepared(self) -> int:
        """How many deployments occupy a build slot."""
        query = select(func.count()).where(
            deployments.c.phase == Phase.BUILDING.value, deployments.c.prepared.is_(False)
        )
        return int(self._connection.scalar(query) or 0)

    def pointer(self, agent: str, ring: str) -> Pointer:
        """The pointer of a ring; an empty one if nothing was ever routed there."""
        row = self._one(select(pointers).where(pointers.c.agent == agent, pointers.c.ring == ring))
        return rows.pointer_from_row(row) if row else Pointer(agent, ring)

    def pointers(self, agent: str | None = None) -> tuple[Pointer, ...]:
        """All pointers, by agent and ring."""
        query = select(pointers).order_by(pointers.c.agent, pointers.c.ring)
        if agent is not None:
            query = query.where(pointers.c.agent == agent)
        return tuple(rows.pointer_from_row(row) for row in self._all(query))

    def approvals(self, agent: str, ring: str, digest: Digest) -> tuple[Approval, ...]:
        """Every decision about a digest in a ring, oldest first."""
        query = (
            select(approvals)
            .where(approvals.c.agent == agent, approvals.c.ring == ring, approvals.c.digest == digest)
            .order_by(approvals.c.id)
        )
        return tuple(rows.approval_from_row(row) for row in self._all(query))

    def eval_runs(
        self, agent: str, release: Digest | None = None, *, suite: str | None = None, limit: int = 1_000
    ) -> tuple[EvalRun, ...]:
        """Runs of suites, newest first."""
        query = select(*_EVAL_RUN).where(eval_runs.c.agent == agent).order_by(eval_runs.c.seq.desc()).limit(limit)
        if release is not None:
            query = query.where(eval_runs.c.release == release)
        if suite is not None:
            query = query.where(eval_runs.c.suite == suite)
        return tuple(EvalRun(**row) for row in self._all(query))

    def eval_run(self, run_id: str) -> EvalRun | None:
        """One of them."""
        row = self._one(select(*_EVAL_RUN).where(eval_runs.c.id == run_id))
        return EvalRun(**row) if row else None

    def eval_report(self, run_id: str) -> bytes | None:
        """Its whole report."""
        row = self._one(select(eval_runs.c.content).where(eval_runs.c.id == run_id))
        return zstandard.decompress(row["content"]) if row else None

    def quarantine(self, agent: str, digest: Digest) -> Quarantine | None:
        """Why a release is in quarantine, if it is."""
        row = self._one(select(quarantines).where(quarantines.c.agent == agent, quarantines.c.digest == digest))
        return rows.quarantine_from_row(row) if row else None

    def replicas(self, agent: str | None = None) -> tuple[ReplicaStatus, ...]:
        """The replicas as the controller last saw them."""
        query = select(replicas).order_by(replicas.c.agent, replicas.c.ring, replicas.c.digest, replicas.c.index)
        if agent is not None:
            query = query.where(replicas.c.agent == agent)
        return tuple(rows.replica_from_row(row) for row in self._all(query))

    def events(
        self,
        after: int = 0,
        *,
        agent: str | None = None,
        ring: str | None = None,
        deployment: str | None = None,
        newest_first: bool = False,
        limit: int = 200,
    ) -> tuple[StoredEvent, ...]:
        """Events with a sequence number above `after`, in order."""
        order = events.c.seq.desc() if newest_first else events.c.seq
        query = select(events).where(events.c.seq > after).order_by(order).limit(limit)
        for column, value in ((events.c.agent, agent), (events.c.ring, ring), (events.c.deployment, deployment)):
            if value is not None:
                query = query.where(column == value)
        return tuple(rows.event_from_row(row) for row in self._all(query))

    def cursor(self, name: str) -> str | None:
        """How far something has come."""
        return self._connection.scalar(select(cursors.c.value).where(cursors.c.name == name))

    def token(self, digest: str) -> TokenRecord | None:
        """The token with this SHA-256."""
        row = self._one(select(tokens).where(tokens.c.digest == digest))
        return _token(row) if row else None

    def trusted_keys(self) -> tuple[KeyRecord, ...]:
        """All keys that are or were trusted, by name and age."""
        rows = self._all(select(keys).order_by(keys.c.name, keys.c.added_at, keys.c.keyid))
        return tuple(KeyRecord(**row) for row in rows)

    def tokens(self) -> tuple[TokenRecord, ...]:
        """All tokens, by name."""
        return tuple(_token(row) for row in self._all(select(tokens).order_by(tokens.c.name)))

    def response(self, actor: str, key: str) -> StoredResponse | None:
        """The answer recorded under an idempotency key of an actor."""
        row = self._one(select(responses).where(responses.c.actor == actor, responses.c.key == key))
        return StoredResponse(row["fingerprint"], row["status"], row["body"]) if row else None


def _token(row: rows.Row) -> TokenRecord:
    return TokenRecord(row["name"], Role(row["role"]), row["digest"], row["created_at"])
