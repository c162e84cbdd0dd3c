"""A release that runs apart: beside no ring, with a gateway of its own, reaching nothing but what it is given.

Evals and replays use it. Whatever starts here ends with the process that started it.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from turnout.artifacts.release import unpack_release
from turnout.artifacts.wheels import unpack_wheels
from turnout.domain.errors import BuildFailed
from turnout.domain.models import Limits, Release, RingSettings
from turnout.domain.replicas import build_replica_spec
from turnout.gateway_control import agent_environment
from turnout.ports import ArtifactStore
from turnout.runtimes import confined, landlock, sealed
from turnout.runtimes.environment import Environments, wheels_folder
from turnout.runtimes.folder import HOST, TAIL, build_confinement, build_launch, find_interpreter
from turnout.runtimes.loopback import choose_port
from turnout.runtimes.probe import HttpProber
from turnout.runtimes.replica import SWEEPS, end_leftovers
from turnout.runtimes.shim import SET_CHILD_SUBREAPER
from turnout.sandbox_calls import RING, SandboxGateway
from turnout.sandbox_network import Refusals, refusing_proxy, served
from turnout.settings import default_state

GRACE = 2.0  # seconds between SIGTERM and SIGKILL
OPEN = "TURNOUT_OPEN_SANDBOX"  # set to 1: sandboxes are also used where this machine cannot close them
LARGEST_FILE = 1 << 30  # bytes, of a single file that a program of a sandbox writes
LARGEST_LOG = 16 << 20  # bytes, of which only the end is kept then
_LOOK = 0.05  # seconds between looks whether the agent is ready
_LOOK_AT_LOGS = 0.5  # seconds
_NO_LIMITS = Limits()


def find_openings() -> list[str]:
    """What this machine cannot keep a sandbox from; empty where it can be closed."""
    openings = []
    if landlock.find_version() < landlock.NETWORK_SINCE:
        openings.append("files and connections: its kernel has no Landlock that rules both (Linux 6.7 and later have)")
    if not sealed.can_seal():
        openings.append("UDP and sockets with a path: its system calls cannot be filtered")
    return openings


@dataclass(slots=True)
class Sandbox:
    """A release that runs. `env` is what a program beside it needs to reach it, in the release's own environment."""

    release: Release
    folder: Path  # the release, unpacked; read only
    environment: Path
    workspace: Path
    env: Mapping[str, str]
    port: int
    connect: tuple[int, ...]  # the ports that may be connected to
    hidden: tuple[Path, ...]  # the folders that nothing here reaches, but for what is its own
    closed: bool  # whether this machine keeps all that from happening
    refused: Refusals
    _argv: Sequence[str]
    _agent_env: Mapping[str, str]
    _starter: ThreadPoolExecutor  # of one thread, which lives as long as the sandbox
    _homes: set[Path] = field(default_factory=set)
    _agent: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the agent answers."""
        return f"http://{HOST}:{self.port}"

    def alive(self) -> bool:
        """Whether its process runs."""
        return self._agent is not None and self._agent.poll() is None

    def restart(self) -> None:
        """End the agent and start it anew. Raises `BuildFailed` where it does not become ready."""
        self.stop()
        with (self.workspace / "agent.log").open("ab") as log:
            command = self.confine(self._argv, self.workspace, limits=self.release.spec.limits)
            self._agent = self._spawn(command, env=dict(self._agent_env), cwd=self.folder, stdout=log, stderr=log)
        self._await_ready()

    def stop(self) -> None:
        """End the agent, with what it made a daemon of."""
        if self._agent is not None:
            end_group(self._agent)
            self._agent = None
            end_leftovers(self.workspace / "home")

    def close(self) -> None:
        """End the agent and all that was left behind by what was started here."""
        self.stop()
        for home in self._homes:
            end_leftovers(home)

    def start(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, own: Path, *others: Path, **streams: Any
    ) -> subprocess.Popen[bytes]:
        """Start a program as `confine` has it. `streams`: as `Popen` takes them. It ends with the sandbox."""
        return self._spawn(self.confine(argv, own, *others), env=dict(env), cwd=cwd, **streams)

    def confine(self, argv: Sequence[str], own: Path, *others: Path, limits: Limits = _NO_LIMITS) -> list[str]:
        """The command that starts a program which reaches what the sandbox allows, and writes only into `own`.

        `others`: folders of the workspace that it may read beside the release and its environment.
        """
        for name in ("home", "tmp"):
            (own / name).mkdir(parents=True, exist_ok=True)
        self._homes.add(own / "home")
        python = find_interpreter(self.environment)
        confinement = build_confinement(
            self.hidden, own, self.folder, self.environment, python, *others, connect=self.connect
        )
        confinement |= {"limits": _to_limits(limits), "open": not self.closed}
        return [sys.executable, "-I", "-S", "-E", confined.__file__, json.dumps(confinement), *argv]

    def log_tail(self) -> str:
        """The end of what the agent wrote."""
        return read_tail(self.workspace / "agent.log")

    def _spawn(self, command: Sequence[str], **how: Any) -> subprocess.Popen[bytes]:
        """By the one thread that lives as long as the sandbox: Linux ends a program with the thread that started it."""

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(command, start_new_session=True, **how)

        return self._starter.submit(start).result()

    def _await_ready(self) -> None:
        check, prober = self.release.spec.health, HttpProber()
        until = time.monotonic() + check.start_timeout
        try:
            while True:
                fault = prober.healthy(f"{HOST}:{self.port}", check)
                if fault is None:
                    return
                if not self.alive():
                    raise BuildFailed(f"the agent ended before it was ready: {self._last_line()}")
                if time.monotonic() > until:
                    raise BuildFailed(f"the agent was not ready within {check.start_timeout:g} s: {fault}")
                time.sleep(_LOOK)
        finally:
            prober.close()

    def _last_line(self) -> str:
        return next((line for line in reversed(self.log_tail().splitlines()) if line.strip()), "it said nothing")


@contextmanager
def sandbox(
    release: Release,
    artifacts: ArtifactStore,
    workspace: Path,
    *,
    environments: Environments,
    gateway: SandboxGateway | None = None,
    hidden: Iterable[Path] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Sandbox]:
    """The release, unpacked into the workspace (a folder of its own), started and ready.

    Out of reach are the folder that the workspace lies in, other environments, the state folder of this machine's instance,
    and what `hidden` names. Raises `BuildFailed`, also where this machine cannot keep a sandbox closed.
    """
    closed = _check_closed(say)
    folder, own = workspace / "release", workspace / "agent"
    say("the release")
    unpack_release(artifacts, release.digest, folder)
    unpack_wheels(artifacts, release.digest, wheels_folder(folder))
    say("its environment")
    environment = environments.build(folder, release.spec.lock, release.spec.python)
    own.mkdir(parents=True)
    kept_out = tuple(path.resolve() for path in (workspace.parent, environment.parent, default_state(), *hidden))
    port = choose_port(f"{release.digest}.{os.getpid()}", ())
    with (
        _without_orphans(),
        refusing_proxy() as refused,
        served(gateway) as ports,
        _bounded_logs(workspace, own),
        ThreadPoolExecutor(1, "sandbox-starter") as starter,
    ):
        connect = (port, refused.port, *ports)
        proxies = _proxy_env(refused.port)
        given = {**proxies, **_gateway_env(release, gateway)}
        replica = build_replica_spec(release, RingSettings(RING), 0, 1)
        launch = build_launch(
            replica, given, port=port, folder=own, release=folder, environment=environment, log_bytes=0, log_files=0
        )
        env = {
            name: launch["env"][name] for name in ("LANG", "PYTHONUNBUFFERED", "PATH", "VIRTUAL_ENV", "HOME", "TMPDIR")
        }
        env |= {**proxies, "PYTHONDONTWRITEBYTECODE": "1", "TURNOUT_AGENT": release.agent}
        env |= {"TURNOUT_AGENT_URL": f"http://{HOST}:{port}", "TURNOUT_RELEASE": release.digest}
        argv, agent_env = launch["argv"], launch["env"]
        live = Sandbox(
            release, folder, environment, own, env, port, connect, kept_out, closed, refused, argv, agent_env, starter
        )
        try:
            say("its agent")
            live.restart()
            yield live
        finally:
            live.close()
            shutil.rmtree(own, ignore_errors=True)


def read_tail(path: Path) -> str:
    """The end of a log; empty where there is none."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
        return file.read().decode(errors="replace").strip()
    return ""


