"""What the tests of ledgers share: budgets, a clock that is set by hand, and a process that spends until it is killed."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from tests.unit.domain.values import make_digest
from turnout.db.ledger import open_ledger
from turnout.domain.budget import Amount, Budget, BudgetScope, Refusal, Spender, Unit
from turnout.ports import Ledger

RELEASE = make_digest("v1")


@dataclass
class FakeClock:
    """Tells the time that it was set to, in seconds since the epoch."""

    now: float

    def __call__(self) -> float:
        return self.now


def budget(
    limit: int, scope: BudgetScope = BudgetScope.TASK, *, unit: Unit = Unit.USD, window: float | None = None
) -> Budget:
    """A budget of a task in nano-dollars, unless told otherwise."""
    return Budget(scope, limit, unit, window)


def hold(ledger: Ledger, call: str, spender: Spender, nanos: int, *budgets: Budget, until: float) -> Refusal | None:
    """Reserve for a call that takes so much at most."""
    return ledger.reserve(call, spender, budgets, Amount(nanos, nanos, 1), until)


def by_name(ledger: Ledger) -> dict[str, tuple[int, int, int]]:
    """Settled, held and limit of every account."""
    return {account.name: (account.settled, account.held, account.limit) for account in ledger.accounts()}


def spend(url: str, name: str, limit: int, lease: float) -> None:
    """Reserve 10 of a task's budget again and again, settling every second call, until nothing fits; names what it got."""
    ledger = open_ledger(url)
    spender = Spender("support", "production", RELEASE, "shared")
    number = 0
    while hold(ledger, f"{name}-{number}", spender, 10, budget(limit), until=time.time() + lease) is None:
        print(f"{name}-{number}", flush=True)
        if number % 2:
            ledger.settle(f"{name}-{number}", Amount(nanos=5))
        number += 1
    ledger.close()


if __name__ == "__main__":
    spend(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
