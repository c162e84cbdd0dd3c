"""`turnout up`."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from turnout.cli.connection import note, print_json
from turnout.cli.durations import Duration
from turnout.domain.errors import SetupFailed
from turnout.settings import (
    API_PORT,
    GATEWAY_PORT,
    INSTANCE_FILE,
    LOCK_FILE,
    TOOL_PORT,
    TRAFFIC_PORT,
    Settings,
    default_state,
)

_READY_SECONDS = 60.0
PORT = click.IntRange(1, 65535)
REMEMBERED = (
    *("host", "port", "traffic_host", "traffic_port", "registry"),
    *("gateway", "gateway_host", "gateway_port", "tool_port", "gateway_processes"),
)


@click.command()
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="Folder for all state of the instance.")
@click.option("--host", help="Address that the API listens on. Default: as the last time, first 127.0.0.1.")
@click.option("--port", type=PORT, help=f"Port of the API. Default: as the last time, first {API_PORT}.")
@click.option(
    "--traffic-host", help="Address that callers reach agents on. Default: as the last time, first 127.0.0.1."
)
@click.option("--traffic-port", type=PORT, help=f"Port for callers. Default: as the last time, first {TRAFFIC_PORT}.")
@click.option("--registry", help="OCI registry that keeps the releases, such as https://registry.example.com/turnout.")
@click.option("--build-slots", default=2, show_default=True, type=click.IntRange(1, 64), help="Builds at a time.")
@click.option(
    "--keep-tasks",
    default="30d",
    show_default=True,
    type=Duration(),
    help="How long tasks, outcomes and what was captured of them are kept.",
)
@click.option(
    "--record-settle",
    default="1m",
    show_default=True,
    type=Duration(),
    help="How long after its end a task is recorded for replay.",
)
@click.option(
    "--alerts",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that says who is told of what. Default: alerts.toml in the state folder, if it is there.",
)
@click.option(
    "--gateway",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that says how models and tools are reached. Default: gateway.toml in the state folder, if it is there.",
)
@click.option("--gateway-host", help="Address that agents reach models and tools on. Default: as the last time.")
@click.option("--gateway-port", type=PORT, help=f"Port for models. Default: as the last time, first {GATEWAY_PORT}.")
@click.option("--tool-port", type=PORT, help=f"Port for tools. Default: as the last time, first {TOOL_PORT}.")
@click.option(
    "--gateway-processes",
    type=click.IntRange(1, 64),
    help="Processes that share the port for models. Default: as the last time, first 1.",
)
@click.option("-d", "--detach", is_flag=True, help="Return once it is ready; it goes on in the background.")
@click.option("--json", "as_json", is_flag=True, help="Print where it listens as JSON once it is ready.")
def up(state: Path | None, detach: bool, as_json: bool, **listen: Any) -> None:
    """Start the platform on this machine: server, proxy, store.

    Ctrl-C ends the server only; agents and proxy go on serving, and the next `up` takes them over again.
    """
    folder = (state or default_state()).absolute()
    # As the last time: an instance that is started again after a crash must be found where its callers look for it.
    chosen = {**_last_time(folder), **{name: value for name, value in listen.items() if value is not None}}
    for name in ("alerts", "gateway"):
        if chosen.get(name) is not None:
            chosen[name] = Path(chosen[name]).absolute()
    settings = Settings(state=folder, **chosen)
    _check_ports(settings)

    def tell(ready: Settings) -> None:
        if as_json:
            print_json({"api": ready.api_url, "traffic": ready.traffic_url, "state": str(ready.state)})
        else:
            click.echo(
                f"turnout is up: API {ready.api_url}, traffic {ready.traffic_url}/AGENT/RING/, state {ready.state}"
            )
        sys.stdout.flush()

    if detach:
        if _answers(settings):
            note("it was up already")
        else:
            _start_detached(settings)
        tell(settings)
        return
    from turnout.server import serve

    serve(settings, tell)


def _start_detached(settings: Settings) -> None:
    """Start `turnout up` in a session of its own, and wait until it says that it is ready."""
    os.umask(0o077)
    settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = [sys.executable, "-m", "turnout.cli.main", "up", "--json", "--state", str(settings.state)]
    for name in (*REMEMBERED, "build_slots", "keep_tasks", "record_settle", "alerts"):
        value = getattr(settings, name)
        if value is None:
            continue
        value = f"{value:f}s" if name in ("keep_tasks", "record_settle") else str(value)
        command += [f"--{name.replace('_', '-')}", value]
    log_path = settings.state / "server.log"
    with log_path.open("ab") as log, os.fdopen(os.dup(log.fileno()), "wb") as errors:
        start = log.tell()
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=errors, start_new_session=True, cwd="/"
        )
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        with log_path.open("rb") as written:
            written.seek(start)
            text = written.read().decode(errors="replace")
        if '"traffic":' in text:
            return
        if server.poll() is not None:
            raise _failure(text, log_path)
        time.sleep(0.02)
    raise SetupFailed(f"the server is not ready after {_READY_SECONDS:g} s", hint=f"its log is {log_path}")


def _check_ports(settings: Settings) -> None:
    """Raise `SetupFailed` where two of ours would be the same."""
    taken: dict[tuple[str, int], str] = {}
    wanted = [
        ("--port", settings.host, settings.port),
        ("--traffic-port", settings.traffic_host, settings.traffic_port),
    ]
    if settings.gateway is not None or settings.gateway_file.exists():
        wanted.append(("--gateway-port", settings.gateway_host, settings.gateway_port))
        wanted.append(("--tool-port", settings.gateway_host, settings.tool_port))
    for option, host, port in wanted:
        other = taken.setdefault((host, port), option)
        if other != option:
            raise SetupFailed(f"{other} and {option} cannot share port {port}", hint="give them two numbers")


def _failure(text: str, log_path: Path) -> SetupFailed:
    """What the server said in its last words."""
    said = {"error": "it gave no reason", "hint": f"its log is {log_path}"}
    for line in text.splitlines():
        kind, _, rest = click.unstyle(line).partition(": ")
        if kind in said:
            said[kind] = rest
    return SetupFailed(said["error"], hint=said["hint"])


def _last_time(folder: Path) -> dict[str, Any]:
    """Where the instance of this folder listened when it last ran."""
    try:
        known = json.loads((folder / INSTANCE_FILE).read_text())
        return {name: known[name] for name in REMEMBERED if known.get(name) is not None}
    except (OSError, ValueError, AttributeError):
        return {}


def _answers(settings: Settings) -> bool:
    """Whether the server of this very folder runs and answers where it is wanted."""
    if _last_time(settings.state).get("port") != settings.port or not is_locked(settings.state):
        return False
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((settings.host, settings.port)) == 0


def is_locked(state: Path) -> bool:
    """Whether a server holds the state folder."""
    try:
        with (state / LOCK_FILE).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
