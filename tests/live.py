"""A real instance for tests and benchmarks: server, Envoy and agents on free ports, ended without a trace."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from turnout.client import Client

REPOSITORY = Path(__file__).parent.parent
SAMPLE_AGENT = REPOSITORY / "examples" / "docs_assistant"


@dataclass
class LiveInstance:
    """One instance. `server` is the command of its server; tests of crashes give their own."""

    state: Path
    port: int = field(default_factory=lambda: free_port())  # noqa: PLW0108  (defined below)
    traffic_port: int = field(default_factory=lambda: free_port())  # noqa: PLW0108  (defined below)
    server: tuple[str, ...] = (sys.executable, "-m", "turnout.cli.main", "up")
    env: dict[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def traffic(self) -> str:
        """URL of the traffic port."""
        return f"http://127.0.0.1:{self.traffic_port}"

    @property
    def api(self) -> str:
        """URL of the API."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, timeout: float = 30.0) -> None:
        """Start the server and wait until it answers."""
        if self.process is not None:
            self.process.wait(20)  # ended by whoever starts it again
        self.state.mkdir(parents=True, exist_ok=True)
        command = [*self.server, "--state", str(self.state)]
        command += ["--port", str(self.port), "--traffic-port", str(self.traffic_port), *self.flags]
        with (self.state / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **self.env}
            )
        wait_until(self._answers, timeout, lambda: f"server did not start:\n{self.server_log()[-3000:]}")

    def kill(self) -> None:
        """kill -9 of the server; agents and Envoy go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End everything."""
        self.run("down", "--grace", "2", check=False, timeout=60)
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def run(
        self,
        *arguments: str,
        check: bool = True,
        token: str | None = None,
        timeout: float = 120,
        more: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a verb of the command line against this instance; `token` speaks for somebody else than the admin.

        `more`: additions to its environment.
        """
        env = {**os.environ, "TURNOUT_STATE": str(self.state), **(more or {})}
        if token is not None:
            env |= {"TURNOUT_STATE": "/nonexistent", "TURNOUT_SERVER": self.api, "TURNOUT_TOKEN": token}
        command = [sys.executable, "-m", "turnout.cli.main", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, env=env, timeout=timeout, check=False, stdin=subprocess.DEVNULL
        )
        if check and done.returncode != 0:
            raise AssertionError(f"turnout {' '.join(arguments)} → {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def json(self, *arguments: str, token: str | None = None, timeout: float = 120) -> Any:
        """Run a verb with --json and read its answer."""
        return json.loads(self.run(*arguments, "--json", token=token, timeout=timeout).stdout)

    def client(self) -> Client:
        """The typed client, as the admin."""
        return Client(self.api, (self.state / "admin.token").read_text().strip())

    def ring(self, agent: str, ring: str) -> Any:
        """The status of one ring."""
        rings = self.client().agent(agent)["rings"]
        return next(item for item in rings if item["ring"] == ring)

    def server_log(self) -> str:
        """What the server printed."""
        path = self.state / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.server_log()[-3000:]}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def live_instance(state: Path, **settings: Any) -> Iterator[LiveInstance]:
    """A started instance that is ended when the block is left."""
    instance = LiveInstance(state, **settings)
    try:
        instance.start()
        yield instance
    finally:
        instance.stop()


def copy_agent(target: Path, *, rings: str | None = None) -> Path:
    """The sample agent in a folder of its own; `rings` replaces all [rings.*] tables of its turnout.toml."""
    shutil.copytree(SAMPLE_AGENT, target, ignore=shutil.ignore_patterns("__pycache__", ".turnout", "index"))
    if rings is not None:
        manifest = target / "turnout.toml"
        text = manifest.read_text()
        manifest.write_text(text[: text.index("[rings.")] + rings)
    return target


def change_agent(folder: Path, note: str) -> None:
    """Make the next build another release."""
    path = folder / "prompts" / "system.md"
    path.write_text(path.read_text() + f"\n{note}\n")


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(met: Callable[[], bool], timeout: float, describe: Callable[[], str] = lambda: "") -> None:
    """Poll until a condition is met. Fails with what `describe` says when it is not in time."""
    deadline = time.monotonic() + timeout
    while not met():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {describe()}")
        time.sleep(0.02)
