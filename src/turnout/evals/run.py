"""Runs a suite beside a release: by workers that are given a case at a time, or by a command that knows its cases itself.

What a suite does wrong is said as a problem, and a suite with a problem is not passed; a run that breaks off is tried again
on a new worker, and counts as not passed when it breaks off for good.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any, Protocol

from turnout.domain.errors import InvalidRequest
from turnout.domain.evals import Run
from turnout.evals.contract import parse_result, quote
from turnout.evals.lines import Lines
from turnout.evals.suite import MOST_CASES, Suite

END_PATIENCE = 10.0  # seconds that a program has to end when it was given its last case
MOST_PROBLEMS = 20


class Bench(Protocol):
    """Where a suite runs: beside a release in its sandbox."""

    def start(self, command: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a program of the suite in the suite's folder, with pipes for input and output. Raises `OSError`."""

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End it with all that it started."""

    def said(self) -> str:
        """The last line that programs of the suite wrote to their standard error; "" for none."""

    def revive(self) -> str | None:
        """See to it that the agent runs. Returns what became of it, for a person, if it had ended.

        Only ever called in the thread that runs the suite: the agent ends with the thread that starts it.
        """

    def cost_of(self, task: str) -> float | None:
        """Dollars that a task spent on models, as the gateway metered it; None where it made no call."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a suite has come. `total` is None where nobody knows."""

    done: int
    total: int | None
    failed: int


@dataclass(slots=True)
class _Course:
    """A suite while it runs. Shared by the threads of its workers."""

    suite: Suite
    bench: Bench
    until: float
    on_progress: Callable[[Progress], None]
    total: int | None
    lock: threading.Lock = field(default_factory=threading.Lock)
    runs: list[Run] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    failed: int = 0
    told: set[tuple[str, int]] = field(default_factory=set)  # (case, repeat) of which there is a result
    wishes: SimpleQueue[Future[str | None] | None] = field(default_factory=SimpleQueue)  # for an agent that runs

    def add(self, run: Run) -> None:
        with self.lock:
            self.runs.append(run)
            self.told.add((run.case, run.repeat))
            self.failed += run.success < 1.0
            self.on_progress(Progress(len(self.runs), self.total, self.failed))

    def complain(self, problem: str) -> None:
        with self.lock:
            if problem not in self.problems and len(self.problems) < MOST_PROBLEMS:
                self.problems.append(problem)

    def revive(self) -> str | None:
        """See `Bench.revive`; from any thread of a worker."""
        wish: Future[str | None] = Future()
        self.wishes.put(wish)
        return wish.result()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it, not judged yet. `expected`: the cases that there had to be."""

    runs: tuple[Run, ...]
    problems: tuple[str, ...]
    expected: tuple[str, ...]


def run_suite(suite: Suite, command: Sequence[str], bench: Bench, on_progress: Callable[[Progress], None]) -> Outcome:
    """Run every case as often as it is to be. Blocking; never raises for what the suite or the agent does."""
    table = suite.table
    total = len(suite.cases) * table.repeat if suite.cases is not None else None
    course = _Course(suite, bench, time.monotonic() + table.limit, on_progress, total)
    if suite.cases is None:
        for repeat in range(table.repeat):
            _run_command(course, command, repeat)
        expected = tuple(dict.fromkeys(run.case for run in course.runs))
    else:
        _run_workers(course, command)
        expected = tuple(suite.cases)
    return Outcome(tuple(course.runs), tuple(course.problems), expected)


# --- a command that knows its cases ----------------------------------------------------------------------------------


def _run_command(course: _Course, command: Sequence[str], repeat: int) -> None:
    table = course.suite.table
    env = {"TURNOUT_EVAL_REPEAT": str(repeat), "TURNOUT_EVAL_PARALLEL": str(table.parallel)}
    with _started(course, command, env) as process:
        if process is None or process.stdout is None:
            return
        lines, began = Lines(process.stdout), time.monotonic()
        try:
            while True:
                line = lines.next(min(time.monotonic() + table.timeout, course.until))
                if line is None:
                    break
                now = time.monotonic()
                _take(course, line, repeat, now - began)
                if len(course.problems) >= MOST_PROBLEMS:
                    return  # it will not get better
                if len(course.runs) >= MOST_CASES * (repeat + 1):
                    course.complain(f"it wrote more than {MOST_CASES:,} results")
                    return
                began = now
        except TimeoutError:
            course.complain(_describe_silence(course, "the command"))
            return
        finally:
            lines.close()
        _check_end(course, process)


def _take(course: _Course, line: bytes, repeat: int, seconds: float) -> None:
    try:
        run = parse_result(line, repeat)
    except InvalidRequest as error:
        course.complain(f"it wrote what is no result: {error.message}")
        return
    if (run.case, repeat) in course.told:
        course.complain(f'it wrote more than one result for "{run.case}" in repeat {repeat + 1}')
        return
    course.add(run if run.duration is not None else replace(run, duration=seconds))


# --- workers that are given a case at a time -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Order:
    case: str
    repeat: int
    tries: int = 1

    @property
    def task(self) -> str:
        """What the calls of this run are known by."""
        return f"eval-{self.repeat + 1}-{self.tries}-{self.case}"[:256]


def _run_workers(course: _Course, command: Sequence[str]) -> None:
    table, cases = course.suite.table, course.suite.cases or {}
    orders = deque(_Order(case, repeat) for repeat in range(table.repeat) for case in cases)
    count = min(table.parallel, len(orders))
    threads = [threading.Thread(target=_work, args=(course, command, orders), daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    _grant_wishes(course, count)
    for thread in threads:
        thread.join()
    late = time.monotonic() >= course.until
    for order in orders:  # nobody came to them
        error = "the suite took too long" if late else "no worker was left to run it"
        course.add(Run(order.case, order.repeat, 0.0, error=error))


def _grant_wishes(course: _Course, workers: int) -> None:
    """Revive the agent when a worker asks for it, until all of them have ended."""
    while workers:
        wish = course.wishes.get()
        if wish is None:
            workers -= 1
            continue
        try:
            wish.set_result(course.bench.revive())
        except Exception as error:  # noqa: BLE001  (the worker says so)
            wish.set_exception(error)


def _work(course: _Course, command: Sequence[str], orders: deque[_Order]) -> None:
    """A worker's thread: whatever it meets, the suite goes on to its end."""
    try:
        _work_off(course, command, orders)
    except Exception as error:  # noqa: BLE001  (it is a problem of the suite)
        course.complain(
            f"a worker could not go on: {type(error).__name__}: {quote(str(error).encode(errors='replace'))}"
        )
    finally:
        course.wishes.put(None)


