"""Tasks of rings that record → recordings, each once; and what is kept no longer goes.

Documents are put first and named by rows then, so a crash leaves at most documents that nothing names, which the next sweep
removes. How far a look came is written down after its rows: what is looked at again is there already.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from turnout.domain.captures import redact_patterns
from turnout.domain.errors import Conflict, InvalidRequest, NotFound
from turnout.domain.events import Event, EventType
from turnout.domain.models import Capture, Digest, Pointer, Record, Release, Task
from turnout.domain.outcomes import Known
from turnout.domain.recording_document import render_recording
from turnout.domain.recording_parts import (
    MOST_CALLS,
    MOST_REQUESTS,
    build_recording,
    is_of_stable,
    is_over,
    is_sampled,
    record_of,
)
from turnout.domain.recordings import Recording
from turnout.ports import Clock, RecordingQuery, RecordingStore, Snapshot, Store, StoredRecording, TaskQuery
from turnout.redaction import Redactor

log = logging.getLogger(__name__)

CURSOR = "recordings"
FORGOTTEN = "recordings_forgotten"  # which tasks are not recorded again, and until when
SETTLE_SECONDS = 60.0  # after the end of a task, in which its outcome may come and another request of it
LONGEST_TASK = 86_400.0  # seconds; one that goes on for longer is not recorded
_BATCH = 500
_LONGEST_TEXT = 1 << 20  # bytes of a path or an error
_TOGETHER = 25  # tasks whose rows are written in one transaction

Place = tuple[float, str]  # when a request began, and its id


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A task that may be recorded. `at`: when its request that was looked at began."""

    agent: str
    ring: str
    task: str
    at: float


