"""What the server knows of a replica that runs here: read from its folder, and told from the processes of the machine."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from turnout.domain.models import ReplicaSpec, ReplicaState, ReplicaStatus
from turnout.runtimes.folder import HOST, ExitRecord, ReplicaFolder
from turnout.runtimes.health import Health
from turnout.runtimes.shim import process_identity

BOOT_TIME = 3.0  # seconds that a shim may take to write its record
SWEEPS = 5  # a process may fork while the list is read
QUOTE = 200  # characters of a log that a message may quote
SECRET_LENGTH = 8  # values of the environment of this length and more are never quoted


@dataclass(slots=True, eq=False)
class KnownReplica:
    """One attempt of a replica. Mutable: the runtime keeps it current under its lock."""

    spec: ReplicaSpec
    port: int
    folder: ReplicaFolder
    pid: int  # of the shim
    identity: str | None
    started_at: float
    agent_pid: int | None = None
    health: Health = field(default_factory=Health)
    grace: float | None = None  # set: it is stopping
    exit: ExitRecord | None = None


def adopt(folder: ReplicaFolder) -> KnownReplica | None:
    """The replica of a folder that a server before this one left; None when it was never started."""
    known = folder.read_spec()
    if known is None:
        return None
    spec, port = known
    deadline = time.monotonic() + BOOT_TIME
    while (shim := folder.read_shim(spec.attempt)) is None and folder.locked() and time.monotonic() < deadline:
        time.sleep(0.01)
    if shim is None:
        # A shim that died before it could write anything; the server of that time wrote the end down.
        ended = folder.read_exit(spec.attempt)
        return KnownReplica(spec, port, folder, 0, None, ended.exited_at, exit=ended) if ended else None
    state, message = folder.read_health(spec.attempt)
    replica = KnownReplica(spec, port, folder, shim.pid, shim.identity, shim.started_at, agent_pid=shim.agent_pid)
    replica.health = Health(state, 0, message)
    replica.grace = folder.read_grace()
    if shim.identity is None or process_identity(shim.pid) != shim.identity:
        replica.exit = take_exit(replica)
    return replica


def status_of(replica: KnownReplica) -> ReplicaStatus:
    """What the port tells of it. Cheap: reads a file only until the agent's pid is known."""
    spec = replica.spec
    if replica.agent_pid is None and replica.exit is None:
        shim = replica.folder.read_shim(spec.attempt)
        replica.agent_pid = shim.agent_pid if shim else None
    if replica.exit is not None:
        state, message = ReplicaState.EXITED, replica.exit.reason
    elif replica.grace is not None:
        state, message = ReplicaState.STOPPING, f"ends within {replica.grace:g} s"
    else:
        state, message = replica.health.state, replica.health.message
    return ReplicaStatus(
        agent=spec.agent,
        ring=spec.ring,
        digest=spec.digest,
        index=spec.index,
        attempt=spec.attempt,
        state=state,
        address=None if replica.exit is not None else f"{HOST}:{replica.port}",
        pid=None if replica.exit is not None else replica.agent_pid,
        started_at=replica.started_at,
        exited_at=replica.exit.exited_at if replica.exit is not None else None,
        exit_code=replica.exit.code if replica.exit is not None else None,
        message=message,
    )


def take_exit(replica: KnownReplica) -> ExitRecord:
    """How a replica ended whose shim is gone. A shim that was killed left no record: then it is written here."""
    folder, attempt = replica.folder, replica.spec.attempt
    record = folder.read_exit(attempt)
    if record is None:
        end_leftovers(folder.home)
        reason = "ended unseen: the process that watched it was killed or could not write, or the machine was restarted"
        record = ExitRecord(None, time.time(), reason)
        with suppress(OSError):
            folder.write_exit(attempt, record)
    line = folder.last_line()
    if not line or record.code == 0 or replica.grace is not None or line.startswith("[turnout]"):
        return record
    return ExitRecord(record.code, record.exited_at, f"{record.reason}; last line: {_quote(line, replica)}")


def terminate(pid: int, identity: str | None) -> None:
    """Send SIGTERM to a process, and to no other that has its pid now."""
    with suppress(ProcessLookupError):
        if not hasattr(os, "pidfd_open"):
            if process_identity(pid) == identity:
                os.kill(pid, signal.SIGTERM)
            return
        descriptor = os.pidfd_open(pid)
        try:
            if process_identity(pid) == identity:
                signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        finally:
            os.close(descriptor)


def end_leftovers(home: Path) -> None:
    """Kill the processes that have this HOME: those that a killed shim could not end."""
    for _ in range(SWEEPS):
        found = False
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get("HOME") == str(home):
                    process.kill()
                    found = True
        if not found:
            return


def _quote(line: str, replica: KnownReplica) -> str:
    """A line for a message: short, and without the values that the agent was given."""
    declared = (value for name, value in replica.spec.env.items() if not name.startswith("TURNOUT_"))
    for value in (*declared, *replica.folder.read_secrets()):
        if len(value) >= SECRET_LENGTH:
            line = line.replace(value, "***")
    return line if len(line) <= QUOTE else f"{line[:QUOTE]}…"
