"""Envoy's life: it outlives the server, is found again, comes back when it dies, and refuses what it cannot do."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from threading import Thread

import psutil
import pytest

from tests.unit.traffic.support import (
    CANDIDATE,
    HOST,
    STABLE,
    Upstream,
    ask,
    free_port,
    ring_route,
    routes,
    running_router,
    until,
)
from turnout.domain.errors import RouterUnavailable, SetupFailed
from turnout.domain.models import FULL_WEIGHT, Routes
from turnout.traffic import envoy, snapshot
from turnout.traffic.envoy import EnvoyRouter


def to_stable(stable: Upstream) -> Routes:
    return routes(ring_route((STABLE, FULL_WEIGHT), stable=stable.address))


def test_it_comes_back_by_itself_with_the_same_routes(tmp_path: Path, stable: Upstream) -> None:
    with running_router(tmp_path) as (router, port):
        router.apply(to_stable(stable))
        first = router.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        until(lambda: router.pid not in {None, first})

        def answered() -> bool:
            try:
                return ask(port).json["name"] == "stable"
            except OSError:
                return False

        until(answered)
        router.apply(routes(ring_route((STABLE, FULL_WEIGHT), stable=stable.address, candidate=stable.address)))
        assert ask(port, x_turnout_release=CANDIDATE).status == 200


def test_what_runs_is_ended_by_who_starts_none(tmp_path: Path, stable: Upstream) -> None:
    port = free_port()
    left = EnvoyRouter(tmp_path, HOST, port)
    left.start()
    left.apply(to_stable(stable))
    pid = left.pid or 0
    left.close()
    other = EnvoyRouter(tmp_path, HOST, port)
    assert other.end_running() == 1
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert (other.end_running(), other.pid) == (0, None)


def test_a_later_server_adopts_it_and_its_routes(tmp_path: Path, stable: Upstream) -> None:
    port = free_port()
    first = EnvoyRouter(tmp_path, HOST, port)
    first.start()
    first.apply(to_stable(stable))
    pid = first.pid
    first.close()
    assert ask(port).json["name"] == "stable"

    with running_router(tmp_path, port) as (second, _):
        assert second.pid == pid
        assert ask(port).json["name"] == "stable"
        written = {path: path.stat().st_ino for path in tmp_path.glob("*.json") if "bootstrap" not in path.name}
        second.apply(to_stable(stable))
        assert {path: path.stat().st_ino for path in written} == written
        os.kill(pid or 0, signal.SIGKILL)
        until(lambda: second.pid not in {None, pid})
    assert not second.alive


def test_it_outlives_a_server_that_is_killed(tmp_path: Path) -> None:
    port = free_port()
    code = (
        "import os, pathlib, sys, time; from turnout.traffic.envoy import EnvoyRouter;"
        f"router = EnvoyRouter(pathlib.Path(sys.argv[1]), {HOST!r}, {port}); router.start();"
        "print(router.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        server.kill()
    assert ask(port).status == 404
    with running_router(tmp_path, port) as (router, _):
        assert router.pid == pid


def test_one_that_was_started_otherwise_is_replaced_while_both_serve(tmp_path: Path, stable: Upstream) -> None:
    port = free_port()
    first = EnvoyRouter(tmp_path, HOST, port, concurrency=1)
    first.start()
    first.apply(to_stable(stable))
    old = first.pid
    assert old is not None
    first.close()
    with running_router(tmp_path, port) as (second, _):
        assert second.pid != old
        while is_running(old):
            assert ask(port).json["name"] == "stable"
        assert ask(port).json["name"] == "stable"


def test_two_instances_run_side_by_side(tmp_path: Path, stable: Upstream, candidate: Upstream) -> None:
    with running_router(tmp_path / "one") as (one, port_one), running_router(tmp_path / "two") as (two, port_two):
        one.apply(to_stable(stable))
        two.apply(to_stable(candidate))
        assert (ask(port_one).json["name"], ask(port_two).json["name"]) == ("stable", "candidate")
        assert one.pid != two.pid


def test_a_port_that_is_taken_is_named_with_its_holder(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(SetupFailed, match=rf"port {port} on {HOST} is taken by .*pid {os.getpid()}") as caught:
            EnvoyRouter(tmp_path, HOST, port).start()
        assert "another port with --traffic-port" in str(caught.value.hint)


def test_a_port_of_another_instance_is_taken_too(tmp_path: Path) -> None:
    with running_router(tmp_path / "one") as (_, port), pytest.raises(SetupFailed, match=r"taken by envoy"):
        EnvoyRouter(tmp_path / "two", HOST, port).start()


@pytest.mark.parametrize("host", ["example.org", "300.1.1.1"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(SetupFailed, match=re.escape(host)):
        EnvoyRouter(tmp_path, host, 1)


def test_a_configuration_that_envoy_refuses_changes_nothing(
    tmp_path: Path, stable: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_router(tmp_path) as (router, port):
        router.apply(to_stable(stable))
        files = {name: (tmp_path / name).read_bytes() for name in ("clusters.json", "routes.json")}
        good = snapshot.build_snapshot

        def with_fault(wanted: Routes) -> snapshot.Snapshot:
            built = good(wanted)
            return snapshot.Snapshot(built.clusters, built.routes.replace('"timeout":"0s"', '"timeout":"soon"'))

        monkeypatch.setattr(envoy, "build_snapshot", with_fault)
        with pytest.raises(RouterUnavailable, match=r"refused the configuration.*soon"):
            router.apply(routes(ring_route((CANDIDATE, FULL_WEIGHT), candidate=stable.address)))
        assert {name: (tmp_path / name).read_bytes() for name in files} == files
        assert ask(port).headers["x-turnout-release"] == STABLE
        monkeypatch.undo()
        router.apply(routes(ring_route((CANDIDATE, FULL_WEIGHT), candidate=stable.address)))
        assert ask(port).headers["x-turnout-release"] == CANDIDATE


def test_it_cannot_be_used_before_it_is_started(tmp_path: Path) -> None:
    router = EnvoyRouter(tmp_path, HOST, free_port())
    with pytest.raises(RouterUnavailable, match="not been started"):
        router.active_requests("support", "production", STABLE)
    assert not router.alive
    assert router.pid is None


def test_damaged_files_of_an_earlier_run_are_replaced(tmp_path: Path, stable: Upstream) -> None:
    (tmp_path / "clusters.json").write_text('{"resources": [')
    (tmp_path / "routes.json").write_text("[]")
    with running_router(tmp_path) as (router, port):
        assert ask(port).status == 404
        router.apply(to_stable(stable))
        assert ask(port).json["name"] == "stable"


def test_a_folder_whose_path_is_too_long_for_a_socket_will_do(tmp_path: Path, stable: Upstream) -> None:
    folder = tmp_path / ("long" * 25)
    with running_router(folder) as (router, port):
        router.apply(to_stable(stable))
        assert ask(port).json["name"] == "stable"
        private = Path((folder / "admin-folder").read_text())
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        (admin,) = private.iterdir()
        assert stat.S_IMODE(admin.stat().st_mode) == 0o600
        router.close()
        with running_router(folder, port) as (second, _):
            assert second.pid == router.pid or router.pid is None
    admin.unlink(missing_ok=True)
    private.rmdir()


def test_shutting_down_lets_requests_finish(tmp_path: Path, stable: Upstream) -> None:
    with running_router(tmp_path) as (router, port):
        router.apply(to_stable(stable))
        with socket.create_connection((HOST, port), timeout=10) as caller, caller.makefile("rb") as answer:
            caller.sendall(b"GET /support/production/sse HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            until(lambda: stable.streams == 1)
            stopping = Thread(target=router.shutdown, args=(10.0,))
            stopping.start()

            def refused() -> bool:
                try:
                    socket.create_connection((HOST, port), timeout=1).close()
                except OSError:
                    return True
                return False

            until(refused)
            stable.emit("last")
            stable.finish()
            assert b"data: last" in answer.read()
            stopping.join()
        assert not router.alive


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended is seen until its parent has looked at it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
