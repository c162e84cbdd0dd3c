"""Runs the suites of an agent against one of its releases, in the release's sandbox: where the parts meet."""

from __future__ import annotations

import importlib.metadata
import platform
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from turnout.artifacts.select import select_suite
from turnout.domain.budget import NANOS
from turnout.domain.calls import ModelCall, ToolCall
from turnout.domain.errors import BuildFailed, InvalidRequest
from turnout.domain.eval_report import EvalReport
from turnout.domain.models import Release
from turnout.evals import pydantic_worker
from turnout.evals.contract import parse_id, parse_object
from turnout.evals.run import Progress, run_suite
from turnout.evals.suite import Suite, stage_suite
from turnout.gateway.config import load_gateway_config
from turnout.gateway.values import GatewayConfig, ToolServer
from turnout.manifest.eval_bar import build_bar
from turnout.manifest.eval_schema import Evals
from turnout.ports import ArtifactStore
from turnout.runtimes.environment import Environments
from turnout.runtimes.folder import find_interpreter
from turnout.sandbox import Sandbox, end_group, read_tail, sandbox
from turnout.sandbox_calls import (
    CallLog,
    Purse,
    SandboxGateway,
    build_live_models,
    build_live_tools,
    build_sandbox_grant,
    most_nanos,
    withheld_tools,
)

LIST_SECONDS = 120.0  # for a dataset to name its cases


@dataclass(frozen=True, slots=True)
class Subject:
    """What is evaluated: a release and the store that holds it."""

    release: Release
    artifacts: ArtifactStore


