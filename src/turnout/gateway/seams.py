"""What the model and tool applications need of the rest of a gateway process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from turnout.domain.budget import Amount, Budget, Refusal, Spender
from turnout.domain.calls import Call


class Spending(Protocol):
    """Budgets, as one process asks for them."""

    async def reserve(
        self, call: str, spender: Spender, budgets: Sequence[Budget], most: Amount, until: float
    ) -> Refusal | None:
        """Hold the worst case of a call until it is settled. Raises `LedgerUnavailable`."""

    async def settle(self, call: str, spent: Amount) -> None:
        """End the hold. Raises `LedgerUnavailable`; the hold then counts in full until it is reaped."""


class CallJournal(Protocol):
    """The durable list of calls."""

    def write(self, call: Call) -> None:
        """Add one. Never waits long, never raises."""
