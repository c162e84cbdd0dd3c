"""The door to the ledger: no settlement is lost, nothing is held without a caller, the event loop never waits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.contract.ledger_support import RELEASE, FakeClock, budget, by_name
from turnout.domain.budget import Amount, Order, Refusal, Settle, Spender
from turnout.domain.errors import LedgerUnavailable, StorageFull
from turnout.gateway.accounts import NOTHING, Accounts, Pace
from turnout.gateway.ledger import MemoryLedger

SPENDER = Spender("support", "production", RELEASE, "t1")
TASK = "task/support/production/t1/usd"
QUICK = Pace(lease=0.5, heartbeat=0.1, reap=0.05, patience=5.0, retry=0.02)


class TroubledLedger(MemoryLedger):
    """A ledger that can be shut off or made to wait, and tells how it was asked."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock)
        self.fault: Exception | None = None
        self.late = False  # whether it writes before it waits
        self.gate = threading.Event()
        self.gate.set()
        self.asked = threading.Event()
        self.batches: list[int] = []

    def write(self, orders: Sequence[Order]) -> tuple[Refusal | None, ...]:
        self.batches.append(len(orders))
        self._fail()
        answers = super().write(orders) if self.late else ()
        self.asked.set()
        self.gate.wait()
        return answers if self.late else super().write(orders)

    def write_at_once(self, orders: Sequence[Order]) -> tuple[Refusal | None, ...] | None:
        """As if another process were writing all the time: the thread of the accounts has to."""
        return None

    def extend(self, calls: Iterable[str], until: float) -> None:
        self._fail()
        super().extend(calls, until)

    def reap(self) -> int:
        self._fail()
        return super().reap()

    def _fail(self) -> None:
        if self.fault is not None:
            raise self.fault

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Nothing is answered in the block."""
        self.gate.clear()
        try:
            yield
        finally:
            self.gate.set()


def run(
    scenario: Callable[[Accounts, TroubledLedger], Awaitable[None]],
    pace: Pace = QUICK,
    ledger: TroubledLedger | None = None,
) -> TroubledLedger:
    used = ledger or TroubledLedger()

    async def main() -> None:
        async with Accounts(used, pace) as accounts:
            await scenario(accounts, used)

    asyncio.run(main())
    return used


async def eventually(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not check():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def test_a_call_reserves_and_settles() -> None:
    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        assert await accounts.reserve("a", SPENDER, [budget(100)], Amount(70)) is None
        assert by_name(ledger)[TASK] == (0, 70, 100)
        accounts.settle("a", Amount(30))
        accounts.settle("a", Amount(40))
        await accounts.drain()
        assert by_name(ledger)[TASK] == (30, 0, 100)

    run(scenario)


def test_an_order_that_is_at_fault_stops_no_other() -> None:
    class FaultyLedger(TroubledLedger):
        def write(self, orders: Sequence[Order]) -> tuple[Refusal | None, ...]:
            if any(order.call == "bad" for order in orders):
                raise KeyError("a fault of ours")
            return super().write(orders)

    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        with ledger.waiting():
            first = asyncio.ensure_future(accounts.reserve("a", SPENDER, [budget(100)], Amount(10)))
            await asyncio.to_thread(ledger.asked.wait, 5)
            rest = [
                asyncio.ensure_future(accounts.reserve(c, SPENDER, [budget(100)], Amount(10))) for c in ("bad", "b")
            ]
            await asyncio.sleep(0)  # both are queued, and become one batch
        assert await first is None
        with pytest.raises(LedgerUnavailable):
            await rest[0]
        assert await rest[1] is None
        accounts.settle("a", Amount(1))
        await accounts.drain()
        assert by_name(ledger)[TASK] == (1, 10, 100)

    run(scenario, ledger=FaultyLedger())


class SwiftLedger(TroubledLedger):
    """Writes at once what it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.at_once = 0
        self.pause = 0.0

    def write_at_once(self, orders: Sequence[Order]) -> tuple[Refusal | None, ...] | None:
        self._fail()
        self.at_once += 1
        time.sleep(self.pause)
        return MemoryLedger.write(self, orders)


