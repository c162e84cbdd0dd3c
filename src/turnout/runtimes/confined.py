"""Starts a command that reaches only what it is given, and that ends with whoever started it.

Run as `python -I -S -E confined.py CONFINEMENT COMMAND…`; the confinement is JSON as `landlock.confine_by` takes it, with
`limits` {memory, open_files, cpus, file_size} beside, and `open`: true starts the command also where it cannot be confined.
The standard library only: it runs without turnout on its module path. Its own process becomes the command.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import resource
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

SET_PDEATHSIG = 1  # of linux/prctl.h
NOT_FOUND, NOT_CONFINED = 127, 126  # exit codes, the first as shells use it
LIMITS = {"memory": resource.RLIMIT_DATA, "open_files": resource.RLIMIT_NOFILE, "file_size": resource.RLIMIT_FSIZE}


def main(arguments: list[str]) -> int:
    """Confine this process and become the command. Returns only where there is no such command, or no confining."""
    confinement, command = json.loads(arguments[0]), arguments[1:]
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # it holds across the exec
    if os.getppid() != parent or parent == 1:
        return 1
    try:
        _confine(confinement)
    except OSError as error:
        os.write(2, f"[turnout] it cannot be confined: {error.strerror}\n".encode())
        if not confinement.get("open"):
            return NOT_CONFINED
    _limit_all(confinement.get("limits", {}))
    try:
        os.execvpe(command[0], command, os.environ)  # noqa: S606  (no shell is wanted)
    except OSError as error:
        os.write(2, f"[turnout] {command[0]} cannot be started: {error.strerror}\n".encode())
    return NOT_FOUND


def _confine(confinement: dict[str, Any]) -> None:
    _load("landlock").confine_by(confinement)
    if confinement.get("connect") is not None:
        _load("sealed").seal()


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise OSError(2, f"{name}.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _limit_all(limits: dict[str, int]) -> None:
    cpus = limits.pop("cpus", None)
    if cpus is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: max(cpus, 1)])
    for name, most in limits.items():
        _limit(LIMITS[name], most)


def _limit(kind: int, wanted: int) -> None:
    _, hard = resource.getrlimit(kind)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(kind, (limit, limit))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
