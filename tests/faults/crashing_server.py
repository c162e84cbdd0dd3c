"""A server that kills itself (SIGKILL) at a chosen effect and is started again at once, as a service manager would do.

Run as `python -m tests.faults.crashing_server up --state … --port … --traffic-port …`. Everything is imported once; each
life of the server is a fork. Its state folder holds what decides over it:

    crash-at      written by a test: the number of effects from now on (counted across all threads) to be killed at.
                  A leading `*`: every life ends after so many effects, until the file is removed.
    crashes.log   a line for every crash: the effect that it came before

Effects are what the controller does, and inside of that: every file that Envoy reads, the building of an environment, the
start of an agent's process, the smoke tasks, the record of an answer under its idempotency key. The process ends before the
effect: as nothing happens between two effects, that is also after the one before.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from turnout import server
from turnout.db.transaction import SqlTransaction
from turnout.runtimes.environment import Environments
from turnout.runtimes.probe import HttpProber
from turnout.runtimes.process import ProcessRuntime
from turnout.settings import Settings
from turnout.traffic.files import ConfigFiles

CRASH_AT = "crash-at"
CRASHES = "crashes.log"


class Countdown:
    """Counts effects once the file is there, and ends the process with the last one."""

    def __init__(self, state: Path) -> None:
        self._order = state / CRASH_AT
        self._record = state / CRASHES
        self._lock = threading.Lock()
        self._count = 0

    def __call__(self, effect: str) -> None:
        if not effect.startswith("before "):
            return
        with self._lock:
            try:
                order = self._order.read_text()
            except FileNotFoundError:
                self._count = 0
                return
            self._count += 1
            if self._count < int(order.lstrip("*")):
                return
            if not order.startswith("*"):
                self._order.unlink()
            with self._record.open("a") as record:
                record.write(f"{effect.removeprefix('before ')}\n")
            os.kill(os.getpid(), signal.SIGKILL)


def run_lives(settings: Settings, live: Callable[[], None]) -> int:
    """Fork a server, and another whenever one was killed. Returns the exit code of the one that ended by itself."""
    child = 0

    def pass_on(number: int, _: object) -> None:
        if child:
            os.kill(child, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    while True:
        child = os.fork()
        if child == 0:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            live()
            return 0
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            return os.waitstatus_to_exitcode(status)


@click.group()
def cli() -> None:
    """Stand-in for the command line of turnout."""


@cli.command()
@click.option("--state", type=click.Path(path_type=Path), required=True)
@click.option("--port", type=int, required=True)
@click.option("--traffic-port", type=int, required=True)
def up(state: Path, port: int, traffic_port: int) -> None:
    """Start the server, again and again."""
    settings = Settings(state=state.absolute(), port=port, traffic_port=traffic_port)
    countdown = Countdown(settings.state)
    _count_inside(ConfigFiles, "write", "proxy files", countdown)
    _count_inside(ProcessRuntime, "_launch", "launch", countdown)
    _count_inside(SqlTransaction, "save_response", "answer", countdown)
    _count_inside(Environments, "build", "environment", countdown)
    _count_inside(HttpProber, "smoke", "smoke tasks", countdown)
    sys.exit(run_lives(settings, lambda: server.serve(settings, lambda _: None, countdown)))


def _count_inside(owner: type, name: str, effect: str, countdown: Countdown) -> None:
    """Make a method of the server count as an effect of its own."""
    method = getattr(owner, name)

    def counted(*args: Any, **options: Any) -> Any:
        countdown(f"before {effect}")
        return method(*args, **options)

    setattr(owner, name, counted)


if __name__ == "__main__":
    cli()
