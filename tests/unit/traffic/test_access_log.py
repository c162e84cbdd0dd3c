"""The access log: read once, line by line, over any rotation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.traffic.support import CANDIDATE, STABLE
from turnout.domain.errors import RouterUnavailable
from turnout.domain.models import Arm, Task
from turnout.traffic.access_log import EnvoyAccessLog, parse_access_line

RECORD = {
    "type": "DownstreamEnd",
    "request": "r-1",
    "task": "t-1",
    "agent": "support",
    "ring": "production",
    "release": STABLE,
    "start": "2026-11-21T11:02:41.028542Z",
    "duration": 1250,
    "status": 200,
    "method": "POST",
    "path": "/invocations",
    "bytes_in": 12,
    "bytes_out": 34,
    "flags": "-",
    "upstream": "127.0.0.1:9201",
}
TASK = Task(
    request="r-1",
    task="t-1",
    agent="support",
    ring="production",
    release=STABLE,
    at=1_795_258_961.028542,
    duration=1.25,
    status=200,
    method="POST",
    path="/invocations",
    bytes_in=12,
    bytes_out=34,
)


class Proxy:
    """Writes lines as Envoy does: after a rename it goes on in the old file until it is asked and has a line to write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked = 0
        self.fails = False
        self._file = path.open("ab")
        self._pending = False

    def write(self, *lines: str, end: str = "\n") -> None:
        if self._pending:
            self.close()
            self._file = self.path.open("ab")
            self._pending = False
        self._file.write("".join(line + end for line in lines).encode())
        self._file.flush()

    def reopen(self) -> None:
        if self.fails:
            raise RouterUnavailable("down")
        self.asked += 1
        self._pending = True

    def close(self) -> None:
        self._file.close()


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    running = Proxy(tmp_path / "access.log")
    yield running
    running.close()


def log_of(proxy: Proxy, largest: int = 10) -> EnvoyAccessLog:
    return EnvoyAccessLog(proxy.path, proxy.reopen, largest=largest, kept=1)


def read_all(log: EnvoyAccessLog, cursor: str | None) -> tuple[list[str], str]:
    lines: list[str] = []
    while True:
        chunk = log.read(cursor, 2)
        lines += [line.decode() for line in chunk.lines]
        if chunk.cursor == cursor:
            return lines, cursor
        cursor = chunk.cursor


def test_it_reads_on_from_where_it_left_off(proxy: Proxy) -> None:
    log = log_of(proxy)
    proxy.write("1", "2", "3")
    lines, cursor = read_all(log, None)
    assert lines == ["1", "2", "3"]
    assert read_all(log, cursor) == ([], cursor)
    proxy.write("4")
    assert read_all(log_of(proxy), cursor)[0] == ["4"]


def test_a_line_that_is_not_complete_waits(proxy: Proxy) -> None:
    log = log_of(proxy)
    proxy.write("1\n2", end="")
    lines, cursor = read_all(log, None)
    assert lines == ["1"]
    proxy.write("2")
    assert read_all(log, cursor)[0] == ["22"]


def test_a_log_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    log = EnvoyAccessLog(tmp_path / "access.log", lambda: None)
    assert read_all(log, None)[0] == []
    _, cursor = read_all(log, None)
    (tmp_path / "access.log").write_text("1\n")
    assert read_all(log, cursor)[0] == ["1"]
    assert not EnvoyAccessLog(tmp_path / "other.log", lambda: None).rotate()


def test_rotation_loses_and_repeats_nothing(proxy: Proxy) -> None:
    log = log_of(proxy)
    proxy.write("1", "2", "3", "4", "5", "6")
    lines, cursor = read_all(log, None)
    assert log.rotate()
    proxy.close()  # what was buffered goes to the renamed file
    with (proxy.path.parent / "access.log.000001").open("a") as renamed:
        renamed.write("7\n")
    more, cursor = read_all(log, cursor)
    assert more == ["7"]
    proxy.write("8")
    more, cursor = read_all(log, cursor)
    assert (lines, more) == (["1", "2", "3", "4", "5", "6"], ["8"])


def test_it_says_whether_anything_was_left(proxy: Proxy) -> None:
    log = log_of(proxy)
    assert log.read(None).ended
    proxy.write("one", "two", "3")
    first = log.read(None, 2)
    assert (first.lines, first.ended) == ((b"one", b"two"), False)
    rest = log.read(first.cursor, 2)
    assert (rest.lines, rest.ended) == ((b"3",), True)
    assert log.rotate()
    assert log.read(rest.cursor, 2).ended
    proxy.write("4\n5", end="")
    newer = log.read(first.cursor, 2)
    assert (newer.lines, newer.ended) == ((b"3",), False)
    last = log.read(newer.cursor, 2)
    assert (last.lines, last.ended) == ((b"4",), True)


def test_a_small_file_is_not_rotated(proxy: Proxy) -> None:
    proxy.write("1")
    assert not log_of(proxy, largest=100).rotate()
    assert proxy.asked == 0


