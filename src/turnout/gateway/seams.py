"""What the model application needs of the rest of a gateway process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from turnout.domain.budget import Amount, Budget, Refusal, Spender
from turnout.domain.calls import Call
from turnout.domain.grants import Grant


class Spending(Protocol):
    """Budgets, as one process asks for them."""

    async def reserve(self, call: str, spender: Spender, budgets: Sequence[Budget], most: Amount) -> Refusal | None:
        """Hold the worst case of a call until it is settled. Raises a `Retryable` error where that cannot be done."""

    def settle(self, call: str, spent: Amount) -> None:
        """End the hold. Returns at once, and never raises."""


class GrantSource(Protocol):
    """What keys allow, as the server published it last."""

    def find(self, key: str) -> Grant | None:
        """The grant of a key, compared in constant time; None for one that is not known, or no longer."""


class CallJournal(Protocol):
    """The durable list of calls."""

    def write(self, call: Call) -> None:
        """Add one. Never waits long, never raises."""
