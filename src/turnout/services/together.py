"""Reports of many callers in one transaction: whoever comes first writes for all who wait.

A commit costs a flush of the disk and the one write lock of the database. A flood of single reports must not keep a rollback
waiting for that lock, so at most one thread of the API writes reports at a time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from turnout.domain.errors import Retryable
from turnout.domain.outcomes import Outcome, Taken
from turnout.ports import Store

MOST_AT_ONCE = 1_000  # reports in one transaction: written well under a second


@dataclass(slots=True)
class _Waiting:
    """One caller's reports. When `woken` is set they are taken, or it is this caller's turn to write."""

    outcomes: Sequence[Outcome]
    woken: threading.Event = field(default_factory=threading.Event)
    taken: Sequence[Taken] | None = None
    error: BaseException | None = None


class WrittenTogether:
    """Takes in reports for a store; safe to be called from any number of threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._writing = False

    def add(self, outcomes: Sequence[Outcome]) -> Sequence[Taken]:
        """As `Transaction.add_outcomes`, at most `MOST_AT_ONCE` of them. Raises what the store raises."""
        mine = _Waiting(outcomes)
        with self._lock:
            self._waiting.append(mine)
            first = not self._writing
            self._writing = True
        if not first:
            mine.woken.wait()
        while mine.taken is None and mine.error is None:
            self._write()
        if mine.error is not None:
            raise mine.error
        assert mine.taken is not None  # noqa: S101  (the loop ends with one of both)
        return mine.taken

    def _write(self) -> None:
        """Write the oldest that wait, tell their callers, and leave the rest to the next in line."""
        with self._lock:
            batch = [self._waiting.popleft()]
            size = len(batch[0].outcomes)
            while self._waiting and size + len(self._waiting[0].outcomes) <= MOST_AT_ONCE:
                size += len(self._waiting[0].outcomes)
                batch.append(self._waiting.popleft())
        error = self._write_together(batch)
        if isinstance(error, Exception) and not isinstance(error, Retryable) and len(batch) > 1:
            # One caller may have sent what cannot be stored: nobody else may fail because of it.
            for item in batch:
                item.error = self._write_together([item])
        else:
            for item in batch:
                item.error = error
        with self._lock:
            following = self._waiting[0] if self._waiting else None
            self._writing = following is not None
        for item in batch:
            item.woken.set()
        if following is not None:
            following.woken.set()

    def _write_together(self, batch: Sequence[_Waiting]) -> BaseException | None:
        """Write the reports of some callers in one transaction; why that failed."""
        try:
            with self._store.transaction() as transaction:
                taken = transaction.add_outcomes([outcome for item in batch for outcome in item.outcomes])
        except BaseException as error:  # noqa: BLE001  (each caller raises it)
            return error
        at = 0
        for item in batch:
            item.taken = taken[at : at + len(item.outcomes)]
            at += len(item.outcomes)
        return None
