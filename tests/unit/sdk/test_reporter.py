"""The reporter: reports arrive once the server is there, nobody waits for it, and what is lost is counted."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.live import free_port, wait_until
from tests.unit.sdk.receiver import receiving
from turnout.sdk import Counts, Reporter
from turnout.sdk import delivery as module
from turnout.sdk.reports import LARGEST_BODY

AWAY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the instance of whoever runs the tests, and with short pauses."""
    for name in ("TURNOUT_SERVER", "TURNOUT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.05)


@contextmanager
def reporting(url: str | None, token: str | None = "secret", **options: Any) -> Iterator[Reporter]:
    reporter = Reporter(url, token, **options)
    try:
        yield reporter
    finally:
        reporter.close(0.0)


def sends_no_more() -> bool:
    """Whether the threads of closed reporters have ended."""
    return "turnout-reporter" not in {thread.name for thread in threading.enumerate()}


def test_a_report_arrives_as_it_was_said_with_the_token() -> None:
    with receiving() as receiver, reporting(f"{receiver.url}/prefix/") as reporter:
        assert reporter.report("t1", success=False, cost=0.5, detail="wrong city", agent="support", ring="dev")
        assert reporter.report("t2", intervention=True)
        assert reporter.flush(5)

        assert [report for batch in receiver.batches for report in batch] == [
            {"task": "t1", "success": False, "cost": 0.5, "detail": "wrong city", "agent": "support", "ring": "dev"},
            {"task": "t2", "intervention": True},
        ]
        assert receiver.tokens == {"Bearer secret"}
        assert receiver.paths == {"/prefix/v1/outcomes"}
        assert reporter.counts == Counts(sent=2, waiting=0, dropped=0, refused=0)


def test_server_and_token_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver:
        monkeypatch.setenv("TURNOUT_SERVER", receiver.url)
        monkeypatch.setenv("TURNOUT_TOKEN", "of the environment")
        with reporting(None, None) as reporter:
            reporter.report("t1", success=True)
            assert reporter.flush(5)

        assert receiver.tokens == {"Bearer of the environment"}


def test_what_comes_while_a_request_is_under_way_goes_together() -> None:
    with receiving() as receiver, reporting(receiver.url) as reporter:
        receiver.go.clear()
        for number in range(1_201):
            reporter.report(f"t{number}", success=True)
        receiver.go.set()
        assert reporter.flush(5)

        assert receiver.tasks == [f"t{number}" for number in range(1_201)]
        assert len(receiver.batches) <= 4
        assert max(len(batch) for batch in receiver.batches) == 500


def test_a_server_that_comes_back_gets_everything_in_order() -> None:
    port = free_port()
    with reporting(f"http://127.0.0.1:{port}") as reporter:
        for number in range(5):
            assert reporter.report(f"t{number}", success=True)
        assert not reporter.flush(0.1)
        with receiving(port=port) as receiver:
            assert reporter.flush(5)

        assert receiver.tasks == [f"t{number}" for number in range(5)]


@pytest.mark.parametrize("status", [429, 500, 503, 507])
def test_what_may_succeed_later_is_sent_again(status: int) -> None:
    with receiving((status, {}), (status, {})) as receiver, reporting(receiver.url) as reporter:
        reporter.report("t1", success=True)
        assert reporter.flush(5)

        assert receiver.tasks == ["t1"]
        assert reporter.counts.sent == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_never_can_succeed_is_dropped_and_the_next_goes_on(status: int, caplog: pytest.LogCaptureFixture) -> None:
    with receiving((status, {})) as receiver, reporting(receiver.url) as reporter:
        reporter.report("t1", success=True)
        assert reporter.flush(5)
        reporter.report("t2", success=True)
        assert reporter.flush(5)

        assert receiver.tasks == ["t2"]
        assert reporter.counts == Counts(sent=1, waiting=0, dropped=1, refused=0)
    assert f"the server answered {status}" in caplog.text
    assert "secret" not in caplog.text


def test_what_the_server_takes_and_does_not_keep_is_counted() -> None:
    with receiving() as receiver, reporting(receiver.url) as reporter:
        receiver.states["t2"] = "refused"
        receiver.go.clear()
        reporter.report("t1", success=True)
        reporter.report("t2", success=True)
        receiver.go.set()
        assert reporter.flush(5)

        assert reporter.counts == Counts(sent=1, waiting=0, dropped=0, refused=1)


def test_a_full_queue_drops_what_comes_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with reporting(AWAY, capacity=3) as reporter:
        taken = [reporter.report(f"t{number}", success=True) for number in range(10)]

        assert taken == [True] * 3 + [False] * 7
        assert reporter.counts == Counts(sent=0, waiting=3, dropped=7, refused=0)
    assert caplog.text.count("too many reports wait") == 1


# --- bodies that are too large ---------------------------------------------------------------------------------------


def send_large(reporter: Reporter, number: int) -> None:
    for index in range(number):
        assert reporter.report(f"t{index}", success=True, detail="😀" * 1_000)


def test_a_request_is_bounded_in_bytes_too() -> None:
    with receiving() as receiver, reporting(receiver.url) as reporter:
        receiver.largest = LARGEST_BODY + 100
        send_large(reporter, 500)
        assert reporter.flush(10)

        assert receiver.tasks == [f"t{index}" for index in range(500)]
        assert receiver.refused == 0
        assert max(receiver.sizes) > LARGEST_BODY / 2
        assert reporter.counts == Counts(sent=500, waiting=0, dropped=0, refused=0)


@pytest.mark.parametrize(("largest", "unread"), [(30_000, False), (70_000, True)])
def test_what_is_too_large_for_a_server_is_sent_in_parts(largest: int, unread: bool, tmp_path: Path) -> None:
    with receiving() as receiver, reporting(receiver.url, journal=tmp_path / "journal") as reporter:
        receiver.largest, receiver.unread = largest, unread
        send_large(reporter, 300)
        assert reporter.flush(20)

        assert receiver.tasks == [f"t{index}" for index in range(300)]
        assert receiver.refused > 0
        assert max(len(batch) for batch in receiver.batches) > 3
        assert reporter.counts == Counts(sent=300, waiting=0, dropped=0, refused=0)


def test_a_report_that_is_too_large_on_its_own_is_refused_and_the_next_goes_on() -> None:
    with receiving() as receiver, reporting(receiver.url) as reporter:
        receiver.largest = 1_000
        send_large(reporter, 3)
        reporter.report("small", success=True)
        assert reporter.flush(10)

        assert receiver.tasks == ["small"]
        assert reporter.counts == Counts(sent=1, waiting=0, dropped=0, refused=3)


def test_what_utf_8_cannot_write_is_replaced_in_a_detail() -> None:
    with receiving() as receiver, reporting(receiver.url) as reporter:
        assert reporter.report("zürich", success=True, detail="cut \ud83d")
        assert not reporter.report("cut \ud83d", success=True)
        assert reporter.flush(5)

        assert receiver.batches == [[{"task": "zürich", "success": True, "detail": "cut ?"}]]


# --- what is dropped -------------------------------------------------------------------------------------------------


BAD: list[tuple[str, dict[str, Any]]] = [
    ("", {"success": True}),
    ("x" * 257, {"success": True}),
    ("t1", {}),
    ("t1", {"success": "yes"}),
    ("t1", {"cost": float("nan")}),
    ("t1", {"cost": float("inf")}),
    ("t1", {"cost": -0.1}),
    ("t1", {"cost": 10**400}),
    ("t1", {"cost": True}),
    ("t1", {"cost": "0.1"}),
]


@pytest.mark.parametrize(("task", "said"), BAD)
def test_what_makes_no_sense_is_dropped_and_never_raises(task: str, said: dict[str, Any]) -> None:
    with receiving() as receiver, reporting(receiver.url) as reporter:
        assert not reporter.report(task, **said)

        assert reporter.counts == Counts(sent=0, waiting=0, dropped=1, refused=0)
        assert receiver.batches == []


@pytest.mark.parametrize(("url", "token"), [(None, None), (AWAY, None), ("ftp://host", "t"), (AWAY, "two\nlines")])
def test_without_a_server_every_report_is_dropped(url: str | None, token: str | None) -> None:
    with reporting(url, token) as reporter:
        assert not reporter.report("t1", success=True)
        assert reporter.flush(0)

        assert reporter.counts.dropped == 1


def test_a_server_that_asks_for_a_pause_gets_it() -> None:
    assert module.choose_pause(1, 7.0) == 7.0
    assert module.read_answer(429, "120", b"", 1).wish == 120
    assert module.read_answer(429, "86400", b"", 1).wish == module.LONGEST_WISH
    assert module.read_answer(503, "Wed, 21 Oct 2015 07:28:00 GMT", b"", 1).wish == 0
    assert module.read_answer(503, "soon", b"", 1).wish is None


def test_pauses_grow_are_bounded_and_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE", 30.0)
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.2)
    pauses = [[module.choose_pause(failures, None) for _ in range(50)] for failures in (1, 2, 5, 1_000)]

    assert all(0.1 <= pause <= 0.2 for pause in pauses[0])
    assert all(1.6 <= pause <= 3.2 for pause in pauses[2])
    assert all(15 <= pause <= 30 for pause in pauses[3])
    assert all(len(set(some)) > 40 for some in pauses)


