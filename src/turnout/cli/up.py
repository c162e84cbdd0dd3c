"""`turnout up`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import click

from turnout.cli.connection import print_json
from turnout.domain.errors import SetupFailed
from turnout.settings import API_PORT, TRAFFIC_PORT, Settings, default_state

_READY_SECONDS = 60.0


@click.command()
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="Folder for all state of the instance.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that the API listens on.")
@click.option("--port", default=API_PORT, show_default=True, type=click.IntRange(1, 65535), help="Port of the API.")
@click.option("--traffic-host", default="127.0.0.1", show_default=True, help="Address that callers reach agents on.")
@click.option(
    "--traffic-port", default=TRAFFIC_PORT, show_default=True, type=click.IntRange(1, 65535), help="Port for callers."
)
@click.option("--build-slots", default=2, show_default=True, type=click.IntRange(1, 64), help="Builds at a time.")
@click.option("-d", "--detach", is_flag=True, help="Return once it is ready; it goes on in the background.")
@click.option("--json", "as_json", is_flag=True, help="Print where it listens as JSON once it is ready.")
def up(state: Path | None, detach: bool, as_json: bool, **listen: object) -> None:
    """Start the platform on this machine: server, proxy, store.

    Ctrl-C ends the server only; agents and proxy go on serving, and the next `up` takes them over again.
    """
    settings = Settings(state=(state or default_state()).absolute(), **listen)  # type: ignore[arg-type]

    def tell(ready: Settings) -> None:
        if as_json:
            print_json({"api": ready.api_url, "traffic": ready.traffic_url, "state": str(ready.state)})
        else:
            click.echo(
                f"turnout is up: API {ready.api_url}, traffic {ready.traffic_url}/AGENT/RING/, state {ready.state}"
            )
        sys.stdout.flush()

    if detach:
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
    for name in ("host", "port", "traffic_host", "traffic_port", "build_slots"):
        command += [f"--{name.replace('_', '-')}", str(getattr(settings, name))]
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
            lines = [line for line in text.splitlines() if line.strip()]
            raise SetupFailed("the server did not start: " + " ".join(lines[-2:]), hint=f"its log is {log_path}")
        time.sleep(0.02)
    raise SetupFailed(f"the server is not ready after {_READY_SECONDS:g} s", hint=f"its log is {log_path}")
