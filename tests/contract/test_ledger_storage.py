"""Ledgers in databases: several processes at once, killed processes, and everything that can be wrong with storage."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from tests.contract.ledger_support import RELEASE, FakeClock, budget, by_name, hold
from turnout.db.ledger import open_ledger
from turnout.domain.budget import Amount, Reserve, Spender
from turnout.domain.errors import LedgerUnavailable, SetupFailed, StorageFull

SPENDER = Spender("support", "production", RELEASE, "shared")
TASK = "task/support/production/shared/usd"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    make_url: Callable[[], str] = request.getfixturevalue("postgres")
    return make_url()


def start_spending(url: str, name: str, limit: int, lease: float = 60.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.contract.ledger_support", url, name, str(limit), str(lease)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


# --- several processes -----------------------------------------------------------------------------------------------


def test_processes_that_race_take_exactly_the_limit(url: str) -> None:
    """All open the ledger at once, where there is none yet."""
    processes = [start_spending(url, str(index), limit=400) for index in range(3)]
    taken = [call for process in processes for call in process.communicate()[0].split()]
    assert [process.returncode for process in processes] == [0, 0, 0]
    ledger = open_ledger(url)
    settled = 5 * sum(int(call.rpartition("-")[2]) % 2 for call in taken)
    assert by_name(ledger) == {TASK: (settled, 10 * len(taken) - 2 * settled, 400)}
    assert 390 < 10 * len(taken) - settled <= 400
    ledger.close()


def test_what_a_killed_process_was_answered_stays_and_what_it_held_is_reaped(url: str) -> None:
    ledger = open_ledger(url)
    process = start_spending(url, "p", limit=1_000_000)
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    told += process.communicate()[0].splitlines(keepends=True)
    count = sum(line.endswith("\n") for line in told)
    settled, held, _ = by_name(ledger)[TASK]
    calls = (settled // 5 * 2 * 10 + (held - settled // 5 * 10)) // 10  # every second call was settled with 5 of its 10
    assert count <= calls <= count + 1
    ledger.close()

    later = open_ledger(url, FakeClock(time.time() + 120.0))
    assert later.reap() == held // 10
    assert by_name(later)[TASK] == (settled + held, 0, 1_000_000)
    later.close()


# --- what can be wrong -----------------------------------------------------------------------------------------------


def test_a_ledger_is_opened_again_with_what_was_in_it(url: str) -> None:
    first = open_ledger(url)
    hold(first, "a", SPENDER, 70, budget(100), until=time.time() + 60)
    first.close()
    again = open_ledger(url)
    assert by_name(again) == {TASK: (0, 70, 100)}
    again.close()


def test_a_ledger_of_a_newer_turnout_is_refused_and_left_alone(url: str) -> None:
    open_ledger(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE ledger_schema SET version = 99"))
        connection.execute(text("DROP TABLE ledger_holds"))
    with pytest.raises(SetupFailed, match=r"newer turnout \(version 99") as caught:
        open_ledger(url)
    assert caught.value.hint == "start the newer version"
    with engine.connect() as connection, pytest.raises(Exception, match="ledger_holds"):
        connection.execute(text("SELECT * FROM ledger_holds"))
    engine.dispose()


def test_an_error_does_not_tell_the_password() -> None:
    with pytest.raises(LedgerUnavailable) as caught:
        open_ledger("postgresql://ann:hunter2@127.0.0.1:1/none")
    assert "hunter2" not in caught.value.message


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"something else\n" * 500)
    with pytest.raises(SetupFailed, match="something else than a ledger"):
        open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


@pytest.mark.parametrize("url", ["postgres", "mysql://127.0.0.1/x", ""])
def test_a_url_of_something_else_is_refused(url: str) -> None:
    with pytest.raises(SetupFailed, match="not the URL of a ledger"):
        open_ledger(url)


def test_a_missing_driver_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SetupFailed, match="psycopg"):
        open_ledger("postgresql://127.0.0.1/none")


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match="unable to open database file"):
        open_ledger(f"sqlite:///{tmp_path / 'missing' / 'ledger.db'}")


def test_a_full_disk_is_told_and_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = open_ledger(f"sqlite:///{path}")
    with ledger._engine.connect() as connection:  # the file may not grow
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    numbers = iter(range(200))

    def hold_on_new_accounts() -> None:
        for number in numbers:
            task = Spender("support", "production", RELEASE, f"{number}" + "x" * 500)
            hold(ledger, f"c{number}", task, 10, budget(100), until=time.time() + 60)

    with pytest.raises(StorageFull, match="disk of the ledger is full"):
        hold_on_new_accounts()
    held = next(numbers) - 1
    assert sum(account.held for account in ledger.accounts()) == held * 10
    ledger.settle("c0", Amount(0, 0, 0))
    assert sum(account.held for account in ledger.accounts()) == (held - 1) * 10
    ledger.close()


def test_a_ledger_that_another_program_keeps_locked_is_unavailable_until_it_lets_go(tmp_path: Path) -> None:
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", patience=0.05)
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailable, match="locked"):
        hold(ledger, "a", SPENDER, 1, budget(100), until=time.time() + 60)
    assert ledger.accounts() == ()
    assert ledger.reap() == 0
    other.close()
    assert hold(ledger, "a", SPENDER, 1, budget(100), until=time.time() + 60) is None
    ledger.close()


def test_what_has_to_be_at_once_does_not_wait_for_another_writer(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger, other = open_ledger(url), open_ledger(url)
    order = Reserve("a", SPENDER, (budget(100),), Amount(1), time.time() + 60)
    with other._engine.connect() as connection:
        other._begin(connection)
        began = time.monotonic()
        assert ledger.write_at_once([order]) is None
        assert time.monotonic() - began < 1.0
    assert ledger.write_at_once([order]) == (None,)
    assert by_name(other)[TASK] == (0, 1, 100)
    for opened in (ledger, other):
        opened.close()


def test_what_was_written_reaches_the_main_part_of_the_file(tmp_path: Path) -> None:
    file, waiting = tmp_path / "ledger.db", tmp_path / "ledger.db-wal"
    ledger = open_ledger(f"sqlite:///{file}")
    for number in range(1_000):
        assert hold(ledger, f"c{number}", SPENDER, 1, budget(10_000), until=time.time() + 60) is None
    assert waiting.stat().st_size < 1_000 * 4 * 4_096 / 2  # it is written over again and again
    ledger.close()


def test_a_writer_that_stands_still_gives_up_the_lock_of_the_server(postgres: Callable[[], str]) -> None:
    url = postgres()
    ledger, still = open_ledger(url), open_ledger(url, patience=0.2)
    connection = still._engine.connect()
    still._begin(connection)
    assert hold(ledger, "a", SPENDER, 1, budget(100), until=time.time() + 60) is None
    with pytest.raises(DBAPIError, match="idle-in-transaction"):
        connection.execute(text("SELECT 1"))
    connection.close()
    for opened in (ledger, still):
        opened.close()


def test_a_restart_of_the_database_server_costs_no_order(postgres: Callable[[], str]) -> None:
    url = postgres()
    ledger = open_ledger(url)
    assert hold(ledger, "a", SPENDER, 1, budget(100), until=time.time() + 60) is None
    admin = create_engine(url)
    with admin.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = :t"
            ),
            {"t": "client backend"},
        )
    admin.dispose()
    assert hold(ledger, "b", SPENDER, 1, budget(100), until=time.time() + 60) is None
    assert by_name(ledger)[TASK] == (0, 2, 100)
    ledger.close()


def test_a_machine_whose_clock_is_late_has_its_holds_reaped_no_earlier(
    postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger(postgres())
    late = time.time() - 3_600.0
    monkeypatch.setattr("turnout.db.ledger.time.time", lambda: late)
    assert hold(ledger, "a", SPENDER, 1, budget(100), until=late + 60) is None
    ledger.extend(["a"], late + 90)
    assert ledger.reap() == 0
    ledger.extend(["a"], late - 1)  # comes late
    assert hold(ledger, "b", SPENDER, 1, budget(100), until=late - 1) is None
    assert ledger.reap() == 1
    assert by_name(ledger)[TASK] == (1, 1, 100)
    ledger.close()
