"""Domain values → what the wire shows. Pure, but for the reads that it is handed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from turnout.domain.events import EventType
from turnout.domain.models import FULL_WEIGHT, Deployment, Digest, Pointer, Release, ReplicaStatus
from turnout.domain.phases import IN_PROGRESS, Phase
from turnout.domain.replay_document import summary_document
from turnout.domain.replays import KeptReplay
from turnout.domain.rollout import canary_steps
from turnout.ports import Snapshot, StoredEvent
from turnout.schemas import (
    AgentView,
    DeploymentView,
    EventView,
    ReleaseView,
    ReplaySummaryView,
    ReplayView,
    ReplicaView,
    RetiredView,
    RingView,
    TransitionView,
)
from turnout.services.office import find_way_back, ring_names

_NOT_REACHED = (Phase.FAILED, Phase.ROLLING_BACK, Phase.ROLLED_BACK)


def view_time(at: float) -> str:
    """ISO 8601 in UTC with microseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def view_deployment(snapshot: Snapshot, deployment: Deployment, *, transitions: bool = False) -> DeploymentView:
    """A deployment, with how far its canary has come; on request with every transition."""
    release = snapshot.release(deployment.digest)
    pointer = snapshot.pointer(deployment.agent, deployment.ring)
    settings = release.spec.ring(deployment.ring) if release else None
    running = deployment.phase in IN_PROGRESS
    at = deployment.rollout.step
    in_canary = running and at >= 0 and pointer.candidate == deployment.digest
    stable = snapshot.release(pointer.stable) if pointer.stable else None
    stable_settings = stable.spec.ring(deployment.ring) if stable else None
    steps = canary_steps(deployment, pointer, settings, stable_settings) if settings and running else ()
    condition = deployment.condition
    view: DeploymentView = {
        "id": deployment.id,
        "agent": deployment.agent,
        "ring": deployment.ring,
        "digest": deployment.digest,
        "version": release.version if release else "",
        "state": deployment.phase.value,
        "kind": deployment.kind.value,
        "condition": {
            "type": condition.type,
            "message": condition.message,
            "since": view_time(condition.since),
        }
        if condition
        else None,
        "actor": deployment.actor,
        "reason": deployment.reason,
        "created_at": view_time(deployment.created_at),
        "state_since": view_time(deployment.phase_at),
        "step": at + 1,
        "steps": len(steps),
        "weight": pointer.weight * 100 / FULL_WEIGHT if in_canary else 0.0,
        "tasks": snapshot.count_tasks(deployment.id, deployment.rollout.entered_at) if in_canary else 0,
    }
    if transitions:
        view["transitions"] = view_transitions(snapshot, deployment.id)
        found = snapshot.replays(deployment.agent, deployment=deployment.id, limit=1)
        view["replay"] = view_replay(snapshot, found[0]) if found else None
    return view


def view_transitions(snapshot: Snapshot, deployment_id: str) -> list[TransitionView]:
    """Every transition of a deployment, its creation first (from null)."""
    shown: list[TransitionView] = []
    for stored in snapshot.events(deployment=deployment_id, limit=10_000):
        event = stored.event
        if event.type is EventType.DEPLOYMENT_CREATED:
            origin, target = None, "queued"
        elif event.type is EventType.DEPLOYMENT_TRANSITIONED:
            origin, target = str(event.data["from"]), str(event.data["to"])
        else:
            continue
        reason = str(event.data["reason"])
        shown.append({"from": origin, "to": target, "at": view_time(event.at), "actor": event.actor, "reason": reason})
    return shown


def view_release(snapshot: Snapshot, release: Release) -> ReleaseView:
    """A release with all tags that point at it."""
    tags = [tag for tag, digest in snapshot.tags(release.agent).items() if digest == release.digest]
    quarantine = snapshot.quarantine(release.agent, release.digest)
    return {
        "digest": release.digest,
        "agent": release.agent,
        "version": release.version,
        "tags": sorted(tags),
        "components": {
            name: {"digest": ref.digest, "media_type": ref.media_type, "size": ref.size}
            for name, ref in release.components.items()
        },
        "author": release.author,
        "created_at": view_time(release.created_at),
        "git_sha": release.git_sha,
        "success": release.spec.success,
        "quarantine": quarantine.reason if quarantine else None,
    }


