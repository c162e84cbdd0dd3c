"""The gateway's processes, as the server sees them: adopted or started, started again when they die, replaced when they are
outdated. They outlive the server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from turnout.gateway.launch import DRAIN_SECONDS, GatewayLaunch, find_running
from turnout.processes import KnownProcess, check_port
from turnout.supervision import Supervision

log = logging.getLogger(__name__)

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

    def check(self) -> None:
        """Raise `SetupFailed` where a port is taken by somebody else. Starts and changes nothing."""
        ours = frozenset(process.pid for process in find_running(self._state))
        for launch in self._launches:
            check_port(launch.host, launch.port, ours, OPTIONS[launch.kind])

    def start(self) -> None:
        """Adopt the processes that run, start those that are missing, and return once all serve.

        One that was started otherwise, by another version or with other settings, finishes its calls once the new ones
        serve. Raises `SetupFailed` when a process does not start.
        """
        running = find_running(self._state)
        adopted = {launch: _adoptable(launch, running) for launch in self._launches}
        with ThreadPoolExecutor(max(len(self._launches), 1)) as several:
            list(several.map(lambda launch: self._start(launch, adopted[launch]), self._launches))
        kept = {process for process in adopted.values() if process is not None}
        for process in running.keys() - kept:
            log.info("the gateway process %d is replaced", process.pid)
            threading.Thread(target=process.end, args=(DRAIN_SECONDS + 5,), daemon=True).start()

    def states(self) -> tuple[ProcessState, ...]:
        """Every process that should run."""
        return tuple(_state(launch, self._supervisions.get(launch)) for launch in self._launches)

    def close(self) -> None:
        """Let go of the processes, which go on. Idempotent."""
        for supervision in self._supervisions.values():
            supervision.close()

    def _start(self, launch: GatewayLaunch, adopted: KnownProcess | None) -> None:
        supervision = self._supervisions[launch] = Supervision(launch)
        supervision.start(adopted)


def stop_running(state: Path, grace: float) -> int:
    """End every gateway process of a state folder; calls under way have `grace` seconds. Returns how many ran."""
    running = find_running(state)
    threads = [threading.Thread(target=process.end, args=(grace,)) for process in running]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(running)


def _adoptable(launch: GatewayLaunch, running: dict[KnownProcess, list[str]]) -> KnownProcess | None:
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