def test_a_reservation_is_written_at_once_while_nothing_is_queued() -> None:
    swift = SwiftLedger()

    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        assert await accounts.reserve("a", SPENDER, [budget(100)], Amount(60)) is None
        assert await accounts.reserve("b", SPENDER, [budget(100)], Amount(60)) is not None
        assert (swift.at_once, ledger.batches) == (2, [])
        with ledger.waiting():
            accounts.settle("a", NOTHING)
            # What was asked for earlier is written first: else a call would be refused for what was given back before.
            later = asyncio.ensure_future(accounts.reserve("c", SPENDER, [budget(100)], Amount(100)))
            await asyncio.sleep(0.01)
            assert not later.done()
        assert await later is None
        assert swift.at_once == 2

    run(scenario, ledger=swift)


def test_a_ledger_that_keeps_the_event_loop_is_asked_by_the_thread_for_a_while() -> None:
    swift = SwiftLedger()
    swift.pause = 0.02

    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        assert await accounts.reserve("a", SPENDER, [budget(100)], Amount(1)) is None
        swift.pause = 0.0
        assert await accounts.reserve("b", SPENDER, [budget(100)], Amount(1)) is None
        assert (swift.at_once, ledger.batches) == (1, [1])
        await asyncio.sleep(0.1)
        assert await accounts.reserve("c", SPENDER, [budget(100)], Amount(1)) is None
        assert swift.at_once == 2

    run(scenario, replace(QUICK, stall=0.01, wary=0.05), swift)


def test_a_fault_of_what_is_written_at_once_is_met_by_the_thread() -> None:
    swift = SwiftLedger()

    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        ledger.fault = StorageFull("the disk is full")
        with pytest.raises(LedgerUnavailable, match="the disk is full"):
            await accounts.reserve("a", SPENDER, [budget(100)], Amount(60))
        ledger.fault = None
        await eventually(lambda: not accounts._queued and not accounts._unsettled)
        assert await accounts.reserve("b", SPENDER, [budget(100)], Amount(100)) is None

    run(scenario, ledger=swift)


def test_a_refused_call_holds_nothing_and_has_nothing_to_settle() -> None:
    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        refusal = await accounts.reserve("a", SPENDER, [budget(100)], Amount(101))
        assert refusal is not None
        accounts.settle("a", Amount(1))
        await accounts.drain()
        assert ledger.batches == [1]
        assert ledger.accounts() == ()

    run(scenario)


def test_a_call_without_a_budget_does_not_ask_the_ledger() -> None:
    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        ledger.fault = LedgerUnavailable("it is away")
        assert await accounts.reserve("a", SPENDER, [], Amount(70)) is None
        assert await accounts.reserve("b", SPENDER, [], Amount(70)) is None
        accounts.settle("a", Amount(1))
        await accounts.drain()
        assert ledger.batches == []

    run(scenario)


def test_what_is_asked_while_the_ledger_writes_becomes_one_batch() -> None:
    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        with ledger.waiting():
            first = asyncio.create_task(accounts.reserve("first", SPENDER, [budget(1_000)], Amount(1)))
            await eventually(ledger.asked.is_set)
            calls = [f"c{number}" for number in range(100)]
            others = [
                asyncio.create_task(accounts.reserve(call, SPENDER, [budget(1_000)], Amount(1))) for call in calls
            ]
            await asyncio.sleep(0)
        assert await asyncio.gather(first, *others) == [None] * 101
        assert ledger.batches == [1, 100]

    run(scenario)


