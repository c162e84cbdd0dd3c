"""Notes of what was begun: an Envoy that is killed loses no request that it gave to a replica."""

from __future__ import annotations

import json
import logging
import os
import signal
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.unit.traffic.support import CANDIDATE, HOST, STABLE, Upstream, ask, free_port, ring_route, routes, until
from turnout.domain.models import Task
from turnout.traffic.access_log import parse_access_line
from turnout.traffic.begun import LARGEST_FILE, begun_path, recover
from turnout.traffic.envoy import EnvoyRouter
from turnout.traffic.launch import remove_leftovers


def note(at: str, request: str, **more: object) -> bytes:
    return json.dumps({"start": f"2026-11-22T{at}Z", "request": request, **more}, separators=(",", ":")).encode()


def requests_in(log: Path) -> list[str]:
    return [json.loads(line)["request"] for line in log.read_bytes().splitlines() if line]


def test_the_last_minute_goes_to_the_access_log_and_the_notes_are_removed(tmp_path: Path) -> None:
    log, notes = tmp_path / "access.log", tmp_path / "begun-1"
    log.write_bytes(note("08:00:00.000", "logged") + b"\n")
    old, edge, new = note("07:59:59.999", "old"), note("08:00:00.000", "edge"), note("08:01:00.000", "new")
    (tmp_path / "begun-1.aa.0").write_bytes(old + b"\n" + edge + b"\n")
    (tmp_path / "begun-1.aa.1").write_bytes(new + b"\n" + note("09:00:00.000", "broken")[:-1])
    (tmp_path / "begun-1.bb.0").write_bytes(b"\0\0{}\n")
    (tmp_path / "begun-2.aa.0").write_bytes(new + b"\n")
    assert recover(notes, log)
    assert requests_in(log) == ["logged", "edge", "new"]
    assert [path.name for path in tmp_path.glob("begun*")] == ["begun-2.aa.0"]
    recover(notes, log)
    assert requests_in(log) == ["logged", "edge", "new"]


@pytest.mark.parametrize("noted", [True, False])
def test_a_half_line_of_the_log_takes_nothing_of_the_next_with_it(tmp_path: Path, noted: bool) -> None:
    log = tmp_path / "access.log"
    log.write_bytes(b'{"half":')
    if noted:
        (tmp_path / "begun-1.aa.0").write_bytes(note("08:00:00.000", "new") + b"\n")
    recover(tmp_path / "begun-1", log)
    _, *rest = log.read_bytes().split(b"\n")
    assert rest == [*([note("08:00:00.000", "new")] if noted else []), b""]


def test_bytes_that_are_no_text_are_kept_as_envoy_tells_them(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    line = b'{"start":"2026-11-22T08:00:00.000Z","request":"\xe9"}\n'
    (tmp_path / "begun-1.aa.0").write_bytes(line + line.replace(b"\xe9", "é".encode()))
    recover(tmp_path / "begun-1", log)
    assert requests_in(log) == ["é", "é"]


def test_notes_that_cannot_be_brought_to_the_log_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notes = tmp_path / "begun-1.aa.0"
    notes.write_bytes(note("08:00:00.000", "new") + b"\n")
    (tmp_path / "access.log").mkdir()
    with caplog.at_level(logging.WARNING):
        assert not recover(tmp_path / "begun-1", tmp_path / "access.log")
    assert notes.exists()
    assert "may be missing from the records" in caplog.text


def test_a_bootstrap_file_is_kept_as_long_as_its_notes_are(tmp_path: Path) -> None:
    config, log = tmp_path / "bootstrap-1.json", tmp_path / "access.log"
    config.write_text("{}")
    (tmp_path / "begun-1.aa.0").write_bytes(note("08:00:00.000", "new") + b"\n")
    log.mkdir()
    remove_leftovers(tmp_path, ())
    assert config.exists()
    log.rmdir()
    remove_leftovers(tmp_path, ())
    assert requests_in(log) == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["access.log"]


class Killed:
    """A router whose Envoy is killed while no server runs, before it wrote a line to the access log."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self.router = EnvoyRouter(folder, HOST, self.port)
        self.router.start()

    @property
    def notes(self) -> list[Path]:
        """The files of notes."""
        return sorted(self._folder.glob("begun-*"))

    def logged(self) -> list[Task]:
        """What the access log says was begun."""
        lines = self.router.access_log_path.read_bytes().splitlines()
        return [task for task in map(parse_access_line, lines) if task is not None and task.duration is None]

    def come_back(self) -> None:
        """The next one, which has but the notes of the last."""
        pid = self.router.pid
        assert pid is not None
        self.router.close()
        os.kill(pid, signal.SIGKILL)
        psutil.Process(pid).wait(10)
        os.truncate(self.router.access_log_path, 0)
        self.router = EnvoyRouter(self._folder, HOST, self.port)
        self.router.start()


def test_what_a_killed_envoy_had_not_logged_is_in_the_log_of_the_next(
    tmp_path: Path, stable: Upstream, candidate: Upstream
) -> None:
    folder = tmp_path / "a 'state' folder] \\ é"
    folder.mkdir()
    proxy = Killed(folder)
    try:
        weights = ((CANDIDATE, 5_000), (STABLE, 5_000))
        ring = ring_route(*weights, stable=stable.address, candidate=candidate.address)
        proxy.router.apply(routes(replace(ring, rollout="dep_1")))
        for number in range(8):
            assert (
                ask(proxy.port, f"/support/production/x{number}?secret=1", x_turnout_task=f"task-{number}").status
                == 200
            )
        ask(proxy.port, x_turnout_task="pinned", x_turnout_release=CANDIDATE)
        ask(proxy.port, x_turnout_task='"\\ é \xe9')
        ask(proxy.port, x_turnout_release="no such release")
        until(lambda: len(proxy.logged()) == 10)
        known = proxy.logged()
        proxy.come_back()
        found = {task.request: task for task in proxy.logged()}
        assert {task.release for task in known} == {STABLE, CANDIDATE}
        assert len(found) == 10
        for task in known:
            assert abs(task.at - found[task.request].at) < 1
            assert replace(found[task.request], at=task.at) == task
        assert b"secret" not in proxy.router.access_log_path.read_bytes()
        assert proxy.notes == []
    finally:
        proxy.router.shutdown(grace=0)


def test_notes_take_little_room_and_where_they_cannot_be_written_requests_are_served(
    tmp_path: Path, stable: Upstream
) -> None:
    proxy = Killed(tmp_path)
    path = "/support/production/" + "x" * 50_000
    try:
        proxy.router.apply(routes(ring_route((STABLE, 10_000), stable=stable.address)))
        assert ask(proxy.port, path).status == 200
        (first,) = proxy.notes
        second = first.with_suffix(".1")
        second.mkdir()
        until(lambda: ask(proxy.port, path).status == 200 and first.stat().st_size > LARGEST_FILE - 2 * len(path))
        assert [ask(proxy.port, path).status for _ in range(20)] == [200] * 20
        second.rmdir()
        until(lambda: ask(proxy.port, path).status == 200 and second.exists(), 20)
        assert max(file.stat().st_size for file in proxy.notes) <= LARGEST_FILE
    finally:
        proxy.router.shutdown(grace=0)


def test_a_name_of_the_notes_follows_the_bootstrap_file() -> None:
    assert begun_path(Path("/state/envoy/bootstrap-0a1b.json")) == Path("/state/envoy/begun-0a1b")