class Recorder:
    """Records and forgets. Any number of threads may call; what is written is written by one at a time."""

    def __init__(
        self,
        store: Store,
        documents: RecordingStore,
        clock: Clock,
        settle: float = SETTLE_SECONDS,
        read_up_to: Callable[[], float] = lambda: math.inf,
    ) -> None:
        """`settle`: seconds after the end of a task; `read_up_to`: the time up to which all of tasks is in the store."""
        self._store = store
        self._documents = documents
        self._clock = clock
        self._settle = settle
        self._read_up_to = read_up_to
        self._redactor = Redactor()  # used under the lock
        self._lock = threading.Lock()  # between a document and its row nothing may sweep
        self._looking = threading.Lock()
        self._places: dict[tuple[str, str], Place] = {}  # how far a look came in each ring
        self._releases: dict[Digest, Release] = {}  # they are immutable, so never out of date
        self._waiting: dict[_Candidate, None] = {}  # were not over
        self._written: float | None = None  # the cursor

    def look(self) -> int:
        """Record what is due. Returns how many tasks were."""
        with self._looking:
            until = min(self._clock.now(), self._read_up_to()) - self._settle
            if until == -math.inf:
                return 0
            since = self._since(until)
            with self._store.snapshot() as snapshot:
                rings = [pointer for pointer in snapshot.pointers() if _records(snapshot, pointer)]
            done = sum(self._look_at(pointer, since, until) for pointer in rings)
            self._waiting = {item: None for item in self._waiting if until - item.at < LONGEST_TASK}
            self._save(min([until, *(item.at for item in self._waiting)]))
            return done

    def keep(self, agent: str, task: str, ring: str | None, actor: str) -> StoredRecording:
        """Record a task now, whatever the sample. Raises `NotFound`, `Conflict` for one that is under way."""
        with self._lock, self._store.snapshot() as snapshot:
            found = _requests(snapshot, agent, ring, task)
            if not found:
                raise NotFound(
                    f"{agent} has had no task {task[:80]!r}{f' in {ring}' if ring else ''}",
                    hint=f"`turnout tasks list {agent}` shows the latest",
                )
            requests = [item for item in found if item.ring == found[-1].ring]
            stored = snapshot.recordings(RecordingQuery(agent, requests[0].ring, task=task))
            if stored:
                return stored[0]
            if not is_over(requests, math.inf):
                raise Conflict(f"the task {task[:80]!r} is under way", hint="keep it when it is over")
            release = snapshot.release(requests[-1].release) if requests[-1].release is not None else None
            if release is None or len({item.release for item in requests}) > 1:
                raise Conflict(f"the task {task[:80]!r} was not answered by one release alone")
            record = record_of(release, requests[0].ring) or Record()
            recording = self._put(snapshot, release, requests, record)
            if recording is None:
                raise Conflict(
                    f"the task {task[:80]!r} is too long to be recorded",
                    hint=f"at most {MOST_REQUESTS} requests and {MOST_CALLS:,} calls",
                )
            with self._store.transaction() as transaction:
                if transaction.add_recording(recording):
                    transaction.emit(_event(EventType.RECORDING_KEPT, recording, self._clock.now(), actor))
        return recording

    def read(self, digest: Digest) -> bytes:
        """A document. Raises `NotFound`, `DamagedContent`."""
        return self._documents.read(digest)

    def forget(self, recordings: Sequence[StoredRecording], actor: str) -> None:
        """Forget recordings for good, and their documents if nothing else refers to them."""
        with self._lock:
            with self._store.transaction() as transaction:
                now = self._clock.now()
                forgotten = {key: until for key, until in _forgotten(transaction).items() if until > now}
                forgotten |= {_key(item.agent, item.ring, item.task): item.kept_until for item in recordings}
                transaction.save_cursor(FORGOTTEN, json.dumps(forgotten))
                transaction.remove_recordings(recordings)
                for recording in recordings:
                    transaction.emit(_event(EventType.RECORDING_DELETED, recording, self._clock.now(), actor))
            self._remove_unnamed([recording.digest for recording in recordings])

    def sweep(self) -> int:
        """Forget what is kept no longer, and every document that nothing refers to. Returns how many documents went."""
        with self._lock:
            while True:
                with self._store.transaction() as transaction:
                    if transaction.prune_recordings(self._clock.now(), _BATCH) < _BATCH:
                        break
            return self._remove_unnamed(self._documents.digests())

    def _since(self, until: float) -> float:
        if self._written is None:
            with self._store.snapshot() as snapshot:
                stored = snapshot.cursor(CURSOR)
            self._written = until if stored is None else float(stored)
            self._save(self._written, again=stored is None)
        return self._written

    def _save(self, at: float, *, again: bool = False) -> None:
        if at == self._written and not again:
            return
        with self._store.transaction() as transaction:
            transaction.save_cursor(CURSOR, repr(at))
        self._written = at

    def _look_at(self, pointer: Pointer, since: float, until: float) -> int:
        """Record what is due in one ring."""
        ring = (pointer.agent, pointer.ring)
        place = self._places.get(ring, (since, ""))
        waited = [item for item in self._waiting if (item.agent, item.ring) == ring]
        done = sum(self._take(part, pointer, until) for part in _parts(waited))
        while True:
            with self._store.snapshot() as snapshot:
                begun = snapshot.begun_tasks(*ring, place, until, _BATCH)
                firsts = [first for first in _first_of_each(begun) if self._is_wanted(snapshot, first)]
            wanted = [_Candidate(*ring, first.task, first.at) for first in firsts]
            done += sum(self._take(part, pointer, until) for part in _parts(wanted))
            if begun:
                place = self._places[ring] = (begun[-1].at, begun[-1].request)
            if len(begun) < _BATCH:
                return done

    def _is_wanted(self, snapshot: Snapshot, first: Task) -> bool:
        """As far as one request tells: most tasks of a small sample are passed over here."""
        _, record = self._recording_release(snapshot, first)
        return record is not None and is_sampled(first.task, record.share)

    def _recording_release(self, snapshot: Snapshot, request: Task) -> tuple[Release | None, Record | None]:
        """The release that answered, and what it says of recordings in its ring."""
        if request.release is None:
            return None, None
        if request.release not in self._releases:
            found = snapshot.release(request.release)
            if found is None:
                return None, None
            self._releases[request.release] = found
        release = self._releases[request.release]
        return release, record_of(release, request.ring)

    def _take(self, items: Sequence[_Candidate], pointer: Pointer, until: float) -> int:
        """Record those that are to be; remember those that are not over. Returns how many were recorded."""
        again: list[_Candidate] = []
        with self._lock:
            with self._store.snapshot() as snapshot:
                forgotten = _forgotten(snapshot)
                wanted = [item for item in items if _key(item.agent, item.ring, item.task) not in forgotten]
                found = [self._find(snapshot, item, pointer, until, again) for item in wanted]
            with self._store.transaction() as transaction:
                done = sum(transaction.add_recording(recording) for recording in found if recording is not None)
        for item in items:
            self._waiting.pop(item, None)
        self._waiting.update(dict.fromkeys(again))
        return done

    def _find(
        self, snapshot: Snapshot, item: _Candidate, pointer: Pointer, until: float, again: list[_Candidate]
    ) -> StoredRecording | None:
        """The recording of a task, whose document is stored by now. None for one that is not to be recorded, or not yet."""
        requests = _requests(snapshot, item.agent, item.ring, item.task)
        if not requests or not is_of_stable(requests, pointer.stable):
            return None
        release, record = self._recording_release(snapshot, requests[0])
        if release is None or record is None:
            return None
        if not is_over(requests, until):
            again.append(item)
            return None
        if snapshot.recordings(RecordingQuery(item.agent, item.ring, task=item.task, limit=1)):
            return None
        try:
            return self._put(snapshot, release, requests, record)
        except InvalidRequest as error:
            log.info("the task %s cannot be recorded: %s", item.task, error.message)
            return None

    def _put(
        self, snapshot: Snapshot, release: Release, requests: Sequence[Task], record: Record
    ) -> StoredRecording | None:
        """Store the document of a task. None for one with too much in it."""
        first = requests[0]
        calls = snapshot.calls(first.task, MOST_CALLS + 1)
        if len(requests) > MOST_REQUESTS or len(calls) > MOST_CALLS:
            log.info("the task %s is too long to be recorded", first.task)
            return None
        known = snapshot.known([first.task]).get((first.task, first.agent, first.ring), Known())
        recording = self._without_secrets(build_recording(release, requests, calls, known), release)
        content = render_recording(recording)
        return StoredRecording(
            agent=first.agent,
            ring=first.ring,
            task=first.task,
            release=release.digest,
            at=first.at,
            kept_until=self._clock.now() + record.keep,
            digest=self._documents.put(content),
            size=len(content),
        )

    def _without_secrets(self, recording: Recording, release: Release) -> Recording:
        """Paths and errors too: nothing that a pattern matches is kept, and nothing where it takes too long."""
        capture = Capture(_LONGEST_TEXT, redact_patterns(release.spec, recording.ring))
        if not capture.redact:
            return recording

        def kept(text: str) -> str:
            return (self._redactor.redact(text.encode(errors="replace"), capture) or b"").decode(errors="replace")

        requests = tuple(replace(item, path=kept(item.path)) for item in recording.requests)
        tools = tuple(replace(call, error=kept(call.error)) for call in recording.tools)
        return replace(recording, requests=requests, tools=tools)

    def _remove_unnamed(self, digests: Iterable[Digest]) -> int:
        with self._store.snapshot() as snapshot:
            given = set(digests)
            unnamed = given - snapshot.kept_digests(given)
        for digest in unnamed:
            self._documents.delete(digest)
        return len(unnamed)


