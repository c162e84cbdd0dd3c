"""Processes that outlive the server: started in sessions of their own, found again, ended.

A process is known by pid and start mark, so that a later process with the same pid is never taken for it.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from turnout.domain.errors import SetupFailed

KILL_AFTER = 5.0
PASSED = 3  # the first descriptor after those of input and output


@dataclass(frozen=True, slots=True)
class KnownProcess:
    """A process and what tells it from a later one with the same pid."""

    pid: int
    mark: str

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return start_mark(self.pid) == self.mark

    def wait(self, timeout: float) -> bool:
        """Wait for its end, and clear it away if it is a child. True when it has ended."""
        if self.alive:
            _await_end(self.pid, timeout)
        with suppress(ChildProcessError):  # it may be the child of an earlier server
            os.waitpid(self.pid, os.WNOHANG)
        return not self.alive

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing when it has ended."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self, grace: float = KILL_AFTER) -> None:
        """SIGTERM, and SIGKILL when it runs on for `grace` seconds."""
        self.send(signal.SIGTERM)
        if not self.wait(grace):
            self.send(signal.SIGKILL)
            self.wait(KILL_AFTER)


def spawn(
    arguments: list[str], env: Mapping[str, str], log_path: Path, passed: socket.socket | None = None
) -> KnownProcess:
    """Start a program in a session of its own, its output appended to a log; returns at once. Raises `OSError`.

    A socket that is `passed` is its descriptor `PASSED`.
    """
    pid = os.posix_spawn(
        arguments[0],
        arguments,
        env,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log_path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            *([(os.POSIX_SPAWN_DUP2, passed.fileno(), PASSED)] if passed is not None else ()),
        ],
        setsid=True,
        setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM],
    )
    _raise_file_limit(pid)
    return KnownProcess(pid, start_mark(pid) or "ended")


def start_mark(pid: int) -> str | None:
    """Boot and start time of a running process, which a change of the clock does not move; None when it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return _start_mark_without_proc(pid)
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def own_processes() -> Iterator[tuple[KnownProcess, list[str]]]:
    """The running processes of this user with their command lines."""
    for candidate in psutil.process_iter():
        with suppress(psutil.Error):
            if candidate.uids().real == os.getuid():
                command, mark = candidate.cmdline(), start_mark(candidate.pid)
                if mark is not None:
                    yield KnownProcess(candidate.pid, mark), command


def check_port(host: str, port: int, allowed: frozenset[int], option: str) -> None:
    """Raise `SetupFailed` unless the address is free or held by one of the allowed pids. `option`: what chooses the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            holders = _holders(port)
            strangers = [holder for holder in holders if holder.pid not in allowed]
            if error.errno == errno.EADDRINUSE and holders and not strangers:
                return
            raise _port_trouble(host, port, error, strangers[0] if strangers else None, option) from error


def _await_end(pid: int, timeout: float) -> None:
    """Return once a process has ended, be it a child or not, and whether or not somebody has taken notice of that."""
    if not hasattr(os, "pidfd_open"):
        with suppress(psutil.TimeoutExpired, psutil.NoSuchProcess):
            psutil.Process(pid).wait(timeout)
        return
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            ended = select.poll()
            ended.register(descriptor, select.POLLIN)
            ended.poll(timeout * 1_000)
        finally:
            os.close(descriptor)


def _raise_file_limit(pid: int) -> None:
    """Each caller takes two descriptors; the usual 1,024 would not do."""
    prlimit = getattr(resource, "prlimit", None)
    if prlimit is None:
        return
    with suppress(OSError, ValueError):
        _, hard = prlimit(pid, resource.RLIMIT_NOFILE)
        prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))


def _start_mark_without_proc(pid: int) -> str | None:
    if Path("/proc/self/stat").exists():
        return None
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.Error:
        return None


def _holders(port: int) -> list[psutil.Process]:
    """The processes that listen on a port, as far as this user may know."""
    holders = []
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if listens and connection.pid is not None:
                holders.append(psutil.Process(connection.pid))
    return holders


def _port_trouble(host: str, port: int, error: OSError, holder: psutil.Process | None, option: str) -> SetupFailed:
    if error.errno == errno.EADDRINUSE:
        by = ""
        with suppress(psutil.Error):
            by = f" by {holder.name()} (pid {holder.pid})" if holder is not None else ""
        return SetupFailed(
            f"port {port} on {host} is taken{by}",
            hint=f"stop what listens there, or choose another port with {option}",
        )
    if error.errno == errno.EACCES:
        return SetupFailed(f"this user may not listen on port {port}", hint=f"choose a port from 1024 up with {option}")
    return SetupFailed(f"cannot listen on {host}:{port}: {error.strerror}", hint="give an address of this machine")
