"""The proxy's access log → task records, exactly once: records and cursor commit together."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from turnout.domain.captures import kept_capture
from turnout.domain.models import Capture, Digest, Release, Task
from turnout.domain.outcomes import read_task
from turnout.ports import ACCESS_LOG, AccessLog, AccessLogChunk, Clock, Store

log = logging.getLogger(__name__)

FLUSHED_AFTER = 1.0  # seconds after which what the proxy logged is in its file for certain
_LONGEST_PATH = 10_000  # bytes


class Ingest:
    """Reads what callers were served while the server was up, and while it was not."""

    def __init__(
        self,
        store: Store,
        log: AccessLog,
        parse: Callable[[bytes], Task | None],  # raises ValueError for a damaged line
        redact: Callable[[bytes | None, Capture], bytes | None],
        clock: Clock | None = None,
    ) -> None:
        """`redact`: what may be kept of a payload. Without a clock, all that is in the log is taken for complete."""
        self._clock = clock
        self.read_up_to = -math.inf  # every request that ended before this time is recorded
        self._store = store
        self._log = log
        self._parse = parse
        self._redact = redact
        self._releases: dict[Digest, Release | None] = {}

    def take_in(self) -> set[tuple[str, str]]:
        """Take in what the log has now, in batches. Returns the (agent, ring) pairs that got tasks."""
        touched: set[tuple[str, str]] = set()
        with self._store.snapshot() as snapshot:
            cursor = snapshot.cursor(ACCESS_LOG)
        while True:
            asked_at = self._clock.now() if self._clock is not None else math.inf
            chunk = self._log.read(cursor)
            if chunk.cursor != cursor:
                touched |= self._record(chunk)
            # What is written meanwhile is the next pass's: under load there is always something.
            if chunk.ended:
                self.read_up_to = asked_at - FLUSHED_AFTER
                self._log.rotate()
            if chunk.ended or chunk.cursor == cursor:
                return touched
            cursor = chunk.cursor

    def _record(self, chunk: AccessLogChunk) -> set[tuple[str, str]]:
        """One batch, in one transaction. Returns the (agent, ring) pairs that got tasks."""
        tasks = list(self._parse_all(chunk.lines))
        named = {digest for task in tasks for digest in (task.release, task.judged_by) if digest is not None}
        releases = self._look_up(named)
        said = {
            task.request: replace(outcome, agent=task.agent, ring=task.ring)
            for task in tasks
            if (judge := releases.get(task.judged_by or task.release)) is not None
            and (outcome := read_task(task, judge.spec.success)) is not None
        }
        kept = [self._captured(task, releases.get(task.release)) for task in tasks]
        with self._store.transaction() as transaction:
            transaction.add_tasks(kept, said, chunk.cursor)
        return {(task.agent, task.ring) for task in tasks}

    def _parse_all(self, lines: tuple[bytes, ...]) -> Iterator[Task]:
        """Says how many lines cannot be read: a full disk or a killed proxy leaves such, and with each a request is lost."""
        damaged = 0
        for line in filter(None, lines):
            try:
                task = self._parse(line)
            except ValueError:
                damaged += 1
                continue
            if task is not None:
                yield task
        if damaged:
            log.warning("damaged lines of the access log: %d; as many requests may be missing in the records", damaged)

    def _look_up(self, digests: set[Digest]) -> dict[Digest | None, Release]:
        """The releases that are known of these; none is under None."""
        missing = digests - self._releases.keys()
        if missing:
            with self._store.snapshot() as snapshot:
                self._releases.update({digest: snapshot.release(digest) for digest in missing})
        return {digest: release for digest in digests if (release := self._releases[digest]) is not None}

    def _captured(self, task: Task, release: Release | None) -> Task:
        """With what its ring keeps of request and answer, and nowhere what it calls secret."""
        settings = release.spec.ring(task.ring) if release is not None else None
        capture = kept_capture(settings) if settings is not None else Capture()
        if capture.redact:
            kept = self._redact(task.path.encode(), Capture(_LONGEST_PATH, capture.redact)) or b""
            task = replace(task, path=kept.decode(errors="replace"))
        if task.question is None and task.answer is None:
            return task
        return replace(task, question=self._redact(task.question, capture), answer=self._redact(task.answer, capture))
