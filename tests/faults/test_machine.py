"""Faults of the machine under the server: a port that is taken, a proxy that is killed, a state folder in use."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.callers import SteadyCaller, ask
from tests.e2e.processes import proxy_pid
from tests.e2e.workshop import deploy, push_tiny
from tests.live import LiveInstance, free_port, wait_until


@pytest.fixture(scope="module")
def sturdy(instance: LiveInstance, tmp_path_factory: pytest.TempPathFactory) -> LiveInstance:
    """The instance, with an agent `steady` in dev."""
    deploy(instance, "steady", push_tiny(instance, tmp_path_factory.mktemp("steady"), agent="steady"))
    return instance


@pytest.mark.parametrize(("name", "flag"), [("API", "--port"), ("traffic", "--traffic-port")])
def test_a_taken_port_is_named_and_nothing_is_started(tmp_path: Path, name: str, flag: str) -> None:
    with _occupied() as taken:
        ports = {"--port": free_port(), "--traffic-port": free_port(), flag: taken}
        ended = _up(tmp_path / "state", ports["--port"], ports["--traffic-port"])
    assert ended.returncode == 1
    assert f"127.0.0.1:{taken}" in ended.stderr or str(taken) in ended.stderr
    assert flag in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "state" / "instance.json").exists()
    assert _processes_of(tmp_path / "state") == []


def test_a_state_folder_in_use_is_refused(sturdy: LiveInstance) -> None:
    ended = _up(sturdy.state, free_port(), free_port())
    assert ended.returncode == 1
    assert "uses the state folder" in ended.stderr
    assert "turnout down" in ended.stderr
    assert ask(sturdy, "/steady/dev/").status == 200


def test_a_proxy_that_is_killed_comes_back_with_the_same_routes(sturdy: LiveInstance) -> None:
    stable = sturdy.ring("steady", "dev")["stable"]
    former = proxy_pid(sturdy)
    os.kill(former, signal.SIGKILL)

    def answers() -> bool:
        try:
            return bool(ask(sturdy, "/steady/dev/").release == stable)
        except OSError:
            return False

    wait_until(answers, 20)
    assert proxy_pid(sturdy) != former
    assert ask(sturdy, "/", {"host": f"dev.steady.localhost:{sturdy.traffic_port}"}).release == stable


def test_a_port_that_was_taken_while_the_server_was_down_stops_nobody_else(sturdy: LiveInstance) -> None:
    with SteadyCaller(sturdy, "/steady/dev/") as caller:
        sturdy.kill()
        with socket.create_server(("127.0.0.1", sturdy.port)):
            ended = _up(sturdy.state, sturdy.port, sturdy.traffic_port)
        sturdy.start()
        caller.check()
    assert ended.returncode == 1
    assert "--port" in ended.stderr
    assert sturdy.ring("steady", "dev")["replicas"][0]["restarts"] == 0


@contextmanager
def _occupied() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def _up(state: Path, port: int, traffic_port: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "turnout.cli.main", "up", "--state", str(state)]
    command += ["--port", str(port), "--traffic-port", str(traffic_port)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


def _processes_of(state: Path) -> list[int]:
    """Whatever names the state folder on its command line."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines()[1:] if f"{state}/" in line]
