"""A release that runs apart: beside no ring, with a gateway of its own, reaching nothing but what it is given.

Evals and replays use it. Whatever starts here ends with the process that started it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvicorn

from turnout.artifacts.release import unpack_release
from turnout.artifacts.wheels import unpack_wheels
from turnout.clock import SystemClock
from turnout.domain.calls import Call
from turnout.domain.errors import BuildFailed
from turnout.domain.grants import Grant, Pins, build_grant
from turnout.domain.models import Release, RingSettings
from turnout.domain.replicas import build_replica_spec
from turnout.gateway.accounts import Accounts
from turnout.gateway.asgi import Application
from turnout.gateway.config import resolve_secret
from turnout.gateway.keys import key_digest
from turnout.gateway.ledger import MemoryLedger
from turnout.gateway.seams import CallJournal
from turnout.gateway.serve import build_server, listen
from turnout.gateway.values import GatewayConfig, ToolServer
from turnout.gateway_control import agent_environment, read_pins
from turnout.ports import ArtifactStore
from turnout.runtimes import confined
from turnout.runtimes.environment import Environments, wheels_folder
from turnout.runtimes.folder import HOST, TAIL, build_confinement, build_launch, find_interpreter
from turnout.runtimes.loopback import choose_port
from turnout.runtimes.probe import HttpProber

RING = "sandbox"
GRACE = 2.0  # seconds between SIGTERM and SIGKILL
_LOOK = 0.05  # seconds between looks whether the agent is ready


# --- the gateway of a sandbox ----------------------------------------------------------------------------------------


class CallLog:
    """A journal in memory: what was called, in order of the ends. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Call] = []

    def write(self, call: Call) -> None:
        """Add one."""
        with self._lock:
            self._calls.append(call)

    def of(self, task: str | None) -> tuple[Call, ...]:
        """The calls of a task so far; None: those that told none."""
        with self._lock:
            return tuple(call for call in self._calls if call.task == task)

    def take(self) -> tuple[Call, ...]:
        """All of them, which are then forgotten."""
        with self._lock:
            taken, self._calls = tuple(self._calls), []
        return taken


@dataclass(frozen=True, slots=True)
class OneGrant:
    """The one key of a sandbox."""

    grant: Grant

    def find(self, key: str) -> Grant | None:
        """See `seams.GrantSource`."""
        return self.grant if key_digest(key) == self.grant.key else None


@dataclass(slots=True)
class SandboxGateway:
    """What the agent of a sandbox calls. The applications are served while the sandbox lasts."""

    key: str
    log: CallLog
    models: Application | None = None
    tools: Application | None = None
    withheld: frozenset[str] = frozenset()  # tools of the release that may not be called here
    ports: dict[str, int] = field(default_factory=dict)  # by kind, once they are served


def build_sandbox_grant(release: Release, artifacts: ArtifactStore, key: str) -> Grant:
    """What the release may call: what its components pin, without budgets, and with everything of its calls kept."""
    pins: Pins = read_pins(artifacts, release)
    grant = build_grant(release, RING, pins, key_digest(key))
    return replace(grant, budgets=())


def build_live_models(grant: Grant, config: GatewayConfig, log: CallJournal) -> Application:
    """Models by the routes of an instance."""
    from turnout.gateway.model_app import create_model_app

    accounts = Accounts(MemoryLedger())
    source = OneGrant(grant)
    return create_model_app(source, lambda: config, accounts, log, SystemClock(), _secret_of, close=accounts.close)


def build_live_tools(
    grant: Grant, config: GatewayConfig, log: CallLog, logs: Path, stand_ins: Mapping[str, ToolServer | None]
) -> Application:
    """Tools by servers that stand in for those of an instance; without one only tools without side effects are called.

    A stand-in may be None until the sandbox is there. `withheld_tools` tells which tools are left out.
    """
    from turnout.gateway.tools.app import build_tool_app
    from turnout.gateway.tools.calls import ToolCalls
    from turnout.gateway.tools.upstream import Upstreams

    def servers() -> dict[str, ToolServer]:
        return {**config.tool_servers, **{name: server for name, server in stand_ins.items() if server is not None}}

    withheld = withheld_tools(grant, stand_ins)
    source = OneGrant(replace(grant, tools=tuple(pin for pin in grant.tools if pin.name not in withheld)))
    upstreams = Upstreams(servers, _secret_of, logs=logs)
    accounts = Accounts(MemoryLedger())
    return build_tool_app(source, ToolCalls(upstreams, accounts, log), upstreams)


def withheld_tools(grant: Grant, stand_ins: Collection[str]) -> frozenset[str]:
    """The tools with side effects that nothing stands in for."""
    return frozenset(pin.name for pin in grant.tools if pin.side_effects and pin.server not in stand_ins)


def _secret_of(reference: str) -> str:
    return resolve_secret(reference, os.environ)


