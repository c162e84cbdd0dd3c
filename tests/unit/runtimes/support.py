"""Releases made of small HTTP agents, and waiting for what must come true."""

from __future__ import annotations

import hashlib
import json
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from turnout.domain.models import (
    Digest,
    HealthCheck,
    Limits,
    Release,
    ReleaseSpec,
    ReplicaSpec,
    ReplicaState,
    ReplicaStatus,
    RingSettings,
)
from turnout.ports import Runtime

AGENT = """
import http.server, json, os, pathlib, subprocess, sys, urllib.parse

class Agent(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        getattr(self, "get_" + path.strip("/"))(urllib.parse.unquote(query))
    def answer(self, content, status=200):
        self.send_response(status); self.end_headers(); self.wfile.write(json.dumps(content).encode())
    def get_ping(self, _):
        self.answer("pong", 503 if pathlib.Path(os.environ["HOME"], "sick").exists() else 200)
    def get_env(self, _):
        self.answer(dict(os.environ))
    def get_run(self, code):
        names = {"agent": self}
        exec(code, globals(), names)
        self.answer(names.get("result"))
    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Agent).serve_forever()
"""
QUICK = HealthCheck(interval=0.1, timeout=2.0, unhealthy_after=2)
PATIENCE = 15.0


class Releases:
    """Releases by digest; `unpack` is what a runtime is given."""

    def __init__(self) -> None:
        self._files: dict[str, Mapping[str, str]] = {}
        self.unpacked = 0

    def add(
        self,
        files: Mapping[str, str] | None = None,
        start: tuple[str, ...] = ("python", "agent.py"),
        lock: str | None = None,
        python: str | None = None,
    ) -> Release:
        files = {"agent.py": AGENT, **(files or {})}
        content = json.dumps([files, start, lock, python], sort_keys=True).encode()
        digest = Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")
        self._files[digest] = files
        spec = ReleaseSpec("support", start, (RingSettings("dev"),), lock=lock, python=python)
        return Release(digest, "support", "v1", MappingProxyType({}), spec, "ann", 0.0)

    def unpack(self, digest: Digest, folder: Path) -> None:
        if folder.exists():
            return
        self.unpacked += 1
        temporary = folder.with_name(f"{folder.name}.new")
        temporary.mkdir(parents=True)
        for name, text in self._files[digest].items():
            (temporary / name).write_text(text, encoding="utf-8")
        temporary.rename(folder)


def replica_of(
    release: Release,
    attempt: int = 1,
    index: int = 0,
    env: Mapping[str, str] = MappingProxyType({}),
    limits: Limits | None = None,
    health: HealthCheck = QUICK,
) -> ReplicaSpec:
    spec = release.spec
    return ReplicaSpec(
        agent=release.agent,
        ring="dev",
        digest=release.digest,
        index=index,
        attempt=attempt,
        start=spec.start,
        env=env,
        health=health,
        limits=limits or Limits(),
        lock=spec.lock,
        python=spec.python,
    )


def eventually(condition: Callable[[], bool], within: float = PATIENCE, what: str = "it") -> float:
    """Wait until the condition holds; the seconds that it took. Fails the test when it does not in time."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < within, f"{what} did not come true within {within} s"
        time.sleep(0.01)
    return time.monotonic() - begin


def await_state(runtime: Runtime, replica_id: str, state: ReplicaState, attempt: int = 1) -> ReplicaStatus:
    """Wait for a state of a replica, and return it."""
    begin, seen = time.monotonic(), None
    while time.monotonic() - begin < PATIENCE:
        seen = next((status for status in runtime.observe() if status.id == replica_id), None)
        if seen is not None and (seen.state, seen.attempt) == (state, attempt):
            return seen
        time.sleep(0.01)
    raise AssertionError(f"{replica_id} is not {state} but {seen}")


def await_gone(runtime: Runtime, replica_id: str, within: float = PATIENCE) -> float:
    return eventually(lambda: all(s.id != replica_id for s in runtime.observe()), within, f"the end of {replica_id}")


def ask(status: ReplicaStatus, path: str) -> object:
    with urllib.request.urlopen(f"http://{status.address}/{path}", timeout=10) as response:
        return json.loads(response.read())


def run_in(status: ReplicaStatus, code: str) -> object:
    """Run code in the agent; what it leaves in `result`."""
    return ask(status, f"run?{urllib.parse.quote(code)}")


def process_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(") ")[2][0] not in "ZX"
