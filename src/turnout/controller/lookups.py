"""What a plan needs to know of one deployment, read from the database."""

from __future__ import annotations

from functools import partial

from turnout.domain.evidence import find_unproven_suites
from turnout.domain.models import Deployment, Digest, Pointer, Quarantine
from turnout.domain.phases import Phase
from turnout.domain.replays import KeptReplay
from turnout.ports import Snapshot


def compared_with(pointer: Pointer, judged: Deployment) -> Digest | None:
    """The release that serves beside the one which is judged: one that bakes is compared with what it replaced."""
    return pointer.last_good if judged.id == pointer.active_deployment else pointer.stable


def find_unproven(snapshot: Snapshot, pointer: Pointer, deployment: Deployment | None, now: float) -> tuple[str, ...]:
    """What the release of a deployment that was not started yet would have to have passed."""
    if deployment is None or deployment.phase is not Phase.BUILDING or pointer.stable == deployment.digest:
        return ()
    release, stable = (snapshot.release(digest) if digest else None for digest in (deployment.digest, pointer.stable))
    if release is None:
        return ()
    return find_unproven_suites(release, stable, pointer.ring, partial(snapshot.eval_runs, release.agent), now)


def find_replay(snapshot: Snapshot, deployment: Deployment | None) -> KeptReplay | None:
    """What the replay for a deployment that was not started yet found."""
    if deployment is None or deployment.phase is not Phase.BUILDING:
        return None
    return next(iter(snapshot.replays(deployment.agent, deployment=deployment.id, limit=1)), None)


def find_quarantine(snapshot: Snapshot, deployment: Deployment | None) -> Quarantine | None:
    """The quarantine of its release."""
    return snapshot.quarantine(deployment.agent, deployment.digest) if deployment is not None else None


def count_tasks(snapshot: Snapshot, deployment: Deployment | None) -> int:
    """The candidate's tasks since the present canary step began."""
    if deployment is None or deployment.rollout.step < 0:
        return 0
    return snapshot.count_tasks(deployment.id, deployment.rollout.entered_at)
