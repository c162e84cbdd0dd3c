"""The processes of an instance, found on the machine and not asked of the instance."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import psutil

from tests.live import LiveInstance


def proxy_pid(instance: LiveInstance) -> int:
    """The pid of Envoy."""
    (pid,) = _find(lambda process: process.cmdline()[2].startswith(f"{instance.state}/envoy/"))
    return pid


def agent_pids(instance: LiveInstance) -> set[int]:
    """The pids of all agents: they run in the folder of their release."""
    return _find(lambda process: process.cwd().startswith(f"{instance.state}/runtime/releases/"))


def all_pids(instance: LiveInstance) -> set[int]:
    """The pids of agents, of the processes that watch over them, and of Envoy."""
    return agent_pids(instance) | _find(
        lambda process: any(part.startswith(f"{instance.state}/") for part in process.cmdline())
    )


def _find(wanted: Callable[[psutil.Process], bool]) -> set[int]:
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, IndexError):
            if wanted(process) and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process.pid)
    return found
