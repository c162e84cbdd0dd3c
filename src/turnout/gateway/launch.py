"""How a process of the gateway is started, and how it says that it serves.

Its command line holds all that it depends on, so that one that runs is known by it: another command line is another process.
In the state folder's `gateway/`:

    secret          what keys are derived from            grants.json        what is allowed now
    NAME.json       which process serves as NAME          NAME.log           what it prints
    NAME.sock       hands on the socket it listens on     grants.reserve     keeps space for them on the disk
    journal/        what agents called                    ledger.db          what they spent
    tools/          what servers of tools print
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from turnout.domain.errors import SetupFailed
from turnout.durable import PRIVATE, replace_file
from turnout.processes import KnownProcess, own_processes, spawn

MODULE = "turnout.gateway_process"
FOLDER = "gateway"  # in the state folder
GRANTS_FILE = "grants.json"
JOURNAL_FOLDER = "journal"
LEDGER_FILE = "ledger.db"
START_TIMEOUT = 60.0
DRAIN_SECONDS = 300.0  # that calls under way have in a process that was replaced
LARGEST_LOG = 8 << 20  # bytes; one that has grown larger is begun anew

Kind = Literal["model", "tool"]
Address = tuple[str, int]  # host and port


@dataclass(frozen=True, slots=True)
class GatewayLaunch:
    """One process. `identity` stands for what else it depends on: the installed version, the secrets that it was given."""

    kind: Kind
    index: int
    state: Path
    host: str
    port: int
    config: Path
    identity: str

    @property
    def arguments(self) -> list[str]:
        """The command line. Everybody on the machine can read it."""
        return [
            *(sys.executable, "-m", MODULE, self.kind, "--state", str(self.state), "--host", self.host),
            *("--port", str(self.port), "--index", str(self.index), "--config", str(self.config)),
            *("--identity", self.identity),
        ]

    @property
    def name(self) -> str:
        """For people."""
        return f"gateway-{self.kind}-{self.index}"

    @property
    def address(self) -> Address:
        """Where it serves."""
        return self.host, self.port

    @property
    def log_path(self) -> Path:
        """What it prints."""
        return self.state / FOLDER / f"{self.kind}-{self.index}.log"

    @property
    def grants_path(self) -> Path:
        """What is allowed now."""
        return self.state / FOLDER / GRANTS_FILE

    @property
    def journal_folder(self) -> Path:
        """What agents called."""
        return self.state / FOLDER / JOURNAL_FOLDER

    @property
    def ledger_url(self) -> str:
        """What they spent."""
        return ledger_url(self.state)

    @property
    def offer_path(self) -> Path:
        """Where it hands on the socket that it listens on, see `handover`."""
        return self.state / FOLDER / f"{self.kind}-{self.index}.sock"

    def spawn(self, listener: socket.socket) -> KnownProcess:
        """Start it on a socket that listens. It gets the environment of the server, where its secrets may be."""
        try:
            if self.log_path.exists() and self.log_path.stat().st_size > LARGEST_LOG:
                self.log_path.replace(self.log_path.with_suffix(".log.1"))
            return spawn(self.arguments, dict(os.environ), self.log_path, listener)
        except OSError as error:
            raise SetupFailed(f"{self.name} cannot be started: {error}") from error

    def await_ready(self, process: KnownProcess, stopped: Callable[[], bool] = lambda: False) -> None:
        """Return once it serves. Raises `SetupFailed` when it ends, takes too long, or `stopped` says so."""
        deadline = time.monotonic() + START_TIMEOUT
        while not self.serves(process):
            if not process.alive or time.monotonic() > deadline or stopped():
                why = "has not become ready" if process.alive else f"ended while starting: {self._last_words()}"
                raise SetupFailed(f"{self.name} {why}", hint=f"its log is {self.log_path}")
            time.sleep(0.02)

    def serves(self, process: KnownProcess) -> bool:
        """Whether a process has said that it serves."""
        try:
            found = json.loads(self._mark.read_bytes())
        except (OSError, ValueError):
            return False
        return bool(found == {"pid": process.pid, "mark": process.mark})

    def say_ready(self, process: KnownProcess) -> None:
        """Called by the process itself once it listens."""
        replace_file(self._mark, json.dumps({"pid": process.pid, "mark": process.mark}).encode(), PRIVATE)

    @property
    def _mark(self) -> Path:
        return self.state / FOLDER / f"{self.kind}-{self.index}.json"

    def _last_words(self) -> str:
        try:
            lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "its log cannot be read"
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def ledger_url(state: Path) -> str:
    """The database in which the processes of a state folder keep what calls spend."""
    return f"sqlite:///{state / FOLDER / LEDGER_FILE}"


def offer_paths(state: Path, kind: Kind) -> list[Path]:
    """Where processes of a kind may hand on their socket."""
    return sorted((state / FOLDER).glob(f"{kind}-*.sock"))


def find_running(state: Path) -> dict[KnownProcess, list[str]]:
    """The gateway's processes of a state folder that run now, with their command lines."""
    found = {}
    for process, command in own_processes():
        match command:
            case [_, "-m", module, _, "--state", folder, *_] if module == MODULE and folder == str(state):
                found[process] = command
    return found