def _work_off(course: _Course, command: Sequence[str], orders: deque[_Order]) -> None:
    """One worker after the other, for as long as there are orders."""
    while orders and time.monotonic() < course.until:
        with _started(course, command, {}) as process:
            if process is None or not _feed(course, process, orders):
                return


def _feed(course: _Course, process: subprocess.Popen[bytes], orders: deque[_Order]) -> bool:
    """Give a worker its cases. Returns whether another one is to go on, since this one broke off."""
    assert process.stdin is not None  # noqa: S101  # pipes were asked for
    assert process.stdout is not None  # noqa: S101
    lines = Lines(process.stdout)
    try:
        while time.monotonic() < course.until:
            try:
                order = orders.popleft()
            except IndexError:
                break
            run, goes_on = _run_one(course, process, lines, order)
            if run.error and order.tries <= course.suite.table.retries:
                orders.append(replace(order, tries=order.tries + 1))
            else:
                course.add(run)
            if not goes_on:
                return True
        with suppress(OSError):
            process.stdin.close()
        _check_rest(course, lines)
        _check_end(course, process)
        return False
    finally:
        lines.close()


def _run_one(course: _Course, process: subprocess.Popen[bytes], lines: Lines, order: _Order) -> tuple[Run, bool]:
    """(what came of one run, whether the worker can be given another)."""
    assert process.stdin is not None  # noqa: S101
    case: Mapping[str, Any] = (course.suite.cases or {})[order.case]
    content = json.dumps({**case, "repeat": order.repeat, "task": order.task})  # ASCII: half a character has no bytes
    revived = course.revive()
    began, broken = time.monotonic(), Run(order.case, order.repeat, 0.0, tries=order.tries)
    until = min(began + course.suite.table.timeout, course.until)
    run = None
    try:
        lines.give(content.encode() + b"\n", process.stdin, until)
        run = _await_result(course, lines, order, until)
    except TimeoutError:
        taken = time.monotonic() - began  # at least so long
        return replace(broken, error=f"no result within {course.suite.table.timeout:g} s", duration=taken), False
    except OSError:
        pass  # it has ended
    if run is None:
        said = [quote(line.encode()) for line in (course.bench.said(), revived) if line]
        return replace(broken, error="; ".join(["the worker ended", *said])), False
    cost = run.cost if run.cost is not None else course.bench.cost_of(order.task)
    duration = run.duration if run.duration is not None else time.monotonic() - began
    return replace(run, cost=cost, duration=duration, tries=order.tries), True


def _await_result(course: _Course, lines: Lines, order: _Order, until: float) -> Run | None:
    while (line := lines.next(until)) is not None:
        try:
            run = parse_result(line, order.repeat)
        except InvalidRequest as error:
            course.complain(f"it wrote what is no result: {error.message}")
            continue
        if run.case == order.case:
            return run
        course.complain(f'it wrote a result for "{run.case}" when it was given "{order.case}"')
    return None


def _check_rest(course: _Course, lines: Lines) -> None:
    """Nothing may follow the last result."""
    with suppress(TimeoutError):
        while (line := lines.next(time.monotonic() + END_PATIENCE)) is not None:
            course.complain(f"it wrote more than it was asked for: {quote(line)}")


# --- programs --------------------------------------------------------------------------------------------------------


@contextmanager
def _started(
    course: _Course, command: Sequence[str], env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes] | None]:
    try:
        process = course.bench.start(command, env)
    except OSError as error:
        course.complain(f"{command[0]} cannot be started: {error.strerror}")
        yield None
        return
    try:
        yield process
    finally:
        course.bench.end(process)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def _check_end(course: _Course, process: subprocess.Popen[bytes]) -> None:
    try:
        code = process.wait(END_PATIENCE)
    except subprocess.TimeoutExpired:
        course.complain(f"it had not ended {END_PATIENCE:g} s after its last result")
        return
    if code != 0:
        said = course.bench.said()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        course.complain(f"it ended with {how}" + (f": {quote(said.encode())}" if said else ""))


def _describe_silence(course: _Course, who: str) -> str:
    if time.monotonic() >= course.until:
        return f"{who} took longer than the {course.suite.table.limit:g} s of the suite"
    return f"{who} wrote no result for {course.suite.table.timeout:g} s"
