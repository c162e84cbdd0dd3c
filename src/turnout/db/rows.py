"""Rows ↔ domain values. Pure."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from typing import Any

from sqlalchemy import RowMapping

from turnout.domain.events import Event, EventType
from turnout.domain.models import (
    Abort,
    Approval,
    Arm,
    ComponentRef,
    Condition,
    Deployment,
    Kind,
    Pointer,
    Quarantine,
    Release,
    ReleaseSpec,
    ReplicaState,
    ReplicaStatus,
    Retired,
    Rollout,
    Task,
)
from turnout.domain.outcomes import Observation, Outcome, Source
from turnout.domain.phases import Phase
from turnout.manifest.config import parse_config
from turnout.ports import StoredEvent, StoredJudgement, StoredOutcome

Row = RowMapping


def release_to_row(release: Release, config: bytes) -> dict[str, Any]:
    """The spec is stored as the bytes of the config component that it is read from."""
    return {
        "digest": release.digest,
        "agent": release.agent,
        "version": release.version,
        "components": {name: asdict(ref) for name, ref in release.components.items()},
        "config": config,
        "author": release.author,
        "created_at": release.created_at,
        "git_sha": release.git_sha,
    }


def release_from_row(row: Row) -> Release:
    """The inverse of `release_to_row`."""
    return Release(
        digest=row["digest"],
        agent=row["agent"],
        version=row["version"],
        components={name: ComponentRef(**ref) for name, ref in row["components"].items()},
        spec=_parse_spec(row["config"]),
        author=row["author"],
        created_at=row["created_at"],
        git_sha=row["git_sha"],
    )


@lru_cache(maxsize=1024)
def _parse_spec(config: bytes) -> ReleaseSpec:
    return parse_config(config)


def deployment_to_row(deployment: Deployment) -> dict[str, Any]:
    """Every column of a deployment."""
    return {
        "id": deployment.id,
        "agent": deployment.agent,
        "ring": deployment.ring,
        "digest": deployment.digest,
        "kind": deployment.kind.value,
        "phase": deployment.phase.value,
        "actor": deployment.actor,
        "created_at": deployment.created_at,
        "phase_at": deployment.phase_at,
        "reason": deployment.reason,
        "quarantine": deployment.quarantine,
        "condition": asdict(deployment.condition) if deployment.condition else None,
        "source_ring": deployment.source_ring,
        "override": deployment.override,
        "rollout": asdict(deployment.rollout),
        "prepared": deployment.prepared,
        "smoke_passed": deployment.smoke_passed,
        "active_at": deployment.active_at,
        "abort": asdict(deployment.abort) if deployment.abort else None,
    }


def deployment_from_row(row: Row) -> Deployment:
    """The inverse of `deployment_to_row`."""
    values = dict(row)
    return Deployment(
        **{
            **values,
            "kind": Kind(values["kind"]),
            "phase": Phase(values["phase"]),
            "condition": Condition(**values["condition"]) if values["condition"] else None,
            "rollout": Rollout(**values["rollout"]),
            "abort": Abort(**values["abort"]) if values["abort"] else None,
        }
    )


def pointer_to_row(pointer: Pointer) -> dict[str, Any]:
    """Every column of a pointer."""
    return {
        "agent": pointer.agent,
        "ring": pointer.ring,
        "stable": pointer.stable,
        "candidate": pointer.candidate,
        "weight": pointer.weight,
        "last_good": pointer.last_good,
        "active_deployment": pointer.active_deployment,
        "retired": [asdict(item) for item in pointer.retired],
        "generation": pointer.generation,
        "changed_at": pointer.changed_at,
        "rollout": pointer.rollout,
        "holdback": pointer.holdback,
    }


def pointer_from_row(row: Row) -> Pointer:
    """The inverse of `pointer_to_row`."""
    values = dict(row)
    return Pointer(**{**values, "retired": tuple(Retired(**item) for item in values["retired"])})


def replica_to_row(status: ReplicaStatus) -> dict[str, Any]:
    """Every column of a replica."""
    return {"id": status.id, **asdict(status), "state": status.state.value}


def replica_from_row(row: Row) -> ReplicaStatus:
    """The inverse of `replica_to_row`."""
    values = {name: value for name, value in dict(row).items() if name != "id"}
    return ReplicaStatus(**{**values, "state": ReplicaState(values["state"])})


def approval_from_row(row: Row) -> Approval:
    """A decision."""
    return Approval(**{name: value for name, value in dict(row).items() if name != "id"})


def quarantine_from_row(row: Row) -> Quarantine:
    """A quarantine."""
    return Quarantine(**dict(row))


def event_from_row(row: Row) -> StoredEvent:
    """An event with its sequence number."""
    values = dict(row)
    seq = values.pop("seq")
    return StoredEvent(seq, Event(**{**values, "type": EventType(values["type"])}))


def task_to_row(task: Task) -> dict[str, Any]:
    """Every column of a request; what was captured has a table of its own."""
    values = {name: getattr(task, name) for name in _TASK}
    return {**values, "arm": task.arm.value if task.arm else None}


def task_from_row(row: Row) -> Task:
    """The inverse of `task_to_row`, with what was captured if the row has it."""
    values = dict(row)
    return Task(**{**values, "arm": Arm(values["arm"]) if values["arm"] else None})


def outcome_to_row(outcome: Outcome, state: str) -> dict[str, Any]:
    """Every column of a report."""
    return {**asdict(outcome), "source": outcome.source.value, "state": state}


def outcome_from_row(row: Row) -> StoredOutcome:
    """The inverse of `outcome_to_row`."""
    values = {name: value for name, value in dict(row).items() if name not in ("seq", "state")}
    return StoredOutcome(Outcome(**{**values, "source": Source(values["source"])}), row["state"])


def observation_from_row(row: Row) -> Observation:
    """What a judge is fed with."""
    return Observation(**{name: value for name, value in dict(row).items() if name != "rollout"})


def judgement_to_row(judgement: StoredJudgement) -> dict[str, Any]:
    """Every column of a judgement but its rollout."""
    return {
        "at": judgement.at,
        "cursor": judgement.cursor,
        "verdict": dict(judgement.verdict),
        "state": dict(judgement.state),
        "decided": judgement.decided,
    }


def judgement_from_row(row: Row) -> StoredJudgement:
    """The inverse of `judgement_to_row`."""
    return StoredJudgement(**{name: value for name, value in dict(row).items() if name != "rollout"})


_TASK = tuple(
    name for name in Task.__dataclass_fields__ if name not in ("judged_by", "report", "question", "answer")
)  # the columns of the table
