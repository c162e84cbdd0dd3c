"""A file that somebody else replaces, read again when it has changed. What cannot be read changes nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from turnout.domain.errors import TurnoutError

T = TypeVar("T")

AGAIN_SECONDS = (
    2.0  # before a file that could not be read is read again, unless it changed: what it names may be there then
)

log = logging.getLogger(__name__)


class Followed(Generic[T]):
    """What a file says now. One that is damaged, wrong or gone is told of once; what was read last goes on.

    `read` may raise `OSError`, `ValueError`, `TurnoutError`. The file is looked at when it is asked for, at most every
    `pause` seconds.
    """

    def __init__(
        self, path: Path, read: Callable[[Path], T], first: T, pause: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._read = read
        self._value = first
        self._pause = pause
        self._now = now
        self._look_at = 0.0
        self._seen: tuple[int, int, int] | None = None
        self._complaint = ""
        self._failed: tuple[tuple[int, int, int], float] | None = None  # what could not be read, and when

    @property
    def current(self) -> T:
        """What the file says, or said when it could last be read."""
        now = self._now()
        if now >= self._look_at:
            self._look_at = now + self._pause
            self._look()
        return self._value

    def _look(self) -> None:
        try:
            found = self._path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen == self._seen or (self._failed and self._failed[0] == seen and self._now() < self._failed[1]):
                return
            self._failed = (seen, self._now() + AGAIN_SECONDS)
            self._value = self._read(self._path)
            self._seen, self._failed, self._complaint = seen, None, ""
        except FileNotFoundError:
            return  # nothing was written yet, or somebody removed it
        except (OSError, ValueError, TurnoutError) as error:
            if str(error) != self._complaint:
                log.error("%s: %s; what it said before goes on", self._path, error)
            self._complaint = str(error)
