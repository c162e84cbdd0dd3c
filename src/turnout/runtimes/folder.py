"""The folder of one replica: what was asked of it, what became of it, its logs. It outlives the server.

spec.json  replica and how it is launched (holds its environment: 0600)      health.json  the last readiness seen
shim.json, exit.json, grace, lock, agent.log*   see `shim.py`                 home/, tmp/  the agent's HOME and TMPDIR
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from turnout.domain.models import Digest, HealthCheck, Limits, ReplicaSpec, ReplicaState
from turnout.runtimes.shim import record_exit, write_json

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
HOST = "127.0.0.1"
TAIL = 4096  # bytes of a log in which its last line is looked for


@dataclass(frozen=True, slots=True)
class ShimRecord:
    """What the shim wrote when it began. `identity` tells its process from a later one with the same pid."""

    pid: int
    identity: str | None
    agent_pid: int | None
    started_at: float


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """How a replica ended. `code` is negative for a signal, None when nobody saw it."""

    code: int | None
    exited_at: float
    reason: str


class ReplicaFolder:
    """Reads and writes the files of a replica. Files of an earlier attempt count as missing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def home(self) -> Path:
        """The agent's HOME. No other process has it, which tells what a replica left behind."""
        return self.path / "home"

    def acquire(self) -> int | None:
        """A descriptor that holds the lock, to be handed to a shim; None while a shim has it."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def locked(self) -> bool:
        """Whether a shim runs, be it one that has not written its record yet."""
        descriptor = self.acquire()
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None

    def write_spec(self, replica: ReplicaSpec, port: int, launch: Mapping[str, Any]) -> None:
        """Begin an attempt: from now on the files of the one before do not count."""
        self.home.mkdir(exist_ok=True, mode=0o700)
        shutil.rmtree(self.path / "tmp", ignore_errors=True)
        (self.path / "tmp").mkdir(exist_ok=True, mode=0o700)
        for name in ("exit.json", "shim.json", "health.json", "grace"):
            (self.path / name).unlink(missing_ok=True)
        content = {"attempt": replica.attempt, "port": port, "replica": _to_json(replica), "launch": dict(launch)}
        write_json(self.path / "spec.json", content)

    def read_spec(self) -> tuple[ReplicaSpec, int] | None:
        """The replica and its port; None when there is none, or it was cut off by a crash of the machine."""
        content = _read_json(self.path / "spec.json")
        try:
            return (_from_json(content["replica"]), int(content["port"])) if content else None
        except (KeyError, TypeError, ValueError):
            return None

    def read_secrets(self) -> tuple[str, ...]:
        """The values of its environment that no message may repeat."""
        launch = (_read_json(self.path / "spec.json") or {}).get("launch", {})
        return tuple(launch["env"][name] for name in launch.get("secrets", ()) if not name.endswith("_URL"))

    def read_shim(self, attempt: int) -> ShimRecord | None:
        """The shim's record, None until it has begun."""
        content = self._of_attempt("shim.json", attempt)
        if content is None:
            return None
        return ShimRecord(content["pid"], content["identity"], content["agent_pid"], content["started_at"])

    def read_exit(self, attempt: int) -> ExitRecord | None:
        """How the attempt ended, None while it has not, or when its shim was killed."""
        content = self._of_attempt("exit.json", attempt)
        return ExitRecord(content["code"], content["exited_at"], content["reason"]) if content else None

    def write_exit(self, attempt: int, record: ExitRecord) -> None:
        """Write down an end that the shim could not."""
        record_exit(self.path, attempt, record.code, record.reason, record.exited_at)

    def write_grace(self, grace: float) -> None:
        """Mark the replica as stopping."""
        temporary = self.path / "grace.new"
        temporary.write_text(repr(float(grace)), encoding="ascii")
        temporary.replace(self.path / "grace")

    def read_grace(self) -> float | None:
        """The grace it is stopped with; None when it is not to stop."""
        try:
            return float((self.path / "grace").read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return None

    def write_health(self, attempt: int, state: ReplicaState, message: str) -> None:
        """Keep the readiness, so that a new server does not take a replica that serves for one that starts."""
        write_json(self.path / "health.json", {"attempt": attempt, "state": state, "message": message})

    def read_health(self, attempt: int) -> tuple[ReplicaState, str]:
        """The readiness that was last seen in this attempt."""
        content = self._of_attempt("health.json", attempt)
        return (ReplicaState(content["state"]), content["message"]) if content else (ReplicaState.STARTING, "")

    def logs(self) -> list[Path]:
        """The log files, oldest first."""
        numbered = self.path.glob("agent.log.*")
        older = sorted(
            numbered, key=lambda path: int(path.suffix[1:]) if path.suffix[1:].isdigit() else 0, reverse=True
        )
        newest = self.path / "agent.log"
        return [*older, newest] if newest.exists() else older

    def last_line(self) -> str:
        """The last line of the log that is not empty."""
        try:
            with (self.path / "agent.log").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
                lines = file.read().decode(errors="replace").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def archive(self, target: Path) -> None:
        """Move the folder away and keep its logs only; the environment with its values goes."""
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.rename(target)
        for name in ("spec.json", "shim.json", "health.json", "grace", "lock"):
            (target / name).unlink(missing_ok=True)
        for name in ("home", "tmp"):
            shutil.rmtree(target / name, ignore_errors=True)

    def _of_attempt(self, name: str, attempt: int) -> dict[str, Any] | None:
        content = _read_json(self.path / name)
        return content if content and content.get("attempt") == attempt else None


def build_launch(
    replica: ReplicaSpec,
    secrets: Mapping[str, str],
    *,
    port: int,
    folder: Path,
    release: Path,
    environment: Path,
    log_bytes: int,
    log_files: int,
    confinement: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """How the shim is to start the agent. The agent's environment is what the release declares, what it is given beside
    that in `secrets` (what the release sets itself stays), and where it is."""
    env = {
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # nothing is written into the release's folder, whoever runs turnout
        **secrets,
        **replica.env,
        "PORT": str(port),
        "HOST": HOST,
        "PATH": f"{environment / 'bin'}:{SYSTEM_PATH}",
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "VIRTUAL_ENV": str(environment),
    }
    return {
        "argv": [argument.replace("{port}", str(port)) for argument in replica.start],
        "env": env,
        "cwd": str(release),
        "limits": asdict(replica.limits),
        "log_bytes": log_bytes,
        "log_files": log_files,
        "confinement": confinement,
        "secrets": sorted(secrets.keys() - replica.env.keys()),  # names in `env`
    }


def build_confinement(
    hidden: Iterable[Path],
    folder: Path,
    release: Path,
    environment: Path,
    *others: Path,
    connect: Iterable[int] | None = None,
) -> dict[str, Any]:
    """What of the hidden folders an agent may reach, as `landlock.confine` takes it.

    `others`: what it may read beside, such as its interpreter. `connect`: the TCP ports that it may connect to; None: all.
    """
    closed = list(dict.fromkeys(hidden))
    inside = (path for path in others if any(path == each or each in path.parents for each in closed))
    readable = [release, environment, *inside]
    confinement: dict[str, Any] = {
        "hidden": [str(path) for path in closed],
        "readable": [str(path) for path in readable],
        "writable": [str(folder / "home"), str(folder / "tmp")],
    }
    return confinement if connect is None else {**confinement, "connect": sorted(connect)}


def find_interpreter(environment: Path) -> Path:
    """The folder that holds the interpreter of an environment, with its library."""
    return (environment / "bin" / "python").resolve().parent.parent


def _to_json(replica: ReplicaSpec) -> dict[str, Any]:
    fields = {name: getattr(replica, name) for name in ReplicaSpec.__dataclass_fields__}
    return {**fields, "env": dict(replica.env), "health": asdict(replica.health), "limits": asdict(replica.limits)}


def _from_json(content: dict[str, Any]) -> ReplicaSpec:
    return ReplicaSpec(
        **{
            **content,
            "digest": Digest(content["digest"]),
            "start": tuple(content["start"]),
            "health": HealthCheck(**content["health"]),
            "limits": Limits(**content["limits"]),
        }
    )


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return content if isinstance(content, dict) else None