def evaluate(
    subject: Subject,
    table: Evals,
    source: Path,
    workspace: Path,
    *,
    environments: Environments,
    gateway: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> EvalReport:
    """Run one suite of the agent's folder `source` against a release. `workspace`: a new folder, for this alone.

    `gateway`: the configuration whose routes of models are used; without one the agent reaches no model.
    Raises `BuildFailed` where the release does not start, `InvalidRequest` and `ManifestError` for a suite that cannot be
    read. What goes wrong while the suite runs is in the report.
    """
    began = time.time()
    entries = select_suite(source, table)
    suite = stage_suite(table, ((entry.path, entry.source) for entry in entries), workspace / "suite")
    stand_ins: dict[str, ToolServer | None] = dict.fromkeys(table.tool_servers)
    own_gateway = _build_gateway(subject, stand_ins, workspace, gateway)
    with sandbox(
        subject.release,
        subject.artifacts,
        workspace,
        environments=environments,
        gateway=own_gateway,
        hidden=(source.resolve(),),  # the agent does not read the answers of its suites
        say=say,
    ) as live:
        closed = live.closed
        environment = _environment(suite, live, environments, say)
        bench = SuiteBench(live, suite.folder, environment, own_gateway)
        stand_ins |= {name: bench.stand_in(name, command) for name, command in table.tool_servers.items()}
        command = tuple(table.command)
        if table.dataset is not None:
            command = _dataset_command(table)
            suite = replace(suite, cases=_list_cases(bench, command))
        outcome = run_suite(suite, command, bench, on_progress)
        problems = (*outcome.problems, *bench.find_breaches())
    return EvalReport(
        agent=subject.release.agent,
        release=subject.release.digest,
        suite=table.name,
        suite_digest=suite.digest,
        bar=build_bar(table),
        repeat=table.repeat,
        expected=outcome.expected,
        runs=outcome.runs,
        problems=problems,
        began=began,
        ended=time.time(),
        made_by={
            "turnout": importlib.metadata.version("turnout"),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
            "sandbox": "closed" if closed else "open",
        },
    )


@dataclass(slots=True)
class SuiteBench:
    """Implements `evals.run.Bench` on a sandbox."""

    live: Sandbox
    folder: Path
    environment: Path
    gateway: SandboxGateway
    _reviving: threading.Lock = field(default_factory=threading.Lock)

    @property
    def _said(self) -> Path:
        return self.folder.parent / "suite.log"

    @property
    def _own(self) -> Path:
        return self.folder.parent / "suite-own"

    @property
    def _readable(self) -> tuple[Path, ...]:
        worker = Path(pydantic_worker.__file__)  # turnout may be installed in a folder that is hidden
        return (self.folder, self.environment, find_interpreter(self.environment), worker)

    def start(self, command: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """See `Bench`."""
        path = f"{self.environment / 'bin'}:{self.live.env['PATH']}"
        full = {**self.live.env, **env, "PATH": path, "VIRTUAL_ENV": str(self.environment)}
        full |= {"HOME": str(self._own / "home"), "TMPDIR": str(self._own / "tmp"), "PYTHONPATH": str(self.folder)}
        folders = (self.folder, self._own, *self._readable)
        pipe = subprocess.PIPE
        with self._said.open("ab") as errors:
            return self.live.start(command, full, *folders, stdin=pipe, stdout=pipe, stderr=errors)

    def stand_in(self, name: str, command: Sequence[str]) -> ToolServer:
        """A server of the suite, as the gateway of the sandbox starts it."""
        program = self.environment / "bin" / command[0]
        first = str(program) if program.exists() else command[0]
        confined = self.live.confine((first, *command[1:]), self._own, *self._readable)
        return ToolServer(name, command=tuple(confined), cwd=str(self.folder))

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """See `Bench`."""
        end_group(process, grace=0.5)

    def said(self) -> str:
        """See `Bench`."""
        return next((line.strip() for line in reversed(read_tail(self._said).splitlines()) if line.strip()), "")

    def revive(self) -> str | None:
        """See `Bench`."""
        if self.live.alive():
            return None
        with self._reviving:
            if self.live.alive():
                return None
            last = self.live.log_tail().splitlines()[-1:]
            try:
                self.live.restart()
            except BuildFailed as error:
                return error.message
            return f"the agent had ended{f': {last[0]}' if last else ''}"

    def cost_of(self, task: str) -> float | None:
        """See `Bench`."""
        calls = [call for call in self.gateway.log.of(task) if isinstance(call, ModelCall)]
        return sum(call.nanos for call in calls) / NANOS if calls else None

    def find_breaches(self) -> list[str]:
        """What the suite or the agent tried and may not: anything beyond the sandbox, or what it may spend."""
        breaches = [f"it tried to reach {host}, and a suite has no network" for host in self.live.refused.hosts]
        if self.gateway.purse is not None and self.gateway.purse.empty():
            breaches.append(self.gateway.purse.why())
        called = {call.tool for call in self.gateway.log.take() if isinstance(call, ToolCall)}
        return breaches + [
            f'the agent called the tool "{tool}", which has side effects and no stand-in'
            for tool in sorted(called & self.gateway.withheld)
        ]


def _build_gateway(
    subject: Subject, stand_ins: Mapping[str, ToolServer | None], workspace: Path, config_path: Path | None
) -> SandboxGateway:
    config = load_gateway_config(config_path) if config_path is not None else GatewayConfig()
    key, log = f"tk_{secrets.token_urlsafe(24)}", CallLog()
    grant = build_sandbox_grant(subject.release, subject.artifacts, key)
    own = SandboxGateway(key, log, withheld=withheld_tools(grant, stand_ins))
    if "model" in subject.release.components:
        own.purse = Purse(most_nanos(), log)
        own.models = build_live_models(grant, config, own.purse)
    if "tools" in subject.release.components:
        own.tools = build_live_tools(grant, config, log, workspace / "tools", stand_ins)
    return own


def _environment(suite: Suite, live: Sandbox, environments: Environments, say: Callable[[str], None]) -> Path:
    if suite.table.lock is None:
        return live.environment
    say("the environment of the suite")
    return environments.build(suite.folder, suite.table.lock, live.release.spec.python)


def _dataset_command(table: Evals) -> tuple[str, ...]:
    command = ["python", pydantic_worker.__file__, str(table.dataset)]
    command += ["--task", table.task] if table.task else []
    command += ["--evaluators", table.evaluators] if table.evaluators else []
    return tuple(command)


def _list_cases(bench: SuiteBench, command: Sequence[str]) -> dict[str, dict[str, object]]:
    """The cases of a dataset by id. Raises `InvalidRequest` with what the dataset's reader said."""
    process = bench.start([*command, "--list"], {})
    try:
        output, _ = process.communicate(timeout=LIST_SECONDS)
    except subprocess.TimeoutExpired:
        raise InvalidRequest(f"the dataset {command[2]} did not name its cases within {LIST_SECONDS:g} s") from None
    finally:
        bench.end(process)
    if process.returncode != 0:
        raise InvalidRequest(f"the dataset {command[2]} cannot be read: {bench.said()}")
    cases: dict[str, dict[str, object]] = {}
    for line in output.splitlines():
        name = parse_id(parse_object(line))
        if name in cases:
            raise InvalidRequest(f'the dataset {command[2]} has the case "{name}" twice')
        cases[name] = {"id": name}
    return cases