def test_the_event_loop_goes_on_while_the_ledger_waits() -> None:
    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        with ledger.waiting():
            task = asyncio.create_task(accounts.reserve("a", SPENDER, [budget(100)], Amount(1)))
            await eventually(ledger.asked.is_set)
            accounts.settle("a", NOTHING)
            assert not task.done()
        assert await task is None

    run(scenario)


@pytest.mark.parametrize("written", [True, False])
def test_a_caller_that_is_cancelled_while_it_reserves_holds_nothing(written: bool) -> None:
    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        ledger.late = written
        with ledger.waiting():
            task = asyncio.create_task(accounts.reserve("a", SPENDER, [budget(100)], Amount(70)))
            await eventually(ledger.asked.is_set)
            assert bool(ledger.accounts()) == written
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await accounts.drain()
        assert by_name(ledger)[TASK] == (0, 0, 100)

    run(scenario)


def test_a_cancelled_call_settles() -> None:
    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        begun = asyncio.Event()

        async def call() -> None:
            await accounts.reserve("a", SPENDER, [budget(100)], Amount(70))
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                accounts.settle("a", Amount(20))

        task = asyncio.create_task(call())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await accounts.drain()
        assert by_name(ledger)[TASK] == (20, 0, 100)

    run(scenario)


def test_a_ledger_that_does_not_answer_in_time_is_unavailable_and_holds_nothing_later() -> None:
    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        with ledger.waiting(), pytest.raises(LedgerUnavailable, match=r"has not answered for 0\.05 s"):
            await accounts.reserve("a", SPENDER, [budget(100)], Amount(70))
        await accounts.drain()
        assert by_name(ledger)[TASK] == (0, 0, 100)

    run(scenario, Pace(patience=0.05))


@pytest.mark.parametrize("fault", [LedgerUnavailable("it is away"), StorageFull("the disk is full")])
def test_whatever_is_wrong_with_the_ledger_is_told_to_who_reserves(fault: LedgerUnavailable | StorageFull) -> None:
    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        ledger.fault = fault
        with pytest.raises(LedgerUnavailable, match=fault.message):
            await accounts.reserve("a", SPENDER, [budget(100)], Amount(70))

    run(scenario)


def test_a_fault_that_nobody_foresaw_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        ledger.fault = ZeroDivisionError("oh")
        with pytest.raises(LedgerUnavailable):
            await accounts.reserve("a", SPENDER, [budget(100)], Amount(70))
        ledger.fault = None
        assert await accounts.reserve("b", SPENDER, [budget(100)], Amount(70)) is None

    run(scenario)
    assert "ZeroDivisionError: oh" in caplog.text


def test_what_cannot_be_settled_while_the_ledger_is_down_is_settled_later() -> None:
    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        await accounts.reserve("a", SPENDER, [budget(100)], Amount(70))
        ledger.fault = LedgerUnavailable("it is away")
        accounts.settle("a", Amount(30))
        await accounts.drain()
        assert by_name(ledger)[TASK] == (0, 70, 100)
        ledger.fault = None
        await eventually(lambda: by_name(ledger)[TASK] == (30, 0, 100))

    run(scenario)


def test_a_settlement_outlives_an_outage_that_is_longer_than_its_lease() -> None:
    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        await accounts.reserve("a", SPENDER, [budget(100)], Amount(70))
        ledger.fault = LedgerUnavailable("it is away")
        accounts.settle("a", Amount(30))
        until = time.time() + 0.15
        await eventually(lambda: time.time() > until)
        ledger.fault = None
        await eventually(lambda: by_name(ledger)[TASK] == (30, 0, 100))

    run(scenario, Pace(lease=0.1, heartbeat=0.03, reap=0.01, retry=0.02))


