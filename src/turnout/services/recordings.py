"""Recordings: which there are, what is in them, keeping one by hand, forgetting one.

Whoever may read the instance sees which there are. Their content is what callers wrote and tools answered: it takes the
right to build.
"""

from __future__ import annotations

from dataclasses import dataclass

from turnout.domain.errors import NotFound, TurnoutError
from turnout.domain.models import Digest
from turnout.domain.policy import Verb
from turnout.domain.recording_document import parse_recording
from turnout.ports import RecordingQuery, Snapshot, StoredRecording
from turnout.schemas import RecordingList, RecordingView
from turnout.services.office import Actor, Office, check_agent, check_ring, find_release
from turnout.services.views import view_time


@dataclass(frozen=True, slots=True)
class RecordingFilter:
    """Which recordings of an agent somebody wants to see. `release` as in `find_release`."""

    ring: str | None = None
    release: str | None = None
    task: str | None = None
    limit: int = 100
    skip: int = 0


def list_recordings(office: Office, actor: Actor, agent: str, wanted: RecordingFilter) -> RecordingList:
    """Recordings, newest first, each with why it cannot be replayed. Raises `NotFound` for an unknown ring or release."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        check_agent(snapshot, agent)
        if wanted.ring is not None:
            check_ring(snapshot, agent, wanted.ring)
        release = find_release(snapshot, agent, wanted.release).digest if wanted.release is not None else None
        query = RecordingQuery(agent, wanted.ring, release, wanted.task, limit=wanted.limit, skip=wanted.skip)
        found = snapshot.recordings(query)
        versions = _versions(snapshot, found)
    # Documents are read after the snapshot, which must not be held for long.
    return {"recordings": [_view(office, item, versions) for item in found]}


def read_recording(office: Office, actor: Actor, agent: str, document: str) -> bytes:
    """The document of a recording, verified. Raises `NotFound`, `DamagedContent`."""
    actor.check(Verb.BUILD)
    return office.recordings.read(_find(office, agent, document).digest)


def keep_recording(office: Office, actor: Actor, agent: str, task: str, ring: str | None = None) -> RecordingView:
    """Record a task now, whatever the sample. Raises `NotFound`, `Conflict` for one that is under way."""
    actor.check(Verb.BUILD)
    with office.store.snapshot() as snapshot:
        check_agent(snapshot, agent)
    kept = office.recordings.keep(agent, task, ring, actor.name)
    with office.store.snapshot() as snapshot:
        versions = _versions(snapshot, (kept,))
    return _view(office, kept, versions)


def delete_recording(office: Office, actor: Actor, agent: str, document: str) -> None:
    """Forget a recording, and its document. Raises `NotFound`."""
    actor.check(Verb.BUILD)
    office.recordings.forget([_find(office, agent, document)], actor.name)


def _find(office: Office, agent: str, document: str) -> StoredRecording:
    with office.store.snapshot() as snapshot:
        check_agent(snapshot, agent)
        found = snapshot.recordings(RecordingQuery(agent, digest=Digest(document), limit=1))
    if not found:
        raise NotFound(
            f"agent {agent} has no recording {document[:80]!r}", hint=f"`turnout recordings list {agent}` shows them"
        )
    return found[0]


def _versions(snapshot: Snapshot, found: tuple[StoredRecording, ...]) -> dict[str, str]:
    releases = (snapshot.release(digest) for digest in {item.release for item in found})
    return {release.digest: release.version for release in releases if release is not None}


def _view(office: Office, item: StoredRecording, versions: dict[str, str]) -> RecordingView:
    view: RecordingView = {
        "agent": item.agent,
        "ring": item.ring,
        "task": item.task,
        "digest": item.release,
        "version": versions.get(item.release),
        "document": item.digest,
        "size": item.size,
        "at": view_time(item.at),
        "kept_until": view_time(item.kept_until),
        "requests": 0,
        "tool_calls": 0,
        "model_calls": 0,
        "faults": [],
        "model_faults": [],
        "problem": None,
    }
    try:
        recording = parse_recording(office.recordings.read(item.digest))
    except TurnoutError as error:
        view["problem"] = error.message
        return view
    view["requests"] = len(recording.requests)
    view["tool_calls"] = len(recording.tools)
    view["model_calls"] = len(recording.models)
    view["faults"] = list(recording.faults(models=False))
    view["model_faults"] = [fault for fault in recording.faults(models=True) if fault not in view["faults"]]
    return view
