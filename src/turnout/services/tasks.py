"""Tasks as they are listed: which requests came, who answered them, and what became of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from turnout.domain.errors import InvalidRequest
from turnout.domain.models import Digest, Task
from turnout.domain.outcomes import Known, TaskKey
from turnout.domain.policy import Verb
from turnout.manifest.values import parse_duration
from turnout.ports import Snapshot, TaskQuery
from turnout.schemas import OutcomeView, TaskList, TaskView
from turnout.services.office import Actor, Office, check_agent, check_ring, find_release
from turnout.services.views import view_time


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which requests somebody wants to see. `since`, `until`: ISO 8601, or how long ago, such as `2h`."""

    agent: str | None = None
    ring: str | None = None
    release: str | None = None  # as in `find_release`; without an agent a whole digest
    arm: str | None = None
    rollout: str | None = None
    failed: bool | None = None
    since: str | None = None
    until: str | None = None
    limit: int = 100
    cursor: str | None = None


def list_tasks(office: Office, actor: Actor, wanted: TaskFilter) -> TaskList:
    """Requests, newest first, a page at a time. Raises `InvalidRequest` for a time or cursor that cannot be read."""
    actor.check(Verb.READ)
    now = office.clock.now()
    with office.store.snapshot() as snapshot:
        query = TaskQuery(
            agent=wanted.agent,
            ring=wanted.ring,
            release=_find_digest(snapshot, wanted),
            arm=wanted.arm,
            rollout=wanted.rollout,
            failed=wanted.failed,
            since=None if wanted.since is None else parse_moment(wanted.since, now),
            until=None if wanted.until is None else parse_moment(wanted.until, now),
            limit=wanted.limit,
        )
        found, following = _read_page(snapshot, query, wanted.cursor)
        known = snapshot.known({task.task for task in found})
        versions = name_versions(snapshot, found)
        return {"tasks": [view_task(task, known, versions) for task in found], "next": following}


def parse_moment(text: str, now: float) -> float:
    """Seconds since the epoch of an ISO 8601 time (UTC unless it says otherwise), or of `2h`, which is so long ago.

    Raises `InvalidRequest`.
    """
    try:
        return now - parse_duration(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"{text[:60]!r} is no time", hint='such as "2h", "90m", "2026-05-04" or "2026-05-04T12:30:00Z"'
        ) from None


def view_task(task: Task, known: Mapping[TaskKey, Known], versions: Mapping[str, str]) -> TaskView:
    """One request, with what is known of its task."""
    return {
        "request": task.request,
        "task": task.task,
        "agent": task.agent,
        "ring": task.ring,
        "digest": task.release,
        "version": versions.get(task.release) if task.release else None,
        "at": view_time(task.at),
        "duration": task.duration,
        "status": task.status,
        "method": task.method,
        "path": task.path,
        "bytes_in": task.bytes_in,
        "bytes_out": task.bytes_out,
        "flags": task.flags,
        "arm": task.arm.value if task.arm else None,
        "probability": task.probability,
        "rollout": task.rollout,
        "pinned": task.pinned,
        "outcome": view_known(known.get((task.task, task.agent, task.ring), Known())),
    }


def view_known(known: Known) -> OutcomeView:
    """What is known of a task, as the wire says it."""
    success = None if known.failed is None else not known.failed
    return {"success": success, "intervention": known.intervened, "cost": known.cost}


def name_versions(snapshot: Snapshot, tasks: Sequence[Task]) -> dict[str, str]:
    """Digest → version, of the releases of some requests."""
    releases = (snapshot.release(digest) for digest in {task.release for task in tasks if task.release})
    return {release.digest: release.version for release in releases if release}


def _find_digest(snapshot: Snapshot, wanted: TaskFilter) -> Digest | None:
    if wanted.agent is not None:
        check_agent(snapshot, wanted.agent)
        if wanted.ring is not None:
            check_ring(snapshot, wanted.agent, wanted.ring)
        return find_release(snapshot, wanted.agent, wanted.release).digest if wanted.release else None
    if wanted.release is None:
        return None
    if not wanted.release.startswith("sha256:"):
        raise InvalidRequest(
            f"{wanted.release[:80]!r} names a release of one agent", hint="name the agent too, or the whole digest"
        )
    return Digest(wanted.release)


def _read_page(snapshot: Snapshot, query: TaskQuery, cursor: str | None) -> tuple[list[Task], str | None]:
    """The requests after a cursor, and the cursor after them. Many may have come in the same millisecond."""
    limit, given = query.limit, 0
    last: tuple[float, str] | None = None
    if cursor is not None:
        at, given, request = _parse_cursor(cursor)
        last = at, request
        query = replace(query, until=math.nextafter(at, math.inf), limit=limit + given)
    found = [task for task in snapshot.tasks(query) if last is None or _comes_after(task, last)][:limit]
    if len(found) < limit:
        return found, None
    end = found[-1]
    together = sum(task.at == end.at for task in found) + (given if last and last[0] == end.at else 0)
    return found, f"{end.at!r}~{together}~{end.request}"


def _comes_after(task: Task, last: tuple[float, str]) -> bool:
    """In the order of pages: newest first, by request where the times are the same."""
    return (-task.at, task.request) > (-last[0], last[1])


def _parse_cursor(cursor: str) -> tuple[float, int, str]:
    at, _, rest = cursor.partition("~")
    given, _, request = rest.partition("~")
    try:
        moment, count = float(at), int(given)
    except ValueError:
        moment, count = math.nan, -1
    if not math.isfinite(moment) or not 0 <= count <= 1_000_000 or not request:
        raise InvalidRequest("the cursor is none of this list", hint="take `next` of the page before as it is")
    return moment, count, request