def test_of_too_many_settlements_that_wait_the_oldest_are_left_to_the_reaper(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        for call in ("a", "b", "c"):
            await accounts.reserve(call, SPENDER, [budget(100)], Amount(10))
        ledger.fault = LedgerUnavailable("it is away")
        for call in ("a", "b", "c"):
            accounts.settle(call, Amount(1))
        await accounts.drain()
        ledger.fault = None
        await eventually(lambda: by_name(ledger)[TASK] == (12, 0, 100))

    run(scenario, Pace(lease=0.3, heartbeat=0.1, reap=0.02, retry=0.02, unsettled=2))
    assert "1 calls cannot be settled" in caplog.text


def test_a_call_that_takes_longer_than_a_lease_is_kept_alive() -> None:
    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        await accounts.reserve("a", SPENDER, [budget(100)], Amount(70))
        until = time.time() + 0.5
        await eventually(lambda: time.time() > until)
        assert by_name(ledger)[TASK] == (0, 70, 100)
        accounts.settle("a", Amount(5))
        await accounts.drain()
        assert by_name(ledger)[TASK] == (5, 0, 100)

    run(scenario, Pace(lease=0.3, heartbeat=0.05, reap=0.02))


def test_a_call_that_should_be_over_is_not_kept_alive() -> None:
    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        await accounts.reserve("lost", SPENDER, [budget(100)], Amount(70), time.time() + 0.1)
        await eventually(lambda: by_name(ledger)[TASK] == (70, 0, 100))

    run(scenario, Pace(lease=0.2, heartbeat=0.01, reap=0.01))


def test_the_lease_of_a_reservation_that_was_queued_for_long_begins_when_it_is_written() -> None:
    clock = FakeClock(1_000.0)

    async def main() -> None:
        ledger = TroubledLedger(clock)
        async with Accounts(ledger, Pace(lease=10.0), clock) as accounts:
            with ledger.waiting():
                first = asyncio.create_task(accounts.reserve("a", SPENDER, [budget(100)], Amount(1)))
                await eventually(ledger.asked.is_set)
                second = asyncio.create_task(accounts.reserve("b", SPENDER, [budget(100)], Amount(2)))
                await asyncio.sleep(0)
                clock.now += 20.0
            await asyncio.gather(first, second)
            assert ledger.reap() == 1
            assert by_name(ledger)[TASK] == (1, 2, 100)

    asyncio.run(main())


def test_holds_of_a_process_that_died_are_reaped() -> None:
    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        ledger.reserve("dead", SPENDER, [budget(100)], Amount(70), time.time() + 0.05)
        await eventually(lambda: by_name(ledger)[TASK] == (70, 0, 100))

    run(scenario)


def test_closing_writes_what_is_queued() -> None:
    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        for number in range(300):
            await accounts.reserve(f"c{number}", SPENDER, [budget(1_000)], Amount(1))
        with ledger.waiting():
            for number in range(300):
                accounts.settle(f"c{number}", Amount(1))

    assert by_name(run(scenario))[TASK] == (300, 0, 1_000)


def test_closing_tries_once_more_what_could_not_be_settled() -> None:
    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        await accounts.reserve("a", SPENDER, [budget(100)], Amount(70))
        ledger.fault = LedgerUnavailable("it is away")
        accounts.settle("a", Amount(30))
        await accounts.drain()
        ledger.fault = None

    assert by_name(run(scenario, Pace(retry=60.0)))[TASK] == (30, 0, 100)


def test_only_settlements_are_tried_again() -> None:
    orders: list[Order] = []

    class Recording(TroubledLedger):
        def write(self, given: Sequence[Order]) -> tuple[Refusal | None, ...]:
            orders.extend(given)
            return super().write(given)

    async def scenario(accounts: Accounts, ledger: TroubledLedger) -> None:
        ledger.fault = LedgerUnavailable("it is away")
        with pytest.raises(LedgerUnavailable):
            await accounts.reserve("a", SPENDER, [budget(100)], Amount(70))
        ledger.fault = None
        await eventually(lambda: len(orders) >= 2)
        await accounts.drain()

    run(scenario, ledger=Recording())
    assert all(order == Settle("a", NOTHING) for order in orders[1:])