def test_only_what_was_read_is_removed(proxy: Proxy) -> None:
    log = log_of(proxy)
    for number in range(4):
        proxy.write(f"line of file {number}")
        assert log.rotate()
    proxy.write("last")
    assert len(list(proxy.path.parent.iterdir())) == 5
    lines, cursor = read_all(log, None)
    assert len(lines) == 5
    log.rotate()
    names = sorted(path.name for path in proxy.path.parent.iterdir())
    assert names == ["access.log", "access.log.000004"]
    assert read_all(log, cursor)[0] == []


def test_a_crash_between_renaming_and_asking_is_made_good(proxy: Proxy) -> None:
    log = log_of(proxy)
    proxy.write("a long first line")
    proxy.fails = True
    with pytest.raises(RouterUnavailable):
        log.rotate()
    proxy.fails = False
    assert not log_of(proxy).rotate()
    assert proxy.asked == 1
    proxy.write("2")
    assert read_all(log, None)[0] == ["a long first line", "2"]


@pytest.mark.parametrize("cursor", ["nonsense", "1:2:3", "999999999:5", ":", "²:1"])
def test_a_cursor_that_names_no_kept_file_starts_from_the_oldest(proxy: Proxy, cursor: str) -> None:
    proxy.write("1")
    assert [*log_of(proxy).read(cursor).lines] == [b"1"]


def test_a_line_is_a_task() -> None:
    assert parse_access_line(json.dumps(RECORD).encode()) == TASK


def test_a_failure_for_want_of_a_live_replica_counts_for_the_release() -> None:
    line = json.dumps({**RECORD, "upstream": None, "status": 503, "flags": "UH"}).encode()
    assert parse_access_line(line) == replace(TASK, status=503, flags="UH")


def test_an_answer_of_the_proxy_itself_has_no_release() -> None:
    line = json.dumps({**RECORD, "upstream": None, "release": None, "status": 409}).encode()
    assert parse_access_line(line) == replace(TASK, release=None, status=409)


def test_a_request_that_was_given_to_a_replica_is_under_way() -> None:
    line = {**RECORD, "type": "UpstreamPoolReady", "duration": None, "status": 0, "bytes_out": 0}
    assert parse_access_line(json.dumps(line).encode()) == replace(TASK, duration=None, status=0, bytes_out=0)


def test_a_rollout_says_which_arm_a_request_was_given_to_and_how_likely_that_was() -> None:
    rollout = {"rollout": "dep_1", "candidate": CANDIDATE, "share": 250}
    on_stable = parse_access_line(json.dumps({**RECORD, **rollout}).encode())
    assert on_stable == replace(TASK, arm=Arm.STABLE, probability=0.025, rollout="dep_1")
    on_candidate = parse_access_line(json.dumps({**RECORD, **rollout, "release": CANDIDATE}).encode())
    assert on_candidate == replace(TASK, release=CANDIDATE, arm=Arm.CANDIDATE, probability=0.025, rollout="dep_1")


@pytest.mark.parametrize(
    ("more", "answer"),
    [
        ({"answer": "?"}, None),
        ({"answer": "c28=", "encodings": "- gzip"}, None),
        ({"answer": "c28=", "encodings": "gzip -"}, b"so"),
        ({"answer": "c28=", "encodings": "- identity"}, b"so"),
    ],
)
def test_what_cannot_be_read_of_an_answer_is_not_kept(more: dict[str, object], answer: bytes | None) -> None:
    assert parse_access_line(json.dumps({**RECORD, **more}).encode()) == replace(TASK, answer=answer)


def test_a_header_that_is_too_long_to_be_read_as_a_whole_says_nothing() -> None:
    assert parse_access_line(json.dumps({**RECORD, "outcome": "failure;" * 200}).encode()) == TASK


def test_what_the_agent_said_and_what_was_captured_is_read() -> None:
    more = {"outcome": "failure; cost=0.2", "question": "d2h5", "answer": "c28=", "pinned": True}
    read = parse_access_line(json.dumps({**RECORD, **more}).encode())
    assert read == replace(TASK, report="failure; cost=0.2", question=b"why", answer=b"so", pinned=True)


@pytest.mark.parametrize(
    "change",
    [
        {"rollout": "dep_1", "candidate": STABLE, "share": 1, "beside": "x"},
        {"rollout": "dep_1", "candidate": STABLE, "share": "much"},
        {"outcome": 7},
        {"release": "sha256:abc"},
        {"release": 7},
        {"start": "yesterday"},
        {"duration": None},
        {"status": "x"},
        {"task": None},
        {"path": "\ud800"},
        {"task": "a\0b"},
    ],
)
def test_a_line_that_cannot_be_a_task_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a line of the access log"):
        parse_access_line(json.dumps({**RECORD, **change}).encode())


@pytest.mark.parametrize("change", [{"ring": None}, {"agent": None}, {"agent": None, "ring": None, "release": None}])
def test_a_request_that_belongs_to_no_ring_is_none(change: dict[str, object]) -> None:
    assert parse_access_line(json.dumps({**RECORD, **change}).encode()) is None


@given(st.binary() | st.recursive(st.none() | st.text(), st.lists).map(lambda value: json.dumps(value).encode()))
def test_garbage_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a line of the access log"):
        parse_access_line(line)


@pytest.mark.parametrize("line", [b"[" * 100_000, json.dumps(RECORD).encode()[:-1]])
def test_a_line_that_is_cut_or_absurd_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a line of the access log"):
        parse_access_line(line)