def test_after_close_reports_are_dropped_and_the_thread_has_ended() -> None:
    with receiving() as receiver:
        reporter = Reporter(receiver.url, "t")
        reporter.report("t1", success=True)
        assert reporter.close(5)

        assert not reporter.report("t2", success=True)
        assert reporter.close(5)
        assert receiver.tasks == ["t1"]
        wait_until(sends_no_more, 5)


def test_close_without_a_journal_counts_what_was_lost(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    reporter = Reporter(AWAY, "t")
    reporter.report("t1", success=True)

    assert not reporter.close(0.05)
    assert reporter.counts == Counts(sent=0, waiting=0, dropped=1, refused=0)
    assert "1 reports were not sent" in caplog.text


def test_many_threads_and_a_server_that_stumbles_lose_nothing(tmp_path: Path) -> None:
    stumbles: list[tuple[int, dict[str, str]]] = [(503, {}), (200, {})] * 20
    with receiving(*stumbles) as receiver, reporting(receiver.url, journal=tmp_path / "journal") as reporter:

        def go_on(name: int) -> None:
            for number in range(200):
                assert reporter.report(f"{name}-{number}", success=True)

        threads = [threading.Thread(target=go_on, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert reporter.flush(10)

        assert sorted(receiver.tasks) == sorted(f"{name}-{number}" for name in range(4) for number in range(200))
        assert reporter.counts == Counts(sent=800, waiting=0, dropped=0, refused=0)


# --- the journal -----------------------------------------------------------------------------------------------------


def test_what_waits_survives_the_end_of_the_process(tmp_path: Path) -> None:
    journal = tmp_path / "reports" / "journal"
    script = (
        "import os, sys\nfrom turnout.sdk import Reporter\n"
        f"reporter = Reporter({AWAY!r}, 't', journal=sys.argv[1])\n"
        "for number in range(3): reporter.report(f't{number}', success=True)\n"
        "os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(journal)], check=False).returncode == 9
    assert journal.stat().st_mode & 0o777 == 0o600

    with receiving() as receiver, reporting(receiver.url, journal=journal) as reporter:
        reporter.report("t3", success=False)
        assert reporter.flush(5)
        assert receiver.tasks == ["t0", "t1", "t2", "t3"]
    assert not journal.exists()


def test_what_was_sent_is_not_sent_by_the_next_process(tmp_path: Path) -> None:
    with receiving((200, {}), (503, {}), *[(503, {})] * 99) as receiver:
        with reporting(receiver.url, journal=tmp_path / "journal") as reporter:
            reporter.report("t1", success=True)
            assert reporter.flush(5)
            reporter.report("t2", success=True)
            assert not reporter.flush(0.1)
        wait_until(sends_no_more, 10)
        receiver.answers.clear()
        with reporting(receiver.url, journal=tmp_path / "journal") as reporter:
            assert reporter.flush(5)

        assert receiver.tasks == ["t1", "t2"]


def test_a_journal_that_cannot_be_written_loses_nothing_while_the_process_lives(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with receiving() as receiver, reporting(receiver.url, journal=tmp_path / "file" / "journal") as reporter:
        assert reporter.report("t1", success=True)
        assert reporter.flush(5)

        assert receiver.tasks == ["t1"]


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_reports_for_itself(tmp_path: Path) -> None:
    with receiving() as receiver, reporting(AWAY, journal=tmp_path / "journal") as parent:
        parent.report("of the parent", success=True)
        child = os.fork()
        if child == 0:
            reporter = Reporter(receiver.url, "t", journal=tmp_path / "journal")
            reporter.report("of the child", success=True)
            empty = parent.counts == Counts(0, 0, 0, 0)
            os._exit(0 if reporter.flush(5) and empty else 1)
        assert os.waitpid(child, 0)[1] == 0

        assert receiver.tasks == ["of the child"]
        assert parent.counts.waiting == 1
    assert (tmp_path / "journal").read_text().count("of the parent") == 1


def test_the_module_needs_the_standard_library_only() -> None:
    script = (
        "import sys\nbefore = set(sys.modules)\nimport turnout.sdk, turnout.sdk.asgi\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(loaded - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "['turnout']"
