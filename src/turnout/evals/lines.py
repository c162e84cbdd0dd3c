"""Lines of a program, read with a deadline."""

from __future__ import annotations

import os
import selectors
import time
from typing import IO

from turnout.evals.contract import LONGEST_LINE

_PART = 1 << 16


class Lines:
    """The lines that a program writes to a pipe."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._descriptor = stream.fileno()
        self._selector = selectors.DefaultSelector()
        self._selector.register(stream, selectors.EVENT_READ)
        self._rest = b""
        self._over = False

    def next(self, until: float) -> bytes | None:
        """The next line without its end, None when there are no more. Raises `TimeoutError` at `until` (monotonic).

        A line that never ends is cut where it is too long.
        """
        while True:
            line, found, rest = self._rest.partition(b"\n")
            if found:
                self._rest = rest
                return line
            if self._over or len(self._rest) > LONGEST_LINE:
                taken, self._rest = self._rest, b""
                return taken or None
            left = until - time.monotonic()
            if left <= 0 or not self._selector.select(left):
                raise TimeoutError
            part = os.read(self._descriptor, _PART)
            self._over = not part
            self._rest += part

    def close(self) -> None:
        """Read no more."""
        self._selector.close()
