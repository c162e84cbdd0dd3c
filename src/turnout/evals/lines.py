"""Lines to and from a program, each with a deadline."""

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
            self._read()

    def give(self, content: bytes, stream: IO[bytes], until: float) -> None:
        """Write to the program, and read what it writes meanwhile. Raises `TimeoutError` at `until`, or `OSError`."""
        descriptor, left = stream.fileno(), memoryview(content)
        os.set_blocking(descriptor, False)
        self._selector.register(descriptor, selectors.EVENT_WRITE)
        try:
            while left:
                seconds = until - time.monotonic()
                ready = {key.fd for key, _ in self._selector.select(seconds)} if seconds > 0 else set()
                if not ready:
                    raise TimeoutError
                if descriptor in ready:
                    left = left[os.write(descriptor, left[:_PART]) :]
                elif self._over or len(self._rest) > LONGEST_LINE:  # it says too much and does not listen
                    raise TimeoutError
                else:
                    self._read()
        finally:
            self._selector.unregister(descriptor)

    def _read(self) -> None:
        part = os.read(self._descriptor, _PART)
        self._over = not part
        self._rest += part

    def close(self) -> None:
        """Read no more."""
        self._selector.close()
