"""The door of the gateway to the ledger: asks without blocking the event loop, and lets no settlement be lost.

A reservation that finds nothing under way is written at once, where the ledger can do that without waiting: two threads that
wake each other take longer than it does. All else is written by one thread: it takes what callers queued meanwhile as one
batch, keeps the holds of calls under way alive, and reaps those of processes that died. A settlement only joins the queue,
so that no cancelled task can stop it; while the ledger is down it waits to be tried again, and what cannot be settled in the
end is reaped in full.
"""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from turnout.domain.budget import Amount, Budget, Order, Refusal, Reserve, Settle, Spender
from turnout.domain.errors import LedgerUnavailable, TurnoutError
from turnout.ports import Ledger

NOTHING = Amount(0, 0, 0)
_LARGEST_BATCH = 256
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how long, in seconds."""

    lease: float = 60.0  # that a hold counts for after its process was last heard of
    heartbeat: float = 15.0  # between extensions of all holds
    reap: float = 5.0  # between looks for holds that nobody settled
    patience: float = 5.0  # that a call waits for the ledger
    retry: float = 0.5  # between tries to settle while the ledger is down
    stall: float = 0.02  # that a reservation may keep the event loop; once it took longer, the thread makes them ...
    wary: float = 1.0  # ... for so long
    unsettled: int = 10_000  # settlements that wait at the most; of more the oldest are left to the reaper


@dataclass(frozen=True, slots=True)
class _Asked:
    order: Order
    answer: asyncio.Future[Refusal | None] | None = None  # of a reservation


_Queued = _Asked | threading.Event | None  # an event is set when all before it is written; None ends the thread


class Accounts:
    """Holds and settles what calls cost. Used from one event loop; closed from it too."""

    def __init__(self, ledger: Ledger, pace: Pace | None = None, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._pace = pace or Pace()
        self._clock = clock
        self._queue: queue.SimpleQueue[_Queued] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open: dict[str, float] = {}  # calls that may hold something, and when they are over at the latest
        self._queued = 0  # orders that the thread has not written, nor put off
        self._at_once_from = 0.0  # when reservations may be written at once again
        self._unsettled: deque[_Asked] = deque()  # of the thread alone, as what follows
        self._next_try = self._next_beat = self._next_reap = 0.0
        self._down = False
        self._thread = threading.Thread(target=self._write_all, name="ledger", daemon=True)
        self._thread.start()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def reserve(
        self, call: str, spender: Spender, budgets: Sequence[Budget], most: Amount, until: float = math.inf
    ) -> Refusal | None:
        """Hold the worst case of a call, or say which budget is in the way. Then `settle` has to be called, always.

        `until`: when the call is over at the latest (seconds since the epoch); its hold is kept alive until then. A call
        that no budget applies to costs nothing here. Raises `LedgerUnavailable`, also for a full disk and when no answer
        comes in time; nothing is held then, nor when the task is cancelled.
        """
        if not budgets:
            return None
        budgets = tuple(budgets)
        with self._lock:
            self._open[call] = until
        answers = self._write_at_once(Reserve(call, spender, budgets, most, self._lease(until)))
        if answers is None:
            refusal = await self._write_in_turn(Reserve(call, spender, budgets, most, until))
        else:
            refusal = answers[0]
        if refusal is not None:
            self._forget(call)
        return refusal

    def settle(self, call: str, spent: Amount) -> None:
        """End the hold of a call with what it took; `NOTHING` gives all back. Joins the queue: never waits, never raises."""
        self._end(call, spent)

    async def drain(self) -> None:
        """Wait until all that was asked so far was written, or tried and left for later."""
        written = threading.Event()
        self._queue.put(written)
        await asyncio.to_thread(written.wait)

    async def close(self) -> None:
        """Write what is queued, try once more what could not be settled, and end. Open calls are left to the reaper."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _write_at_once(self, order: Reserve) -> tuple[Refusal | None, ...] | None:
        """None where the order has to take its turn: behind what was asked before, or for a ledger that takes its time."""
        began = time.monotonic()
        if self._queued or self._unsettled or began < self._at_once_from:
            return None
        try:
            return self._ledger.write_at_once((order,))
        except Exception:  # noqa: BLE001  the thread meets it too, and knows what to do
            return None
        finally:
            if time.monotonic() - began > self._pace.stall:
                self._at_once_from = began + self._pace.wary

    async def _write_in_turn(self, order: Reserve) -> Refusal | None:
        """Raises `LedgerUnavailable`; whatever is held is given back then."""
        call = order.call
        answer: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()
        self._put(_Asked(order, answer))
        try:
            async with asyncio.timeout(self._pace.patience):
                return await answer
        except TimeoutError:
            self._end(call, NOTHING)
            raise LedgerUnavailable(
                f"the ledger has not answered for {self._pace.patience:g} s", hint="try again in a moment"
            ) from None
        except BaseException:  # it may be written or not: whatever is held is given back
            self._end(call, NOTHING)
            raise

    def _end(self, call: str, spent: Amount) -> None:
        if self._forget(call):
            self._put(_Asked(Settle(call, spent)))

    def _put(self, asked: _Asked) -> None:
        with self._lock:
            self._queued += 1
        self._queue.put(asked)

    def _forget(self, call: str) -> bool:
        """Whether the call was open."""
        with self._lock:
            return self._open.pop(call, None) is not None

    # --- in the thread -----------------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        now = time.monotonic()
        self._next_beat, self._next_reap = now + self._pace.heartbeat, now
        while True:
            asked, written, ended = self._take()
            if asked or (self._unsettled and (ended or written or time.monotonic() >= self._next_try)):
                self._write(asked)
                with self._lock:
                    self._queued -= len(asked)
            for event in written:
                event.set()
            if ended:
                return
            self._keep_house()

    def _take(self) -> tuple[list[_Asked], list[threading.Event], bool]:
        """What was queued, as soon as there is something, or nothing when something else is to be done."""
        asked: list[_Asked] = []
        written: list[threading.Event] = []
        with suppress(queue.Empty):
            found = self._queue.get(timeout=self._idle())
            while True:
                match found:
                    case None:
                        return asked, written, True
                    case _Asked():
                        asked.append(found)
                    case event:
                        written.append(event)
                if len(asked) >= _LARGEST_BATCH or written:
                    break
                found = self._queue.get_nowait()
        return asked, written, False

    def _idle(self) -> float:
        chore = self._next_try if self._unsettled else self._next_reap
        return max(0.0, min(chore, self._next_beat) - time.monotonic())

    def _write(self, asked: Sequence[_Asked]) -> None:
        """What waits to be settled goes first: it is older."""
        batch = [*self._unsettled, *asked]
        self._unsettled.clear()
        for start in range(0, len(batch), _LARGEST_BATCH):
            part = batch[start : start + _LARGEST_BATCH]
            try:
                answers = self._ledger.write([self._dated(one.order) for one in part])
            except TurnoutError as error:
                self._fail(batch[start:], _known(error))
                return
            except Exception:  # noqa: BLE001  one order that is at fault must not stop all others
                self._write_apart(part)
            else:
                _answer(part, answers)
        self._recovered()

    def _write_apart(self, asked: Sequence[_Asked]) -> None:
        """One by one. What fails by a fault of ours is given up: a hold that nobody can end is left to the reaper."""
        for one in asked:
            try:
                answers = self._ledger.write([self._dated(one.order)])
            except TurnoutError as error:
                self._fail([one], _known(error))
            except Exception as error:  # noqa: BLE001  the only thread that settles must not end, whatever happens
                _answer([one], [_known(error)])
            else:
                _answer([one], answers)

    def _dated(self, order: Order) -> Order:
        """A lease begins when it is written: however long a reservation was queued, it is not reaped at once."""
        if not isinstance(order, Reserve):
            return order
        return Reserve(order.call, order.spender, order.budgets, order.most, self._lease(order.until))

    def _lease(self, until: float) -> float:
        return min(until, self._clock() + self._pace.lease)

    def _fail(self, asked: Sequence[_Asked], error: LedgerUnavailable) -> None:
        self._unsettled.extend(one for one in asked if one.answer is None)
        lost = len(self._unsettled) - self._pace.unsettled
        for _ in range(lost):
            self._unsettled.popleft()
        if lost > 0:
            _LOG.error("%d calls cannot be settled: they will count with their worst case", lost)
        self._next_try = time.monotonic() + self._pace.retry
        self._report(error)
        _answer(asked, [error] * len(asked))

    def _keep_house(self) -> None:
        now = time.monotonic()
        try:
            if now >= self._next_beat:
                self._next_beat = now + self._pace.heartbeat
                if calls := self._alive():
                    self._ledger.extend(calls, self._clock() + self._pace.lease)
            if now >= self._next_reap and not self._unsettled:  # which would be reaped in full after a long while
                self._next_reap = now + self._pace.reap
                self._ledger.reap()
        except Exception as error:  # noqa: BLE001  as above
            self._next_beat = min(self._next_beat, now + self._pace.retry)
            self._report(_known(error))

    def _alive(self) -> list[str]:
        now = self._clock()
        with self._lock:
            under_way = [call for call, until in self._open.items() if now < until]
        return [*under_way, *(one.order.call for one in self._unsettled)]

    def _report(self, error: LedgerUnavailable) -> None:
        if not self._down:
            _LOG.warning("%s", error.message)
        self._down = True

    def _recovered(self) -> None:
        if self._down:
            _LOG.warning("the ledger can be used again")
        self._down = False


def _known(error: Exception) -> LedgerUnavailable:
    if isinstance(error, LedgerUnavailable):
        return error
    if isinstance(error, TurnoutError):
        return LedgerUnavailable(error.message, hint=error.hint)
    _LOG.error("the ledger failed", exc_info=error)
    return LedgerUnavailable("the ledger failed", hint="its fault is in the log of the gateway")


def _answer(asked: Sequence[_Asked], answers: Sequence[Refusal | LedgerUnavailable | None]) -> None:
    """Wake the callers, once for all of a batch."""
    waiting = [(one.answer, answer) for one, answer in zip(asked, answers, strict=True) if one.answer is not None]
    if not waiting:
        return

    def wake() -> None:
        for future, answer in waiting:
            if future.done():  # the caller was cancelled, and has given back what it may hold
                continue
            if isinstance(answer, LedgerUnavailable):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    with suppress(RuntimeError):  # the loop is closed: nobody waits
        waiting[0][0].get_loop().call_soon_threadsafe(wake)
