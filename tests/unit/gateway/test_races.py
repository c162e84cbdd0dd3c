"""Calls that race for a budget, and end in every way: whatever the order, no moment sees more than the limit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from benchmarks.gateway_budget import BUDGETS, CAP, WORST, Streams
from benchmarks.gateway_races import Tally, plan_calls, race

from turnout.domain.budget import Order, Refusal
from turnout.gateway.accounts import Accounts
from turnout.gateway.ledger import MemoryLedger

CALLS = 400


class WatchedLedger(MemoryLedger):
    """Notes the most that was settled and held together after any order."""

    most = 0

    def write(self, orders: Sequence[Order]) -> tuple[Refusal | None, ...]:
        answers: list[Refusal | None] = []
        for order in orders:
            answers.extend(super().write([order]))
            self.most = max([self.most, *(account.settled + account.held for account in self.accounts())])
        return tuple(answers)


@pytest.mark.parametrize("seed", [0, 1])
def test_calls_that_race_never_exceed_the_budget_and_leave_nothing_held(seed: int) -> None:
    ledger = WatchedLedger()

    async def run() -> tuple[Tally, int]:
        async with Accounts(ledger) as accounts:
            streams = Streams(accounts)
            return await race(plan_calls(seed, CALLS), streams.open, patience=5.0), streams.settled

    tally, settled = asyncio.run(run())
    assert CAP - WORST < ledger.most <= CAP
    assert sum(tally.ends.values()) == CALLS
    assert tally.refusals > 0
    assert tally.false_refusals == 0
    assert [account.held for account in ledger.accounts()] == [0] * len(BUDGETS)
    assert {account.settled for account in ledger.accounts()} == {settled}
