"""Notices within milliseconds that a process has ended, whosever child it is.

By pidfd where the system has it; elsewhere, or where it is forbidden, by looking ten times a second.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from turnout.runtimes.shim import process_identity

LOOK_AGAIN = 0.1  # seconds, where there is no pidfd

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Watched:
    pid: int
    identity: str | None
    on_exit: Callable[[], None]


class ExitWatch:
    """Waits for any number of processes in one thread."""

    def __init__(self) -> None:
        self._new: deque[_Watched] = deque()
        self._by_descriptor: dict[int, _Watched] = {}
        self._looked_at: list[_Watched] = []
        self._closed = False
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waker, False)
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._thread = threading.Thread(target=self._run, name="turnout-exits", daemon=True)
        self._thread.start()

    def watch(self, pid: int, identity: str | None, on_exit: Callable[[], None]) -> None:
        """Call `on_exit` once, from the thread, when the process has ended; at once if it has by now."""
        self._new.append(_Watched(pid, identity, on_exit))
        self._notify()

    def close(self) -> None:
        """End the thread; nothing is called any more. May not be called from `on_exit`."""
        if self._closed:
            return
        self._closed = True
        self._notify()
        self._thread.join()
        for descriptor in (*self._by_descriptor, self._wake, self._waker):
            os.close(descriptor)

    def _notify(self) -> None:
        with suppress(BlockingIOError):  # a full pipe wakes just as well
            os.write(self._waker, b"\0")

    def _run(self) -> None:
        while not self._closed:
            ready = self._poll.poll(LOOK_AGAIN * 1000 if self._looked_at else None)
            for descriptor, _ in ready:
                if descriptor == self._wake:
                    os.read(self._wake, 4096)
                    continue
                self._poll.unregister(descriptor)
                os.close(descriptor)
                _tell(self._by_descriptor.pop(descriptor))
            self._admit()
            self._look()

    def _admit(self) -> None:
        while self._new and not self._closed:
            watched = self._new.popleft()
            descriptor = _open_pidfd(watched.pid)
            if process_identity(watched.pid) != watched.identity or watched.identity is None:
                if descriptor is not None:
                    os.close(descriptor)
                _tell(watched)
            elif descriptor is None:
                self._looked_at.append(watched)
            else:
                self._by_descriptor[descriptor] = watched
                self._poll.register(descriptor, select.POLLIN)

    def _look(self) -> None:
        gone = [watched for watched in self._looked_at if process_identity(watched.pid) != watched.identity]
        self._looked_at = [watched for watched in self._looked_at if watched not in gone]
        for watched in gone:
            _tell(watched)


def _open_pidfd(pid: int) -> int | None:
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _tell(watched: _Watched) -> None:
    try:
        watched.on_exit()
    except Exception:
        logger.exception("the end of process %d could not be noted", watched.pid)