def _event(type_: EventType, recording: StoredRecording, at: float, actor: str) -> Event:
    data = {"task": recording.task, "digest": recording.release, "document": recording.digest}
    return Event(type_, at, actor, recording.agent, recording.ring, None, data)


def _forgotten(snapshot: Snapshot) -> dict[str, float]:
    """Until when recordings would have been kept that were deleted: a look may come past their tasks again."""
    found: dict[str, float] = json.loads(snapshot.cursor(FORGOTTEN) or "{}")
    return found


def _key(agent: str, ring: str, task: str) -> str:
    """A task that nothing shall be kept of."""
    return hashlib.sha256(json.dumps([agent, ring, task]).encode()).hexdigest()


def _records(snapshot: Snapshot, pointer: Pointer) -> bool:
    release = snapshot.release(pointer.stable) if pointer.stable is not None else None
    return release is not None and record_of(release, pointer.ring) is not None


def _requests(snapshot: Snapshot, agent: str, ring: str | None, task: str) -> list[Task]:
    """Those of a task with what was captured, oldest first; no more than tells that there are too many."""
    query = TaskQuery(task=task, agent=agent, ring=ring, limit=MOST_REQUESTS + 1, payloads=True)
    return [item for item in snapshot.tasks(query) if item.task == task][::-1]


def _first_of_each(begun: Iterable[Task]) -> list[Task]:
    """The first request of each task."""
    found: dict[str, Task] = {}
    for item in begun:
        found.setdefault(item.task, item)
    return list(found.values())


def _parts(items: Sequence[_Candidate]) -> Iterator[Sequence[_Candidate]]:
    return (items[start : start + _TOGETHER] for start in range(0, len(items), _TOGETHER))
