"""The part of the ledger that a transaction is about: what it loaded, and what it changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from turnout.db.ledger_tables import balance_to_row, hold_to_row
from turnout.domain.budget import Balance, Change, Hold, Order, Refusal, Reserve


class Book:
    """Accounts and holds by name, and which of them changed."""

    def __init__(self) -> None:
        self.balances: dict[str, Balance] = {}
        self.holds: dict[str, Hold] = {}
        self._changed: set[str] = set()  # balances
        self._added: set[str] = set()  # holds
        self._ended: set[str] = set()  # holds that are stored

    def rows(self) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """What is to be written: holds that ended, balances, new holds; values in the order of the columns."""
        return (
            [(call,) for call in self._ended],
            [balance_to_row(name, self.balances[name]) for name in sorted(self._changed)],
            [hold_to_row(call, self.holds[call]) for call in self._added],
        )

    def take(self, change: Change) -> Refusal | None:
        """Apply a change, and remember it."""
        self.balances.update(change.balances)
        self._changed.update(change.balances)
        for call, hold in change.holds.items():
            if hold is not None:
                self.holds[call] = hold
                self._added.add(call)
                continue
            del self.holds[call]
            if call in self._added:  # reserved and settled in one transaction
                self._added.discard(call)
            else:
                self._ended.add(call)
        return change.refusal

    def written(self) -> None:
        """What changed is stored."""
        self._changed.clear()
        self._added.clear()
        self._ended.clear()

    def named(self, orders: Sequence[Order]) -> set[str]:
        """The accounts that orders are about, whose holds are in the book."""
        names: set[str] = set()
        for order in orders:
            hold = self.holds.get(order.call)
            if hold is not None:
                names.update(charge.account for charge in hold.charges)
            elif isinstance(order, Reserve):
                names.update(order.by_account)
        return names
