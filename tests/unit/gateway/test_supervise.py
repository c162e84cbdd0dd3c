"""The gateway's processes with real processes on a real port."""

from __future__ import annotations

import errno
import http.client
import json
import os
import signal
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.live import free_port, wait_until
from turnout.domain.errors import SetupFailed
from turnout.gateway.launch import GatewayLaunch, find_running
from turnout.gateway.supervise import GatewayProcesses, stop_running


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway.toml").write_text("")
    yield tmp_path
    stop_running(tmp_path, 1.0)


def launches(state: Path, count: int = 2, identity: str = "one", port: int | None = None) -> list[GatewayLaunch]:
    chosen = port or free_port()
    return [
        GatewayLaunch("model", index, state, "127.0.0.1", chosen, state / "gateway.toml", identity)
        for index in range(count)
    ]


def answers(port: int, patience: float = 5) -> tuple[int, int]:
    """(index, pid) of the process that answers a new connection."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=patience) as response:
        said = json.load(response)
    return int(said["index"]), int(said["pid"])


@contextmanager
def steady_callers(port: int) -> Iterator[list[Exception]]:
    """One caller that keeps its connection and one that does not; what went wrong for them."""
    failures: list[Exception] = []
    over = threading.Event()

    def call(keep: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        while not over.wait(0.002):
            try:
                connection.request("GET", "/healthz")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException) as error:
                failures.append(error)
            if not keep:
                connection.close()
        connection.close()

    threads = [threading.Thread(target=call, args=(keep,)) for keep in (True, False)]
    for thread in threads:
        thread.start()
    yield failures
    over.set()
    for thread in threads:
        thread.join()


def test_several_share_a_port_outlive_their_server_are_healed_replaced_and_ended(state: Path) -> None:
    first = launches(state)
    port = first[0].port
    server = GatewayProcesses(state, first)
    server.check()
    server.start()
    pids = {item.index: item.pid for item in server.states()}
    wait_until(lambda: {answers(port) for _ in range(8)} == set(pids.items()), 10)

    killed = pids[0]
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: server.states()[0].pid not in (None, killed) and first[0].log_path.exists(), 20)
    wait_until(lambda: answers(port)[0] == 0, 20)
    assert [item.restarts for item in server.states()] == [1, 0]
    running = {item.pid for item in server.states()}
    server.close()
    assert {process.pid for process in find_running(state)} == running

    next_server = GatewayProcesses(state, first)
    next_server.check()  # the port is taken by our own
    next_server.start()
    assert {item.pid for item in next_server.states()} == running
    next_server.close()

    upgraded = GatewayProcesses(state, [replace(launch, identity="two") for launch in first[:1]])
    with steady_callers(port) as failures:
        upgraded.start()
        (renewed,) = upgraded.states()
        assert renewed.pid not in running
        wait_until(lambda: {process.pid for process in find_running(state)} == {renewed.pid}, 20)
    assert failures == []
    assert answers(port) == (0, renewed.pid)
    upgraded.close()

    without = GatewayProcesses(state, [])
    without.start()
    wait_until(lambda: not find_running(state), 20)


def test_nobody_else_can_listen_on_the_port_and_the_next_server_heals_on_the_same_socket(state: Path) -> None:
    first = launches(state)
    port = first[0].port
    server = GatewayProcesses(state, first)
    server.start()
    assert [bind_error(host, port) for host in ("127.0.0.1", "0.0.0.0")] == [errno.EADDRINUSE] * 2
    server.close()
    assert bind_error("127.0.0.1", port) == errno.EADDRINUSE

    next_server = GatewayProcesses(state, first)
    next_server.start()
    killed = {item.pid for item in next_server.states()}
    for pid in killed:
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    assert bind_error("127.0.0.1", port) == errno.EADDRINUSE  # the server holds it while nobody serves
    assert answers(port, patience=30)[1] not in killed  # and no caller is refused meanwhile
    next_server.close()


@pytest.mark.parametrize("trouble", ["offers nothing", "hangs"])
def test_processes_that_do_not_hand_on_their_socket_have_to_give_up_the_port(
    state: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnout.gateway.supervise.PORT_PATIENCE", 1.0)
    monkeypatch.setattr("turnout.gateway.handover.PATIENCE", 0.2)
    first = launches(state, 1)
    server = GatewayProcesses(state, first)
    server.start()
    server.close()
    (old,) = find_running(state)
    if trouble == "hangs":
        os.kill(old.pid, signal.SIGSTOP)
    else:
        first[0].offer_path.unlink()
    upgraded = GatewayProcesses(state, [replace(first[0], identity="two")])
    upgraded.start()
    assert answers(first[0].port)[1] == upgraded.states()[0].pid != old.pid
    assert bind_error("127.0.0.1", first[0].port) == errno.EADDRINUSE
    upgraded.close()


def bind_error(host: str, port: int) -> int | None:
    """What a stranger of the same user meets who wants to share a port."""
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            stranger.bind((host, port))
            stranger.listen()
        except OSError as error:
            return error.errno
    return None


def test_a_port_of_somebody_else_is_an_error_before_anything_starts(state: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = GatewayProcesses(state, launches(state, port=taken.getsockname()[1]))
        with pytest.raises(SetupFailed, match=r"port \d+ on 127.0.0.1 is taken by .*pid") as raised:
            server.check()
    assert raised.value.hint == "stop what listens there, or choose another port with --gateway-port"
    assert not find_running(state)


def test_a_process_that_does_not_start_says_why(state: Path) -> None:
    (state / "gateway.toml").write_text("[providers")
    server = GatewayProcesses(state, launches(state, 1))
    with pytest.raises(SetupFailed, match=r"gateway-model-0 ended while starting: .*is not valid TOML"):
        server.start()
    assert not find_running(state)
