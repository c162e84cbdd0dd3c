"""Replays: what came of recorded tasks that were asked of another release; keeping, showing, and the gate of a ring.

Whoever may read the instance sees which there are and what they add up to. A report holds what callers wrote: it takes the
right to build.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from turnout.domain.errors import InvalidRequest, NotFound, TurnoutError
from turnout.domain.events import Event, EventType
from turnout.domain.models import Deployment, Digest, Release, ReplaySettings
from turnout.domain.phases import Phase
from turnout.domain.policy import Verb
from turnout.domain.replay_document import parse_report
from turnout.domain.replay_gate import replay_fault
from turnout.domain.replay_lines import unreadable_line
from turnout.domain.replays import KeptReplay, ReplayReport, Unreadable
from turnout.ports import RecordingQuery, StoredRecording, Transaction
from turnout.schemas import ReplayList, ReplayReportView, ReplayView
from turnout.services.office import Actor, Office, check_agent, find_release
from turnout.services.views import view_replay

_GATE = "turnout"  # who replays for a gate


class AskRelease(Protocol):
    """Asks recorded tasks of a release, in a process of its own."""

    def __call__(
        self,
        deployment: Deployment,
        releases: tuple[Release, Release],
        asked: ReplaySettings,
        recordings: Iterable[bytes],
        say: Callable[[str], None],
        wanted: Callable[[], bool],
    ) -> bytes:
        """The report. `releases`: the one that answered then, the one that is asked. Raises `BuildFailed`."""


def record_replay(office: Office, actor: Actor, agent: str, content: bytes) -> ReplayView:
    """Keep the report of a replay. Raises `InvalidRequest` for one of another agent, `NotFound` for unknown releases."""
    actor.check(Verb.BUILD)
    report = parse_report(content)
    if report.agent != agent:
        raise InvalidRequest(f"the report is about the agent {report.agent}, not about {agent}")
    with office.store.transaction() as transaction:
        check_agent(transaction, agent)
        for digest in (report.baseline, report.candidate):
            find_release(transaction, agent, digest)
        known = next(
            (item for item in transaction.replays(agent, report.candidate) if item.report == _hash(content)), None
        )
        return view_replay(transaction, known or _keep(office, transaction, report, content, actor.name))


def list_replays(office: Office, actor: Actor, agent: str, ref: str | None, limit: int) -> ReplayList:
    """Replays, newest first; of one candidate where it is named."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        check_agent(snapshot, agent)
        candidate = find_release(snapshot, agent, ref).digest if ref else None
        return {"replays": [view_replay(snapshot, item) for item in snapshot.replays(agent, candidate, limit=limit)]}


def show_replay(office: Office, actor: Actor, agent: str, replay_id: str) -> ReplayReportView:
    """One replay with its report; `latest` is the newest. Raises `NotFound`."""
    actor.check(Verb.BUILD)
    with office.store.snapshot() as snapshot:
        check_agent(snapshot, agent)
        newest = next(iter(snapshot.replays(agent, limit=1)), None) if replay_id == "latest" else None
        found = newest or snapshot.replay(replay_id)
        content = snapshot.replay_report(found.id) if found is not None else None
        if found is None or content is None or found.agent != agent:
            raise NotFound(
                f"agent {agent} has no replay {replay_id!r}", hint=f"`turnout replay list {agent}` shows them"
            )
        return {**view_replay(snapshot, found), "document": content.decode()}


# --- the gate of a ring -----------------------------------------------------------------------------------------------


def replay_for_gate(
    office: Office, ask: AskRelease, deployment: Deployment, asked: ReplaySettings, say: Callable[[str], None]
) -> str | None:
    """Replay what a ring asks for before a deployment, and keep the report. Returns why the gate stays shut, else None.

    Nothing is replayed where no other release serves in the ring whose tasks are recorded: there is nothing to compare.
    """
    with office.store.snapshot() as snapshot:
        stable = snapshot.pointer(deployment.agent, asked.source).stable
        candidate = snapshot.release(deployment.digest)
        baseline = snapshot.release(stable) if stable is not None else None
        if candidate is None or baseline is None or baseline.digest == candidate.digest:
            return None
        query = RecordingQuery(deployment.agent, asked.source, baseline.digest, limit=asked.tasks)
        found = snapshot.recordings(query)
    if not found:
        return replay_fault(asked, None, deployment.ring)
    lines = _lines(office, found)
    content = ask(deployment, (baseline, candidate), asked, lines, say, lambda: _is_wanted(office, deployment))
    with office.store.transaction() as transaction:
        kept = _keep(office, transaction, parse_report(content), content, _GATE, deployment)
    return replay_fault(asked, kept, deployment.ring)


def _lines(office: Office, found: Sequence[StoredRecording]) -> Iterator[bytes]:
    """Documents; one that is missing or damaged is named in its place."""
    for item in found:
        try:
            yield office.recordings.read(item.digest)
        except TurnoutError as error:
            yield unreadable_line(Unreadable(item.task, error.message))


def _is_wanted(office: Office, deployment: Deployment) -> bool:
    with office.store.snapshot() as snapshot:
        now = snapshot.deployment(deployment.id)
    return now is not None and now.phase is Phase.BUILDING and now.abort is None


def _keep(
    office: Office,
    transaction: Transaction,
    report: ReplayReport,
    content: bytes,
    actor: str,
    deployment: Deployment | None = None,
) -> KeptReplay:
    now = office.clock.now()
    kept = KeptReplay(
        id=office.new_id("replay"),
        agent=report.agent,
        ring=report.ring,
        baseline=report.baseline,
        candidate=report.candidate,
        at=now,
        actor=actor,
        deployment=deployment.id if deployment is not None else None,
        summary=report.summary,
        report=_hash(content),
    )
    transaction.add_replay(kept, content)
    data = {
        "replay": kept.id,
        "digest": kept.candidate,
        "baseline": kept.baseline,
        "tasks": kept.summary.tasks,
        "same": kept.summary.same,
        "message": kept.summary.describe(),
    }
    ring = deployment.ring if deployment is not None else kept.ring
    transaction.emit(Event(EventType.REPLAY_RECORDED, now, actor, kept.agent, ring, kept.deployment, data))
    return kept


def _hash(content: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")
