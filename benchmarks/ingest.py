"""How fast tasks and reports get into the database, and whether one is lost or doubled when server or Envoy is killed.

    python -m benchmarks.ingest [--tasks 40000] [--rounds 50] [--many 1000000]

First, on one core and a database file of its own: lines of an access log (a line when a request begins, one when it ends,
half of the tasks in a rollout) through the shipped reader, and reports through the shipped service, one a call and a hundred
a call; beside them a bare `executemany` of the same rows into the same tables. Then a real instance with so many tasks in
its database, and how long `turnout status` takes. Last, callers of a real instance while, so many times at random moments,
the server or Envoy is killed: every task that was answered has to be recorded once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import signal
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from tests.contract.store_support import ONE, add_release, open_empty
from tests.e2e.callers import Caller
from tests.e2e.workshop import deploy, push_tiny
from tests.live import LiveInstance, live_instance, wait_until
from tests.unit.domain.values import AGENT, RING, make_deployment

from benchmarks.report import Figure, judge, on_this_machine, show_table
from turnout.controller.ingest import Ingest
from turnout.db.store import SqlStore
from turnout.domain.models import Deployment
from turnout.domain.outcomes import Outcome, Source
from turnout.line_log import find_files
from turnout.ports import AccessLogChunk
from turnout.redaction import Redactor
from turnout.traffic.access_log import parse_access_line

ROLLOUT = "dep_1"
BATCH = 5_000  # lines, as the reader takes them
TASKS_LIMIT, REPORTS_LIMIT, STATUS_LIMIT = 2_000.0, 1_000.0, 1.0
TINY = "tiny"


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="tasks and reports into the database")
    parser.add_argument("--tasks", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--many", type=int, default=1_000_000)
    options = parser.parse_args()
    with on_this_machine(), tempfile.TemporaryDirectory(prefix="ingest-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with one_core():
            rates = measure_rates(folder, options.tasks)
        status = measure_status(folder / "many", options.many)
        witness = kill_often(folder / "killed", options.rounds)
    show_rates(rates)
    print(f"`turnout status` beside {options.many:,} tasks: {sorted(round(value, 2) for value in status)} s")
    print(f"{witness.kills} kills of server or Envoy; {witness.answered:,} tasks answered, {witness.refused:,} not;")
    print(
        f"{witness.open} answered tasks are recorded as begun only: Envoy was killed before it had written how they ended\n"
    )
    return judge(figures(rates, statistics.median(status), witness))


# --- how fast --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rate:
    """So many things in so many seconds, and what a bare `executemany` of the same rows needs for them."""

    name: str
    count: int
    seconds: float
    bare: float

    @property
    def a_second(self) -> float:
        """How many."""
        return self.count / self.seconds

    @property
    def ratio(self) -> str:
        """Of the bare way, how much is reached."""
        return f"{self.bare / self.seconds:.2f}"


class Lines:
    """A log that is in memory already: what is measured is not the disk that it would lie on."""

    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines

    def read(self, cursor: str | None, limit: int = BATCH) -> AccessLogChunk:
        """See `ports.AccessLog`."""
        at = int(cursor or 0)
        part = tuple(self._lines[at : at + limit])
        return AccessLogChunk(part, str(at + len(part)), at + limit >= len(self._lines))

    def rotate(self) -> bool:
        """Never."""
        return False


def measure_rates(folder: Path, tasks: int) -> list[Rate]:
    """Tasks by the access log, reports one by one and in batches."""
    store = make_store(folder / "shipped.db")
    lines = [line for number in range(tasks) for line in access_lines(number)]
    ingest = timed(lambda: Ingest(store, Lines(lines), parse_access_line, Redactor().redact).take_in())
    reports = [
        Outcome(f"{number:032x}", Source.REPORT, time.time(), cost=0.1, reporter="ann") for number in range(tasks)
    ]
    few = reports[: tasks // 10]
    single = timed(lambda: add(store, *([report] for report in few)))
    rest = reports[len(few) :]
    batches = [rest[at : at + 100] for at in range(0, len(rest), 100)]
    batched = timed(lambda: add(store, *batches))
    bare = bare_seconds(folder)
    return [
        Rate("tasks, from the access log", tasks, ingest, bare["tasks"]),
        Rate("reports, one a transaction", len(few), single, bare["outcomes"] * len(few) / tasks),
        Rate("reports, a hundred a transaction", len(rest), batched, bare["outcomes"] * len(rest) / tasks),
    ]


def make_store(path: Path) -> SqlStore:
    """An empty database that knows one release and its rollout."""
    store = SqlStore(open_empty(path))
    add_release(store, ONE)
    deployment: Deployment = make_deployment(ONE, ROLLOUT)
    with store.transaction() as transaction:
        transaction.add_deployment(deployment)
    return store


def access_lines(number: int) -> Iterator[bytes]:
    """What Envoy writes of a request: that it began, and that it ended."""
    line: dict[str, Any] = {
        "type": "UpstreamPoolReady",
        "request": f"{number:032x}",
        "task": f"{number:032x}",
        "agent": AGENT,
        "ring": RING,
        "release": ONE.digest,
        "rollout": ROLLOUT if number % 2 else None,
        "candidate": ONE.digest if number % 2 else None,
        "share": 5_000 if number % 2 else None,
        "pinned": None,
        "start": "2026-05-04T10:00:00.000000Z",
        "duration": None,
        "status": 0,
        "method": "POST",
        "path": "/invocations",
        "bytes_in": 120,
        "bytes_out": 0,
        "flags": "-",
        "outcome": None,
    }
    yield json.dumps(line).encode()
    yield json.dumps({**line, "type": "DownstreamEnd", "duration": 40, "status": 200, "bytes_out": 900}).encode()


def add(store: SqlStore, *batches: list[Outcome]) -> None:
    """As the service does it, a transaction a batch."""
    for batch in batches:
        with store.transaction() as transaction:
            transaction.add_outcomes(batch)


def bare_seconds(folder: Path) -> dict[str, float]:
    """The rows that are there now, once more into an empty copy of the same tables, in batches of the same size."""
    make_store(folder / "bare.db")
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
    source = sqlite3.connect(folder / "shipped.db")
    found = {}
    for table in ("tasks", "outcomes"):
        rows = source.execute(f"SELECT * FROM {table}").fetchall()
        marks = ", ".join("?" * len(rows[0]))

        def insert(table: str = table, rows: list[Any] = rows, marks: str = marks) -> None:
            for at in range(0, len(rows), BATCH // 2):
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows[at : at + BATCH // 2])
                connection.execute("COMMIT")

        found[table] = timed(insert) * (1 if table == "tasks" else 0.5)  # half of the outcomes are the answers' own
    connection.close()
    source.close()
    return found


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process, and what it starts, on one processor."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def show_rates(rates: list[Rate]) -> None:
    """The table of the first part."""
    rows = [
        (
            rate.name,
            f"{rate.count:,}",
            f"{rate.a_second:,.0f}",
            f"{rate.count / rate.bare:,.0f}",
            f"{rate.bare / rate.seconds:.2f}",
        )
        for rate in rates
    ]
    show_table(("on one core", "n", "a second", "bare executemany", "ratio"), rows)


# --- a status beside many tasks --------------------------------------------------------------------------------------


def measure_status(folder: Path, many: int) -> list[float]:
    """Seconds of `turnout status` as a whole command, five times."""
    with live_instance(folder / "state") as instance:
        digest = push_tiny(instance, folder / "agent", agent=TINY)
        deploy(instance, TINY, digest)
        instance.run("down", "--server-only")
        fill(folder / "state" / "turnout.db", digest, many)
        instance.start(timeout=60)
        return [timed(lambda: instance.run("status", TINY)) for _ in range(5)]


def fill(path: Path, digest: str, many: int) -> None:
    """So many tasks of the last week."""
    connection = sqlite3.connect(path)
    names = [row[1] for row in connection.execute("PRAGMA table_info(tasks)")]
    now = time.time()
    given: dict[str, Any] = dict.fromkeys(names)
    given |= {"agent": TINY, "ring": "dev", "release": digest, "duration": 0.1, "status": 200, "method": "GET"}
    given |= {"path": "/", "bytes_in": 0, "bytes_out": 10, "flags": "", "pinned": 0}

    def rows() -> Iterator[list[Any]]:
        for number in range(many):
            row = {**given, "request": f"{number:032x}", "task": f"old-{number}", "at": now - 604_800 * number / many}
            yield [row[name] for name in names]

    connection.executemany(f"INSERT INTO tasks VALUES ({', '.join('?' * len(names))})", rows())
    connection.execute("INSERT INTO task_counts VALUES (?, ?, ?, ?, ?)", (TINY, "dev", digest, many, 0))
    connection.commit()
    connection.close()


# --- killed ----------------------------------------------------------------------------------------------------------


@dataclass
class Witness:
    """What callers know, and what the database says."""

    kills: int = 0
    answered: int = 0
    refused: int = 0
    lost: int = 0  # answered, and not recorded
    doubled: int = 0  # recorded or counted more often than once
    open: int = 0  # answered, and recorded as under way still


@dataclass
class Callers:
    """A few callers that go on asking, each request a task of its own."""

    instance: LiveInstance
    stop: threading.Event = field(default_factory=threading.Event)
    answered: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Until stopped."""
        while not self.stop.is_set():
            try:
                with Caller(self.instance, timeout=5.0) as caller:
                    while not self.stop.is_set():
                        self._ask(caller)
            except OSError:
                time.sleep(0.01)

    def _ask(self, caller: Caller) -> None:
        task = secrets.token_hex(8)
        try:
            answer = caller.ask(f"/{TINY}/dev/", {"x-turnout-task": task})
        except BaseException:
            self.refused.append(task)
            raise
        (self.answered if answer.status == 200 else self.refused).append(task)