def end_group(process: subprocess.Popen[bytes], grace: float = GRACE) -> None:
    """End a program with all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    with suppress(ProcessLookupError):  # also what outlived its leader
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _check_closed(say: Callable[[str], None]) -> bool:
    """Whether this machine can close a sandbox. Raises `BuildFailed` where it cannot, and nobody said that it need not."""
    openings = find_openings()
    if openings and os.environ.get(OPEN) != "1":
        raise BuildFailed(
            f"this machine cannot keep a sandbox from {' and '.join(openings)}",
            hint=f"use a Linux that can, or set {OPEN}=1 where the code of the release may reach all of this machine",
        )
    for opening in openings:
        say(f"the sandbox is open to {opening}")
    return not openings


def _to_limits(limits: Limits) -> dict[str, int]:
    given = {"memory": limits.memory, "open_files": limits.open_files, "cpus": limits.cpus, "file_size": LARGEST_FILE}
    return {name: most for name, most in given.items() if most is not None}


@contextmanager
def _without_orphans() -> Iterator[None]:
    """End, last of all, what made itself a daemon, whatever it did with its environment: it becomes our child instead of
    init's. This process starts nothing else meanwhile."""
    if sys.platform != "linux":
        yield
        return
    prctl, ours = ctypes.CDLL(None).prctl, psutil.Process()
    before = {child.pid for child in ours.children()}
    prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        for _ in range(SWEEPS):  # what they started becomes ours with their end
            orphans = [child for child in ours.children() if child.pid not in before]
            for orphan in orphans:
                with suppress(psutil.Error):
                    orphan.kill()
            psutil.wait_procs(orphans, GRACE)
        prctl(SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@contextmanager
def _bounded_logs(*folders: Path) -> Iterator[None]:
    """Cut the logs in some folders to their ends whenever they are too long. They are written by appending."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_AT_LOGS):
            for path in (path for folder in folders for path in folder.glob("*.log")):
                with suppress(OSError):
                    if path.stat().st_size > LARGEST_LOG:
                        end = read_tail(path)
                        os.truncate(path, 0)
                        with path.open("a", encoding="utf-8") as file:
                            file.write(f"[turnout] what was here was too long\n{end}\n")

    thread = threading.Thread(target=look, name="sandbox-logs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _gateway_env(release: Release, gateway: SandboxGateway | None) -> dict[str, str]:
    if gateway is None:
        return {}
    replica = build_replica_spec(release, RingSettings(RING), 0, 1)
    models, tools = (f"http://{HOST}:{gateway.ports.get(kind, 0)}" for kind in ("models", "tools"))
    return agent_environment(models, tools, replica, release, gateway.key)


def _proxy_env(port: int) -> dict[str, str]:
    proxy, own = f"http://{HOST}:{port}", f"{HOST},localhost"
    return {
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), proxy),
        "NO_PROXY": own,
        "no_proxy": own,
    }
