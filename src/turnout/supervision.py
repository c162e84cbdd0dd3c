"""Keeps one process running: adopts the one that runs, starts one otherwise, and starts it again when it dies."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from turnout.domain.errors import SetupFailed
from turnout.processes import KnownProcess

LOOK_AGAIN = 0.2  # seconds; how long closing may take, the end of a process is noticed at once
STEADY_AFTER = 5.0  # seconds; one that ran longer is started again without delay
LONGEST_DELAY = 5.0

logger = logging.getLogger(__name__)


class Program(Protocol):
    """What is kept running."""

    @property
    def name(self) -> str:
        """For people."""

    def spawn(self) -> KnownProcess:
        """Start it; returns at once. Raises `SetupFailed`."""

    def await_ready(self, process: KnownProcess, stopped: Callable[[], bool] = lambda: False) -> None:
        """Return once it serves. Raises `SetupFailed` when it ends, takes too long, or `stopped` says so."""

    def retire(self, process: KnownProcess, grace: float) -> None:
        """End it, after what is under way has had `grace` seconds."""


class Supervision:
    """Watches one process in a thread, which alone replaces it."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._process: KnownProcess | None = None
        self._restarts = 0

    @property
    def process(self) -> KnownProcess | None:
        """The newest process, which may have ended."""
        return self._process

    @property
    def alive(self) -> bool:
        """Whether it runs now."""
        return self._process is not None and self._process.alive

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return self._restarts

    def start(self, adopted: KnownProcess | None) -> None:
        """Watch the adopted process, or start one and return once it serves. Raises `SetupFailed`."""
        self._process = adopted or self._program.spawn()
        if adopted is None:
            try:
                self._program.await_ready(self._process)
            except SetupFailed:
                self._program.retire(self._process, 0)
                raise
        self._thread = threading.Thread(target=self._watch, name=f"watch {self._program.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching; the process runs on."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def stop(self, grace: float) -> None:
        """Stop watching and end the process, after what is under way has had `grace` seconds."""
        self.close()
        if self._process is not None:
            self._program.retire(self._process, grace)

    def _watch(self) -> None:
        started, delay = time.monotonic(), 0.0
        while not self._closed.is_set():
            if self._process is not None and not self._process.wait(LOOK_AGAIN):
                continue
            delay = 0.0 if time.monotonic() - started > STEADY_AFTER else min(max(2 * delay, 0.05), LONGEST_DELAY)
            logger.warning("%s ended; starting it again%s", self._program.name, f" in {delay:.2f} s" if delay else "")
            if self._closed.wait(delay):
                return
            started = time.monotonic()
            self._start_again()

    def _start_again(self) -> None:
        self._restarts += 1
        try:
            self._process = self._program.spawn()
            self._program.await_ready(self._process, self._closed.is_set)
        except SetupFailed as error:
            if not self._closed.is_set():
                logger.error("%s", error.message)
