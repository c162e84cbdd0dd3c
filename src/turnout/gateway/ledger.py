"""A ledger in memory, for one process: nothing of it outlives that. The shipped fake of ports.Ledger."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence

from turnout.domain.budget import (
    Amount,
    Balance,
    Budget,
    Change,
    Hold,
    Order,
    Refusal,
    Reserve,
    Settle,
    Spender,
    find_surplus,
    over_at,
    plan_order,
    plan_reap,
    settled,
)
from turnout.ports import Account


class MemoryLedger:
    """ports.Ledger of the threads of one process."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._balances: dict[str, Balance] = {}
        self._holds: dict[str, Hold] = {}

    def reserve(
        self, call: str, spender: Spender, budgets: Sequence[Budget], most: Amount, until: float
    ) -> Refusal | None:
        """Hold the worst case of a call, or say which budget is in the way."""
        return self.write((Reserve(call, spender, tuple(budgets), most, until),))[0]

    def settle(self, call: str, spent: Amount) -> None:
        """End the hold of a call."""
        self.write((Settle(call, spent),))

    def write(self, orders: Sequence[Order]) -> tuple[Refusal | None, ...]:
        """Many orders as one."""
        with self._lock:
            return tuple(self._take(plan_order(order, self._balances, self._holds, self._clock())) for order in orders)

    def write_at_once(self, orders: Sequence[Order]) -> tuple[Refusal | None, ...] | None:
        """The same: nothing here takes long."""
        return self.write(orders)

    def extend(self, calls: Iterable[str], until: float) -> None:
        """Let holds count for longer."""
        with self._lock:
            for call in calls:
                if call in self._holds and self._holds[call].until < until:
                    self._holds[call] = Hold(until, self._holds[call].charges)

    def reap(self) -> int:
        """Settle in full what nobody settled in time, and forget what is over."""
        with self._lock:
            now = self._clock()
            change = plan_reap(self._balances, self._holds, now)
            self._take(change)
            ends = {name: over_at(name, balance) for name, balance in self._balances.items()}
            for name, at in ends.items():
                if at is not None and at <= now:
                    del self._balances[name]
            for name in find_surplus({name: over_at(name, balance) for name, balance in self._balances.items()}):
                del self._balances[name]
            return len(change.holds)

    def accounts(self) -> tuple[Account, ...]:
        """Every account, by name."""
        with self._lock:
            now = self._clock()
            return tuple(
                Account(name, settled(balance, now), balance.held, balance.limit)
                for name, balance in sorted(self._balances.items())
            )

    def _take(self, change: Change) -> Refusal | None:
        self._balances.update(change.balances)
        for call, hold in change.holds.items():
            if hold is None:
                del self._holds[call]
            else:
                self._holds[call] = hold
        return change.refusal
