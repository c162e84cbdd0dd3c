"""Starts a command that reaches only what it is given, and that ends with whoever started it.

Run as `python -I -S -E confined.py CONFINEMENT COMMAND…`; the confinement is JSON as `landlock.confine_or_say` takes it. The
standard library only: it runs without turnout on its module path. Its own process becomes the command.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import signal
import sys
from pathlib import Path

SET_PDEATHSIG = 1  # of linux/prctl.h
NOT_FOUND = 127  # the exit code that shells use


def main(arguments: list[str]) -> int:
    """Confine this process and become the command. Returns only where there is no such command."""
    confinement, *command = arguments
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # it holds across the exec
    if os.getppid() != parent or parent == 1:
        return 1
    spec = importlib.util.spec_from_file_location("landlock", Path(__file__).with_name("landlock.py"))
    if spec is None or spec.loader is None:
        return 1
    landlock = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(landlock)
    landlock.confine_or_say(json.loads(confinement))
    try:
        os.execvpe(command[0], command, os.environ)  # noqa: S606  (no shell is wanted)
    except OSError as error:
        os.write(2, f"[turnout] {command[0]} cannot be started: {error.strerror}\n".encode())
    return NOT_FOUND


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