def kill_often(folder: Path, rounds: int) -> Witness:
    """Kill, let come back, go on; then compare."""
    chance, witness = random.Random(1), Witness()
    with live_instance(folder / "state") as instance:
        deploy(instance, TINY, push_tiny(instance, folder / "agent", agent=TINY))
        callers = Callers(instance)
        threads = [threading.Thread(target=callers.run, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(rounds):
            time.sleep(chance.uniform(0.2, 1.2))
            if number % 2:
                kill_envoy(instance)
            else:
                instance.kill()
                time.sleep(chance.uniform(0.0, 0.5))
                instance.start()
            witness.kills += 1
            before = len(callers.answered)
            wait_until(lambda before=before: len(callers.answered) > before, 60)  # type: ignore[misc]
        callers.stop.set()
        for thread in threads:
            thread.join(20)
        compare(instance, callers, witness)
    return witness


def kill_envoy(instance: LiveInstance) -> None:
    """kill -9 of the proxy; the server starts another."""
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if any(str(instance.state) in part for part in command) and command[0].endswith("envoy"):
            process.send_signal(signal.SIGKILL)
            return
    raise AssertionError("no Envoy runs")


def compare(instance: LiveInstance, callers: Callers, witness: Witness) -> None:
    """Every answered task in the database once, and counted once."""
    wait_until(lambda: read_to(instance.state / "turnout.db") == end_of(instance.state / "envoy" / "access.log"), 120)
    connection = sqlite3.connect(f"file:{instance.state / 'turnout.db'}?mode=ro", uri=True)
    rows = connection.execute("SELECT task, duration IS NULL FROM tasks").fetchall()
    (counted,) = connection.execute("SELECT sum(total) FROM task_counts").fetchone()
    connection.close()
    times: dict[str, int] = {}
    for task, _ in rows:
        times[task] = times.get(task, 0) + 1
    under_way = {task for task, is_open in rows if is_open}
    witness.answered, witness.refused = len(callers.answered), len(callers.refused)
    witness.lost = sum(task not in times for task in callers.answered)
    witness.open = sum(task in under_way for task in callers.answered)
    over = len(rows) - sum(is_open for _, is_open in rows)
    witness.doubled = sum(number > 1 for number in times.values()) + abs(counted - over)


def read_to(database: Path) -> tuple[int, int]:
    """Inode and offset up to which the access log is in the database."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        (cursor,) = connection.execute("SELECT value FROM cursors WHERE name = 'access_log'").fetchone()
    inode, _, offset = str(cursor).partition(":")
    return int(inode), int(offset)


def end_of(log: Path) -> tuple[int, int]:
    """Inode and size of the newest file of the log: one that was just rotated has no successor before the next line."""
    newest = find_files(log)[-1]
    return newest.inode, newest.size


def figures(rates: list[Rate], status: float, witness: Witness) -> list[Figure]:
    """All figures of this page."""
    tasks, _, batched = rates
    return [
        Figure(tasks.name, tasks.a_second, TASKS_LIMIT, "/s", at_least=True),
        Figure(batched.name, batched.a_second, REPORTS_LIMIT, "/s", at_least=True),
        Figure("`turnout status` beside many tasks, median", status, STATUS_LIMIT, "s"),
        Figure(f"answered tasks lost over {witness.kills} kills", witness.lost, 0),
        Figure(f"tasks doubled over {witness.kills} kills", witness.doubled, 0),
    ]


if __name__ == "__main__":
    sys.exit(main())
