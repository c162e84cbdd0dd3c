"""What the tool gateway asks of the rest of the gateway's process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from turnout.domain.budget import Amount, Budget, Refusal, Spender
from turnout.domain.calls import Call
from turnout.domain.grants import Grant


class GrantSource(Protocol):
    """Who may do what."""

    def find(self, key: str) -> Grant | None:
        """The grant of a key; None for one that is not known."""


class Accounts(Protocol):
    """Budgets, without blocking the event loop."""

    async def reserve(
        self, call: str, spender: Spender, budgets: Sequence[Budget], most: Amount, until: float
    ) -> Refusal | None:
        """Hold what a call may take at most, or say which budget is in the way. Raises `LedgerUnavailable`."""

    async def settle(self, call: str, spent: Amount) -> None:
        """End the hold of a call with what it took."""


class Journal(Protocol):
    """Where calls are written down. Never raises."""

    def write(self, call: Call) -> None:
        """Write a call down."""
