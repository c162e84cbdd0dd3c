"""The proxy's access log → task records, exactly once: records and cursor commit together."""

from __future__ import annotations

from collections.abc import Callable

from turnout.domain.models import Task
from turnout.ports import AccessLog, Store


class Ingest:
    """Reads what callers were served while the server was up, and while it was not."""

    def __init__(self, store: Store, log: AccessLog, parse: Callable[[bytes], Task | None]) -> None:
        self._store = store
        self._log = log
        self._parse = parse

    def take_in(self) -> set[tuple[str, str]]:
        """Take in what the log has now, in batches. Returns the (agent, ring) pairs that got tasks."""
        touched: set[tuple[str, str]] = set()
        with self._store.snapshot() as snapshot:
            cursor = snapshot.access_cursor()
        while True:
            chunk = self._log.read(cursor)
            if chunk.cursor == cursor:
                self._log.rotate()
                return touched
            tasks = [task for task in map(self._parse, chunk.lines) if task is not None]
            with self._store.transaction() as transaction:
                transaction.add_tasks(tasks, chunk.cursor)
            cursor = chunk.cursor
            touched.update((task.agent, task.ring) for task in tasks)
