"""Run a scanner's program: away from the network's settings, for a limited time, and with its output in memory only."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from turnout.domain.errors import BuildFailed

LARGEST_REPORT = 64 << 20
_SHORTEST_TIME = 120.0  # seconds, also where the rules are compiled for the first time
_SLOWEST = 2 << 20  # bytes a second
# What a scanner may know of this machine. It gets no proxy, no token and no settings of its own.
_PASSED_ON = ("HOME", "XDG_CACHE_HOME", "KF_RULE_CACHE_DIR", "LANG")


def time_limit(size: int) -> float:
    """Seconds that a scan of so many bytes may take, many times what it takes on a slow machine."""
    return _SHORTEST_TIME + size / _SLOWEST


def binary_stamp(name: str, binary: Path) -> str:
    """The size and time of a program: another after it was replaced. Raises `BuildFailed` when it is not there."""
    try:
        status = binary.stat()
    except OSError as error:
        raise _cannot_run(name, error) from None
    return f"{status.st_size} {status.st_mtime_ns}"


def run_scanner(name: str, command: Sequence[str], folder: Path, scratch: Path, timeout: float) -> tuple[int, bytes]:
    """The exit code and what was written to standard output, which may hold secrets: it goes nowhere else.

    What the program writes to standard error is thrown away for the same reason. `scratch` takes its temporary files.
    Raises `BuildFailed` when it cannot be run, takes too long or writes more than 64 MiB.
    """
    try:
        running = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(scratch),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise _cannot_run(name, error) from None
    expired = threading.Event()
    watch = threading.Timer(timeout, _end, (running.pid, expired))
    watch.start()
    assert running.stdout is not None  # noqa: S101  # it is piped
    try:
        output = running.stdout.read(LARGEST_REPORT + 1)
        if len(output) <= LARGEST_REPORT:
            running.wait()
    finally:
        watch.cancel()
        if running.poll() is None:
            _kill_group(running.pid)
        running.stdout.close()
        code = running.wait()
    if expired.is_set():
        raise BuildFailed(f"the secret scan took longer than {timeout:.0f} seconds and was ended ({name})")
    if len(output) > LARGEST_REPORT:
        raise BuildFailed(
            f"{name} finds so many secrets that its report is larger than 64 MiB",
            hint="leave out the files that are full of them with exclude in [code], or another path in [data]",
        )
    return code, output


def _cannot_run(name: str, error: OSError) -> BuildFailed:
    return BuildFailed(
        f"the secret scan cannot run {name}: {error.strerror}", hint="install it again; nothing is built unscanned"
    )


def _environment(scratch: Path) -> dict[str, str]:
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {**passed, "PATH": os.defpath, "TMPDIR": str(scratch)}


def _end(leader: int, expired: threading.Event) -> None:
    expired.set()
    _kill_group(leader)


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # nobody of the group is left
        os.killpg(leader, signal.SIGKILL)
