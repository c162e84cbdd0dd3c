"""The gateway's processes, as the server sees them: adopted or started, started again when they die, replaced when they are
outdated. They outlive the server.

Those of one port serve on one socket. The server holds it too, so that it is there for a process that is started again,
whatever became of the others; the next server gets it from the processes that run (see `handover`).
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from turnout.domain.errors import SetupFailed
from turnout.gateway.handover import fetch
from turnout.gateway.keys import keep_secret
from turnout.gateway.launch import DRAIN_SECONDS, FOLDER, Address, GatewayLaunch, find_running, offer_paths
from turnout.gateway.serve import listen
from turnout.processes import KnownProcess, check_port
from turnout.supervision import Supervision

log = logging.getLogger(__name__)

PORT_PATIENCE = 5.0  # seconds, for processes that were told to end to give up their port
OPTIONS = {"model": "--gateway-port", "tool": "--tool-port"}


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One process. `pid` is None while it does not run; `restarts` counts since the server began."""

    kind: str
    index: int
    address: str  # host:port
    pid: int | None
    restarts: int


class GatewayProcesses:
    """Call `check()`, then `start()`; then either `close()` (they go on) or `stop_running()` (they end)."""

    def __init__(self, state: Path, launches: Sequence[GatewayLaunch]) -> None:
        """Without launches there is no gateway: those that run are ended."""
        self._state = state
        self._launches = tuple(launches)
        self._supervisions: dict[GatewayLaunch, Supervision] = {}
        self._listeners: dict[Address, socket.socket] = {}

    def check(self) -> None:
        """Raise `SetupFailed` where a port is taken by somebody else. Starts and changes nothing."""
        ours = frozenset(process.pid for process in find_running(self._state))
        for launch in self._launches:
            check_port(launch.host, launch.port, ours, OPTIONS[launch.kind])

    def start(self) -> None:
        """Adopt the processes that run, start those that are missing, and return once all serve.

        One that was started otherwise, by another version or with other settings, finishes its calls once the new ones
        serve. Raises `SetupFailed` when a process does not start, or its port cannot be had.
        """
        running = find_running(self._state)
        try:
            self._start_all(running)
        except BaseException:
            self._let_go()
            raise

    def states(self) -> tuple[ProcessState, ...]:
        """Every process that should run."""
        return tuple(_state(launch, self._supervisions.get(launch)) for launch in self._launches)

    def close(self) -> None:
        """Let go of the processes, which go on. Idempotent."""
        for supervision in self._supervisions.values():
            supervision.close()
        self._let_go()

    def _start_all(self, running: Mapping[KnownProcess, list[str]]) -> None:
        for launch in self._launches:
            if launch.address not in self._listeners:
                self._listeners[launch.address] = _find_listener(launch, running)
        adopted = {launch: _adoptable(launch, running) for launch in self._launches}
        with ThreadPoolExecutor(max(len(self._launches), 1)) as several:
            list(several.map(lambda launch: self._start(launch, adopted[launch]), self._launches))
        kept = {process for process in adopted.values() if process is not None}
        for process in running.keys() - kept:
            log.info("the gateway process %d is replaced", process.pid)
            threading.Thread(target=process.end, args=(DRAIN_SECONDS + 5,), daemon=True).start()

    def _start(self, launch: GatewayLaunch, adopted: KnownProcess | None) -> None:
        program = OnSocket(launch, self._listeners[launch.address])
        supervision = self._supervisions[launch] = Supervision(program)
        supervision.start(adopted)

    def _let_go(self) -> None:
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()


@dataclass(frozen=True, slots=True)
class OnSocket:
    """A `supervision.Program`: one process of the gateway on the socket of its port."""

    launch: GatewayLaunch
    listener: socket.socket

    @property
    def name(self) -> str:
        """See `supervision.Program`."""
        return self.launch.name

    def spawn(self) -> KnownProcess:
        """See `supervision.Program`."""
        return self.launch.spawn(self.listener)

    def await_ready(self, process: KnownProcess, stopped: Callable[[], bool] = lambda: False) -> None:
        """See `supervision.Program`."""
        self.launch.await_ready(process, stopped)

    def retire(self, process: KnownProcess, grace: float) -> None:
        """See `supervision.Program`. It drains by itself."""
        process.end(grace)


def stop_running(state: Path, grace: float) -> int:
    """End every gateway process of a state folder; calls under way have `grace` seconds. Returns how many ran."""
    running = find_running(state)
    threads = [threading.Thread(target=process.end, args=(grace,)) for process in running]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(running)


def _find_listener(launch: GatewayLaunch, running: Mapping[KnownProcess, list[str]]) -> socket.socket:
    """The socket that the processes which run serve on; a new one where none does. Raises `SetupFailed`."""
    secret = keep_secret(launch.state / FOLDER)
    for path in offer_paths(launch.state, launch.kind):
        if (found := fetch(path, secret, *launch.address)) is not None:
            return found
    try:
        return listen(*launch.address)
    except OSError as error:
        ours = [process for process in running if _serves(launch, running[process])]
        if error.errno != errno.EADDRINUSE or not ours:
            raise _no_port(launch, error) from error
    log.warning("the processes that serve on %s:%d do not hand on its socket: they are ended", *launch.address)
    return _win_back(launch, ours)


def _serves(launch: GatewayLaunch, line: Sequence[str]) -> bool:
    where = ["--host", launch.host, "--port", str(launch.port)]
    return any(list(line[start : start + 4]) == where for start in range(len(line)))


def _win_back(launch: GatewayLaunch, holders: Sequence[KnownProcess]) -> socket.socket:
    """The port of processes that do not answer. Told to end they give it up at once, and end their calls; or they hang."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in holders:
            process.send(number)
        deadline = time.monotonic() + PORT_PATIENCE
        while time.monotonic() < deadline:
            with suppress(OSError):
                return listen(*launch.address)
            time.sleep(0.02)
    raise _no_port(launch, OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)))


def _no_port(launch: GatewayLaunch, error: OSError) -> SetupFailed:
    return SetupFailed(
        f"cannot listen on {launch.host}:{launch.port}: {error.strerror}",
        hint=f"stop what listens there, or choose another port with {OPTIONS[launch.kind]}",
    )


def _adoptable(launch: GatewayLaunch, running: Mapping[KnownProcess, list[str]]) -> KnownProcess | None:
    """The process that serves as this launch wants it."""
    return next((item for item, line in running.items() if line == launch.arguments and launch.serves(item)), None)


def _state(launch: GatewayLaunch, supervision: Supervision | None) -> ProcessState:
    process = supervision.process if supervision is not None else None
    return ProcessState(
        kind=launch.kind,
        index=launch.index,
        address=f"{launch.host}:{launch.port}",
        pid=process.pid if process is not None and process.alive else None,
        restarts=supervision.restarts if supervision is not None else 0,
    )