def view_agent(snapshot: Snapshot, agent: str, traffic_url: str) -> AgentView:
    """An agent and what is where in each of its rings."""
    pointers = {pointer.ring: pointer for pointer in snapshot.pointers(agent)}
    replicas = snapshot.replicas(agent)
    counts = snapshot.task_counts(agent)
    rings: list[RingView] = []
    for ring in ring_names(snapshot, agent):
        pointer = pointers.get(ring, Pointer(agent, ring))
        running = [item for item in snapshot.unfinished(agent, ring) if item.phase in IN_PROGRESS]
        way_back = pointer.stable if pointer.candidate else find_way_back(snapshot, pointer)
        rings.append(
            {
                "ring": ring,
                "stable": pointer.stable,
                "candidate": pointer.candidate,
                "weight": pointer.weight * 100 / FULL_WEIGHT,
                "last_good": pointer.last_good,
                "way_back": way_back,
                "active_deployment": pointer.active_deployment,
                "url": f"{traffic_url}/{agent}/{ring}/",
                "stable_version": _version(snapshot, pointer.stable),
                "candidate_version": _version(snapshot, pointer.candidate),
                "last_good_version": _version(snapshot, pointer.last_good),
                "way_back_version": _version(snapshot, way_back),
                "in_progress": view_deployment(snapshot, running[0]) if running else None,
                "failed": _view_failed(snapshot, agent, ring),
                "retired": [_view_retired(snapshot, agent, item.digest) for item in pointer.retired],
                "replicas": [view_replica(item) for item in replicas if item.ring == ring],
                "requests": {
                    digest or "none": {"total": total, "failed": failed}
                    for (counted_ring, digest), (total, failed) in counts.items()
                    if counted_ring == ring
                },
                "judged": _view_judged(snapshot, pointer.rollout),
                "holdback": pointer.holdback * 100 / FULL_WEIGHT,
                "tripped": _view_tripped(snapshot, pointer.active_deployment),
            }
        )
    return {"agent": agent, "rings": rings}


def _view_judged(snapshot: Snapshot, rollout: str | None) -> str | None:
    judgement = snapshot.judgement(rollout) if rollout is not None else None
    return str(judgement.verdict["kind"]) if judgement is not None else None


def _view_tripped(snapshot: Snapshot, active: str | None) -> str | None:
    deployment = snapshot.deployment(active) if active is not None else None
    return deployment.rollout.tripped if deployment is not None else None


def _view_failed(snapshot: Snapshot, agent: str, ring: str) -> DeploymentView | None:
    """The newest deployment of a ring, if it was the last that was tried there and did not become active."""
    newest = snapshot.deployments(agent, ring, limit=1)
    if not newest or newest[0].active_at is not None or newest[0].phase not in _NOT_REACHED:
        return None
    return view_deployment(snapshot, newest[0], transitions=True)


def _view_retired(snapshot: Snapshot, agent: str, digest: Digest) -> RetiredView:
    quarantine = snapshot.quarantine(agent, digest)
    return {
        "digest": digest,
        "version": _version(snapshot, digest),
        "quarantine": quarantine.reason if quarantine else None,
    }


def view_replica(replica: ReplicaStatus) -> ReplicaView:
    """A replica as it was last seen."""
    return {
        "id": replica.id,
        "digest": replica.digest,
        "state": replica.state.value,
        "address": replica.address,
        "restarts": replica.attempt - 1,
        "message": replica.message,
    }


def view_event(stored: StoredEvent) -> EventView:
    """An event with its sequence number."""
    event = stored.event
    return {
        "seq": stored.seq,
        "type": event.type.value,
        "at": view_time(event.at),
        "actor": event.actor,
        "agent": event.agent,
        "ring": event.ring,
        "deployment": event.deployment,
        "data": dict(event.data),
    }


def _version(snapshot: Snapshot, digest: Digest | None) -> str | None:
    release = snapshot.release(digest) if digest else None
    return release.version if release else None


def view_replay(snapshot: Snapshot, item: KeptReplay) -> ReplayView:
    """A replay that is kept, without its report."""
    baseline, candidate = (snapshot.release(digest) for digest in (item.baseline, item.candidate))
    summary: dict[str, Any] = summary_document(item.summary)
    return {
        "id": item.id,
        "agent": item.agent,
        "ring": item.ring,
        "baseline": item.baseline,
        "baseline_version": baseline.version if baseline is not None else "",
        "candidate": item.candidate,
        "candidate_version": candidate.version if candidate is not None else "",
        "at": view_time(item.at),
        "actor": item.actor,
        "deployment": item.deployment,
        "summary": cast(ReplaySummaryView, {**summary, "message": item.summary.describe()}),
        "report": item.report,
    }
