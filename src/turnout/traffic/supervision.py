"""Keeps one Envoy running: adopts the one that runs, starts one otherwise, and starts it again when it dies."""

from __future__ import annotations

import logging
import threading
import time

from turnout.domain.errors import SetupFailed
from turnout.traffic.admin import EnvoyAdmin
from turnout.traffic.process import EnvoyProcess, Launch, await_ready, retire, spawn

LOOK_AGAIN = 0.2  # seconds; how long closing may take, the end of a process is noticed at once
STEADY_AFTER = 5.0  # seconds; one that ran longer is started again without delay
LONGEST_DELAY = 5.0

logger = logging.getLogger(__name__)


class Supervision:
    """Watches one process in a thread, which alone replaces it."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._process: EnvoyProcess | None = None

    @property
    def process(self) -> EnvoyProcess | None:
        """The newest process, which may have ended."""
        return self._process

    @property
    def alive(self) -> bool:
        """Whether Envoy runs now."""
        return self._process is not None and self._process.alive

    def start(self, adopted: EnvoyProcess | None) -> None:
        """Watch the adopted process, or start one and return once it serves. Raises `SetupFailed`."""
        self._process = adopted or spawn(self._launch)
        if adopted is None:
            try:
                await_ready(self._process, self._launch)
            except SetupFailed:
                retire(self._process, None, 0)
                raise
        self._thread = threading.Thread(target=self._watch, name="turnout-envoy", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching; Envoy runs on."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def stop(self, grace: float) -> None:
        """Stop watching and end Envoy, after requests under way have had `grace` seconds."""
        self.close()
        if self._process is not None:
            retire(self._process, EnvoyAdmin(self._launch.admin_path), grace)

    def _watch(self) -> None:
        started, delay = time.monotonic(), 0.0
        while not self._closed.is_set():
            if self._process is not None and not self._process.wait(LOOK_AGAIN):
                continue
            delay = 0.0 if time.monotonic() - started > STEADY_AFTER else min(max(2 * delay, 0.05), LONGEST_DELAY)
            logger.warning("Envoy ended; starting it again%s", f" in {delay:.2f} s" if delay else "")
            if self._closed.wait(delay):
                return
            started = time.monotonic()
            self._start_again()

    def _start_again(self) -> None:
        try:
            self._process = spawn(self._launch)
            await_ready(self._process, self._launch, self._closed.is_set)
        except SetupFailed as error:
            if not self._closed.is_set():
                logger.error("%s", error.message)
