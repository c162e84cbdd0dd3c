"""Reads and writes about recordings, and about the tasks that may become ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, delete, insert, select, tuple_

from turnout.db import rows
from turnout.db.reads import Reads, in_parts
from turnout.db.tables import recordings, tasks
from turnout.domain.models import Digest, Task
from turnout.ports import RecordingQuery, StoredRecording


class RecordingReads(Reads):
    """The part of `ports.Snapshot` that is about recordings; see there for the meaning of each."""

    def recordings(self, query: RecordingQuery) -> tuple[StoredRecording, ...]:
        """The recordings that a query asks for, newest first."""
        chosen = select(recordings).order_by(recordings.c.at.desc(), recordings.c.task, recordings.c.ring)
        for name in ("agent", "ring", "release", "task", "digest"):
            if (value := getattr(query, name)) is not None:
                chosen = chosen.where(recordings.c[name] == value)
        return tuple(StoredRecording(**row) for row in self._all(chosen.limit(query.limit).offset(query.skip)))

    def kept_digests(self, digests: Iterable[Digest]) -> set[Digest]:
        """Those of some documents that something refers to."""
        found: set[Digest] = set()
        for part in in_parts(digests):
            found |= set(self._connection.scalars(select(recordings.c.digest).where(recordings.c.digest.in_(part))))
        return found

    def begun_tasks(
        self, agent: str, ring: str, after: tuple[float, str], until: float, limit: int = 500
    ) -> tuple[Task, ...]:
        """Requests of a ring in the order in which they began, after (time, request) and until a time."""
        query = (
            select(tasks)
            .where(tasks.c.agent == agent, tasks.c.ring == ring, tasks.c.at >= after[0], tasks.c.at <= until)
            .where(tuple_(tasks.c.at, tasks.c.request) > tuple_(*after))
            .order_by(tasks.c.at, tasks.c.request)
            .limit(limit)
        )
        return tuple(rows.task_from_row(row) for row in self._all(query))


class RecordingWrites(RecordingReads):
    """The part of `ports.Transaction` that is about recordings; see there for the meaning of each."""

    def add_recording(self, recording: StoredRecording) -> bool:
        """Record one; False when there is one of the task already, which stays."""
        where = _key(recording)
        if self._connection.scalar(select(recordings.c.digest).where(*where)) is not None:
            return False
        self._connection.execute(insert(recordings).values(asdict(recording)))
        return True

    def remove_recordings(self, removed: Iterable[StoredRecording]) -> None:
        """Forget some; what is not there is no error."""
        for recording in removed:
            self._connection.execute(delete(recordings).where(*_key(recording)))

    def prune_recordings(self, before: float, limit: int = 500) -> int:
        """Forget those that are kept until a time; at most `limit` at once. Returns how many."""
        query = select(recordings).where(recordings.c.kept_until <= before).limit(limit)
        old = [StoredRecording(**row) for row in self._all(query)]
        self.remove_recordings(old)
        return len(old)


def _key(recording: StoredRecording) -> list[ColumnElement[bool]]:
    values: dict[str, Any] = asdict(recording)
    return [recordings.c[name] == values[name] for name in ("agent", "ring", "task")]
