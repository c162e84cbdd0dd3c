"""Reports of what became of tasks, sent in the background: whoever reports never waits, and never fails because of it."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass

from turnout.sdk.delivery import Answer, Delivery, Fate, choose_pause
from turnout.sdk.journal import Journal
from turnout.sdk.reports import Report, build_report, find_fault, pack

log = logging.getLogger("turnout.sdk")

CAPACITY = 10_000  # reports that wait at most
BATCH = 500  # reports of one request at most
_AT_EXIT = 2.0  # seconds that the end of a process may be held up


@dataclass(frozen=True)
class Counts:
    """What became of reports since the start. `dropped` were never sent; `refused` were sent, and not kept."""

    sent: int
    waiting: int
    dropped: int
    refused: int


class Reporter:
    """Tells a turnout server what became of tasks.

    `url` and `token` are TURNOUT_SERVER and TURNOUT_TOKEN unless given; a token of the role `reporter` is enough. Without
    them every report is dropped, and counted as such. `journal`: a file for reports that wait, so that they survive the end
    of the process. `capacity`: how many may wait; more are dropped. `timeout`: seconds for one request.

    Nothing here raises, but for a `capacity` or `timeout` that makes no sense. All methods may be called from any thread.
    """

    _changed: threading.Condition
    _closed: bool
    _journal: Journal | None
    _thread: threading.Thread | None
    _waiting: deque[tuple[int, Report]]
    _warned: set[str]

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        journal: str | os.PathLike[str] | None = None,
        capacity: int = CAPACITY,
        timeout: float = 10.0,
    ) -> None:
        if capacity < 1 or not timeout > 0:
            raise ValueError("capacity and timeout are above zero")
        self._delivery = _open_delivery(url, token, timeout)
        self._journal_path = journal
        self._capacity = capacity
        self._journal = None
        self.reset()
        self._start()
        _reporters.add(self)
        atexit.register(self.close, _AT_EXIT)

    def report(
        self,
        task: str,
        *,
        success: bool | None = None,
        intervention: bool | None = None,
        cost: float | None = None,
        detail: str = "",
        agent: str | None = None,
        ring: str | None = None,
    ) -> bool:
        """Say what became of a task. Returns at once; False when the report had to be dropped."""
        said = {"success": success, "intervention": intervention, "cost": cost}
        fault = find_fault(task, said)
        with self._changed:
            fault = fault or self._find_obstacle()
            if fault is not None:
                self._dropped += 1
                self._warn(f"reports are dropped: {fault}")
                return False
            self._start()
            report = build_report(task, said, detail, agent, ring)
            self._waiting.append((self._note(report), report))
            self._changed.notify_all()
        return True

    @property
    def counts(self) -> Counts:
        """What became of the reports so far."""
        with self._changed:
            return Counts(self._sent, len(self._waiting), self._dropped, self._refused)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until nothing waits any more, for so many seconds at most. True when nothing does."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Send what waits, for so many seconds at most, and end. What still waits stays in the journal, or is dropped."""
        done = self.flush(timeout)
        with self._changed:
            if self._closed:
                return done
            self._closed = True
            self._changed.notify_all()
        atexit.unregister(self.close)
        with self._changed:
            if self._journal is not None:
                self._journal.close()
                self._journal = None
            elif self._waiting:
                self._dropped += len(self._waiting)
                log.warning("%d reports were not sent: the reporter was closed before", len(self._waiting))
            self._waiting.clear()
        return done

    def reset(self) -> None:
        """As it is when it is made: in a forked child, whose parent sends what waited."""
        if self._journal is not None:
            self._journal.abandon()
        self._changed = threading.Condition()
        self._closed = False
        self._journal = None
        self._thread = None
        self._waiting = deque()
        self._warned = set()
        self._sent = self._dropped = self._refused = 0

    # --- the queue

    def _start(self) -> None:
        if self._delivery is None or self._thread is not None:
            return
        if self._journal is None:
            self._journal, left = _open_journal(self._journal_path, self._capacity)
            self._waiting.extend(left)
        thread = threading.Thread(target=self._send_all, args=(self._delivery,), name="turnout-reporter", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # tried again with the next report
            self._warn(f"reports wait: {error}")
        else:
            self._thread = thread

    def _find_obstacle(self) -> str | None:
        if self._delivery is None:
            return "no server and token are known"
        if self._closed:
            return "the reporter is closed"
        return "too many reports wait" if len(self._waiting) >= self._capacity else None

    def _note(self, report: Report) -> int:
        """Write a report to the journal. A disk that is full must not hinder anybody: it is sent all the same."""
        if self._journal is None:
            return 0
        try:
            return self._journal.add(report)
        except OSError as error:
            self._warn(f"the journal cannot be written: {error.strerror}")
            return 0

    def _warn(self, text: str) -> None:
        """Once until reports arrive again: a log is not flooded because a server is away."""
        if text not in self._warned:
            self._warned.add(text)
            log.warning("%s", text)

    # --- the thread

    def _send_all(self, delivery: Delivery) -> None:
        failures, most = 0, BATCH
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                batch = [self._waiting[number] for number in range(min(most, len(self._waiting)))]
            count, body = pack(report for _, report in batch)
            answer = delivery.send(body, count)
            if answer.fate is Fate.LATER:
                failures += 1
                self._pause(choose_pause(failures, answer.wish), answer)
            elif answer.fate is Fate.TOO_LARGE:
                most = count // 2
            else:
                failures = 0
                most = min(most * 2, BATCH) if answer.fate is Fate.TAKEN else most
                self._settle(batch[:count], answer)

    def _settle(self, batch: list[tuple[int, Report]], answer: Answer) -> None:
        with self._changed:
            if self._closed and not self._waiting:  # closed while the batch was under way
                return
            for _ in batch:
                self._waiting.popleft()
            self._refused += answer.refused
            if answer.fate is Fate.TAKEN:
                self._sent += len(batch) - answer.refused
                self._warned.clear()
            else:
                self._dropped += len(batch) - answer.refused
                self._warn(f"reports are dropped: {answer.why}")
            if self._journal is not None:
                try:
                    self._journal.settle(batch[-1][0], self._waiting)
                except OSError as error:
                    self._warn(f"the journal cannot be written: {error.strerror}")
            self._changed.notify_all()

    def _pause(self, seconds: float, answer: Answer) -> None:
        until = time.monotonic() + seconds
        with self._changed:
            self._warn(f"reports wait: {answer.why}")
            while not self._closed and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)


_reporters: weakref.WeakSet[Reporter] = weakref.WeakSet()


def _reset_all() -> None:
    for reporter in _reporters:
        reporter.reset()


os.register_at_fork(after_in_child=_reset_all)


def _open_delivery(url: str | None, token: str | None, timeout: float) -> Delivery | None:
    server = url or os.environ.get("TURNOUT_SERVER")
    secret = token or os.environ.get("TURNOUT_TOKEN")
    if not server or not secret:
        return None
    try:
        return Delivery(server, secret, timeout)
    except ValueError as error:
        log.warning("%s", error)
        return None


def _open_journal(
    path: str | os.PathLike[str] | None, capacity: int
) -> tuple[Journal | None, list[tuple[int, Report]]]:
    if path is None:
        return None, []
    try:
        journal = Journal(path)
        return journal, journal.read(capacity)
    except OSError as error:
        log.warning("the journal cannot be opened, reports are kept in memory only: %s", error)
        return None, []