# --- the sandbox -----------------------------------------------------------------------------------------------------


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
    refused: Refusals
    _argv: Sequence[str]
    _agent_env: Mapping[str, str]
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
            self._agent = self.start(self._argv, self._agent_env, self.folder, self.workspace, stdout=log, stderr=log)
        self._await_ready()

    def stop(self) -> None:
        """End the agent."""
        if self._agent is not None:
            end_group(self._agent)
            self._agent = None

    def start(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, own: Path, *others: Path, **streams: Any
    ) -> subprocess.Popen[bytes]:
        """Start a program as `confine` has it. `streams`: as `Popen` takes them.

        It ends with the thread that calls this: Linux tells of the end of a thread.
        """
        command = self.confine(argv, own, *others)
        return subprocess.Popen(command, env=dict(env), cwd=cwd, start_new_session=True, **streams)

    def confine(self, argv: Sequence[str], own: Path, *others: Path) -> list[str]:
        """The command that starts a program which reaches what the sandbox allows, and writes only into `own`.

        `others`: folders of the workspace that it may read beside the release and its environment.
        """
        for name in ("home", "tmp"):
            (own / name).mkdir(parents=True, exist_ok=True)
        python = find_interpreter(self.environment)
        confinement = build_confinement(
            self.workspace.parent, own, self.folder, self.environment, python, *others, connect=self.connect
        )
        return [sys.executable, "-I", "-S", "-E", confined.__file__, json.dumps(confinement), *argv]

    def log_tail(self) -> str:
        """The end of what the agent wrote."""
        with suppress(OSError), (self.workspace / "agent.log").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            return file.read().decode(errors="replace").strip()
        return ""

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
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Sandbox]:
    """The release, unpacked into the workspace (a folder of its own), started and ready. Raises `BuildFailed`."""
    folder, own = workspace / "release", workspace / "agent"
    say("the release")
    unpack_release(artifacts, release.digest, folder)
    unpack_wheels(artifacts, release.digest, wheels_folder(folder))
    say("its environment")
    environment = environments.build(folder, release.spec.lock, release.spec.python)
    own.mkdir(parents=True)
    port = choose_port(f"{release.digest}.{os.getpid()}", ())
    with refusing_proxy() as refused, _served(gateway) as ports:
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
        live = Sandbox(release, folder, environment, own, env, port, connect, refused, launch["argv"], launch["env"])
        try:
            say("its agent")
            live.restart()
            yield live
        finally:
            live.stop()
            shutil.rmtree(own, ignore_errors=True)


def end_group(process: subprocess.Popen[bytes], grace: float = GRACE) -> None:
    """End a program with all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    with suppress(ProcessLookupError):  # also what outlived its leader
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


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


# --- what is served beside it ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Refusals:
    """Who was asked for beyond the sandbox: `host:port`, in order, each once."""

    port: int
    hosts: list[str] = field(default_factory=list)

    def note(self, line: bytes) -> None:
        """Keep the target of a request line."""
        parts = line.decode("latin-1").split()
        target = parts[1] if len(parts) > 1 else "?"
        host = target.split("//", 1)[-1].split("/", 1)[0][:200]
        if host not in self.hosts and len(self.hosts) < 100:
            self.hosts.append(host)


@contextmanager
def refusing_proxy() -> Iterator[Refusals]:
    """A proxy that lets nothing through and remembers what was wanted."""
    listener = listen(HOST, 0)
    refused = Refusals(listener.getsockname()[1])
    answer = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError, asyncio.LimitOverrunError):
            refused.note(await asyncio.wait_for(reader.readline(), 5.0))
            writer.write(answer)
            await writer.drain()
        writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(refuse, sock=listener))
    thread = threading.Thread(target=loop.run_forever, name="sandbox-proxy", daemon=True)
    thread.start()
    try:
        yield refused
    finally:
        asyncio.run_coroutine_threadsafe(_close(server), loop).result(5.0)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _close(server: asyncio.Server) -> None:
    server.close()
    await server.wait_closed()


@contextmanager
def _served(gateway: SandboxGateway | None) -> Iterator[tuple[int, ...]]:
    """The applications of a gateway on ports of their own."""
    apps = {} if gateway is None else {"models": gateway.models, "tools": gateway.tools}
    running: list[tuple[uvicorn.Server, threading.Thread, socket.socket]] = []
    try:
        for kind, app in apps.items():
            if app is None:
                continue
            assert gateway is not None  # noqa: S101  # it has applications
            listener = listen(HOST, 0)
            gateway.ports[kind] = listener.getsockname()[1]
            server = build_server(app, drain=1, fast=kind == "models")
            thread = threading.Thread(target=_serve, args=(server, listener), name=f"sandbox-{kind}", daemon=True)
            thread.start()
            running.append((server, thread, listener))
        for server, thread, _ in running:
            while not server.started and thread.is_alive():
                time.sleep(0.005)
        yield tuple(listener.getsockname()[1] for _, _, listener in running)
    finally:
        for server, thread, listener in running:
            server.should_exit = True
            thread.join(10.0)
            listener.close()


def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    asyncio.run(server.serve([listener]))
