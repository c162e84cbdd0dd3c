"""Releases → the replicas that a ring should run, and when one that ended is started again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from turnout.domain.events import Event, EventType
from turnout.domain.models import Release, ReplicaSpec, ReplicaState, ReplicaStatus, RingSettings

ACTOR = "turnout"
STEADY_SECONDS = 60.0  # a replica that ran this long is started again at once
LONGEST_BACKOFF = 30.0
CRASH_LOOP_ATTEMPTS = 4  # a new release that needs more starts than this is given up


def build_replica_spec(release: Release, ring: RingSettings, index: int, attempt: int) -> ReplicaSpec:
    """What the runtime needs to start one replica of a release in a ring."""
    spec = release.spec
    env = {
        **spec.env,
        **ring.env,
        "TURNOUT_AGENT": release.agent,
        "TURNOUT_RING": ring.name,
        "TURNOUT_RELEASE": release.digest,
        "TURNOUT_VERSION": release.version,
    }
    return ReplicaSpec(
        agent=release.agent,
        ring=ring.name,
        digest=release.digest,
        index=index,
        attempt=attempt,
        start=spec.start,
        env=env,
        health=spec.health,
        limits=spec.limits,
        lock=spec.lock,
        python=spec.python,
    )


def next_attempt(status: ReplicaStatus) -> tuple[int, float]:
    """For a replica that ended: the number of its next start, and the earliest time for it. Numbers only grow."""
    ended = status.exited_at if status.exited_at is not None else status.started_at
    if _was_steady(status):
        return status.attempt + 1, ended
    return status.attempt + 1, ended + min(LONGEST_BACKOFF, 0.5 * 2 ** min(status.attempt - 1, 10))


def in_crash_loop(status: ReplicaStatus) -> bool:
    """Whether a replica ended so often in a row that starting it once more tells nothing new."""
    ended = status.state is ReplicaState.EXITED
    return ended and not _was_steady(status) and status.attempt >= CRASH_LOOP_ATTEMPTS


def describe_exit(status: ReplicaStatus) -> str:
    """How a replica ended, for a person."""
    code = status.exit_code
    how = f"ended by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    times = "start" if status.attempt == 1 else "starts"
    return f"{how} after {status.attempt} {times}" + (f" ({status.message})" if status.message else "")


def find_restarts(before: Iterable[ReplicaStatus], now: Iterable[ReplicaStatus], at: float) -> Iterator[Event]:
    """Tells of each replica that ended by itself and was started again between two looks."""
    known = {(status.digest, status.index): status for status in before}
    for status in now:
        former = known.get((status.digest, status.index))
        if former is not None and former.state is ReplicaState.EXITED and status.attempt > former.attempt:
            data = {"digest": status.digest, "replica": status.index, "message": describe_exit(former)}
            yield Event(EventType.REPLICA_RESTARTED, at, ACTOR, status.agent, status.ring, data=data)


def _was_steady(status: ReplicaStatus) -> bool:
    return status.exited_at is not None and status.exited_at - status.started_at >= STEADY_SECONDS
