"""Budgets: what fits, what counts in a window, and that settled and held together never exceed a limit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.unit.domain.values import AGENT, RING, make_digest
from turnout.domain.budget import (
    SOON,
    STEPS,
    Amount,
    Balance,
    Budget,
    BudgetScope,
    Change,
    Hold,
    Order,
    Refusal,
    Reserve,
    Settle,
    Spender,
    Unit,
    account_of,
    decide,
    find_surplus,
    over_at,
    plan_order,
    plan_reap,
    settled,
)

RELEASE = make_digest("v1")
SPENDER = Spender(AGENT, RING, RELEASE, "t1")
HOUR = Budget(BudgetScope.RING, 100, window=3600.0)
TOTAL = Budget(BudgetScope.TASK, 100)
START = 1_800_000_000.0


class Book:
    """Balances and holds that orders are taken into one after the other."""

    def __init__(self) -> None:
        self.balances: dict[str, Balance] = {}
        self.holds: dict[str, Hold] = {}

    def take(self, change: Change) -> Refusal | None:
        self.balances |= change.balances
        for call, hold in change.holds.items():
            if hold is None:
                del self.holds[call]
            else:
                self.holds[call] = hold
        return change.refusal

    def give(self, order: Order, now: float) -> Refusal | None:
        return self.take(plan_order(order, self.balances, self.holds, now))

    def reserve(self, call: str, nanos: int, *budgets: Budget, now: float = START) -> Refusal | None:
        return self.give(Reserve(call, SPENDER, budgets, Amount(nanos), now + 60), now)

    def settle(self, call: str, nanos: int, now: float = START) -> None:
        self.give(Settle(call, Amount(nanos)), now)


# --- accounts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "account"),
    [
        (Budget(BudgetScope.TASK, 1), "task/support/production/t1/usd"),
        (Budget(BudgetScope.DEPLOYMENT, 1), f"deployment/support/production/{RELEASE}/usd"),
        (Budget(BudgetScope.RING, 1, Unit.TOKENS, 60.0), "ring/support/production/tokens/60s"),
        (Budget(BudgetScope.AGENT, 1, Unit.CALLS, 0.5), "agent/support/calls/0.5s"),
        (Budget(BudgetScope.WORKSPACE, 1, Unit.USD, 31_536_001.0), "workspace/usd/31536001s"),
    ],
)
def test_an_account_is_named_after_who_shares_it(budget: Budget, account: str) -> None:
    assert account_of(budget, SPENDER) == account
    assert account_of(replace(budget, limit=2), SPENDER) == account


def test_calls_that_tell_no_task_are_one_task_of_their_release() -> None:
    untold = replace(SPENDER, task=None)
    account = account_of(TOTAL, untold)
    assert account == f"task/support/production//{RELEASE}/usd"
    refusal = decide(untold, [TOTAL], Amount(TOTAL.limit), {account: Balance(held=1)}, START)
    assert refusal is not None
    assert refusal.account == account


def test_of_too_many_tasks_in_a_ring_the_idlest_are_forgotten_and_no_other_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("turnout.domain.budget.MOST_TASKS", 10)
    crowd: dict[str, float | None] = {f"task/support/production/t/{number}/usd": float(number) for number in range(12)}
    others: dict[str, float | None] = {f"task/support/staging/{number}/usd": 0.0 for number in range(10)}
    held: dict[str, float | None] = {"task/support/production/held/usd": None, "workspace/usd/60s": 0.0}
    assert find_surplus(others | held) == []
    assert find_surplus(crowd | others | held) == [f"task/support/production/t/{number}/usd" for number in range(4)]


# --- what is in the way ----------------------------------------------------------------------------------------------


def test_of_several_budgets_the_one_that_is_in_the_way_for_longest_is_told() -> None:
    minute = Budget(BudgetScope.WORKSPACE, 100, window=60.0)
    book = Book()
    book.reserve("a", 100, HOUR, minute)
    book.settle("a", 100)
    refusal = book.reserve("b", 1, minute, HOUR)
    assert refusal is not None
    assert refusal.budget == HOUR
    never = book.reserve("c", 101, minute, HOUR, TOTAL)
    assert never is not None
    assert never.retry_after is None


def test_where_only_calls_under_way_are_in_the_way_it_can_be_tried_again_soon() -> None:
    for budget in (HOUR, TOTAL):
        book = Book()
        book.reserve("a", 100, budget)
        refusal = book.reserve("b", 100, budget)
        assert refusal == Refusal(budget, account_of(budget, SPENDER) or "", 100, 0, 100, SOON)


@given(
    limit=st.integers(0, 1_000),
    spent=st.lists(st.tuples(st.integers(0, 500), st.floats(0, 4_000)), max_size=8),
    wanted=st.integers(1, 1_000),
)
def test_when_the_time_to_try_again_has_come_a_call_fits(
    limit: int, spent: list[tuple[int, float]], wanted: int
) -> None:
    budget = replace(HOUR, limit=limit)
    book = Book()
    now = START
    for number, (amount, pause) in enumerate(spent):
        now += pause
        book.reserve(f"c{number}", amount, budget, now=now)
        book.settle(f"c{number}", amount, now)
    refusal = book.reserve("last", wanted, budget, now=now)
    if refusal is None:
        return
    if refusal.retry_after is None:
        assert wanted > limit
        return
    assert 0 < refusal.retry_after <= 3600 * (1 + 1 / STEPS)
    assert book.reserve("again", wanted, budget, now=now + refusal.retry_after + 1e-3) is None


@given(limit=st.integers(0, 1 << 90), wanted=st.integers(-(1 << 90), 1 << 90))
def test_a_call_fits_where_its_worst_case_does(limit: int, wanted: int) -> None:
    budget = replace(TOTAL, limit=limit)
    refusal = Book().reserve("a", wanted, budget)
    assert (refusal is None) == (wanted <= max(0, limit))


# --- windows ---------------------------------------------------------------------------------------------------------


@given(
    window=st.sampled_from([0.5, 1.0, 60.0, 3_600.0, 86_400.0 * 30]),
    offset=st.floats(0, 1),
    age=st.floats(0, 1.2),
)
def test_what_was_settled_counts_for_the_whole_window_and_at_most_a_step_more(
    window: float, offset: float, age: float
) -> None:
    budget = replace(HOUR, window=window)
    book = Book()
    now = START + offset * window
    book.reserve("a", 7, budget, now=now)
    book.settle("a", 7, now)
    (balance,) = book.balances.values()
    then = now + age * window
    tolerance = 1e-6 * max(1.0, window)  # of times as large as this
    if then - now < window - tolerance:
        assert settled(balance, then) == 7
    elif then - now > window * (1 + 1 / STEPS) + tolerance:
        assert settled(balance, then) == 0


def test_a_window_keeps_no_more_steps_than_it_has() -> None:
    book = Book()
    for number in range(1_000):
        now = START + number * 7.0
        book.reserve(f"c{number}", 1, replace(HOUR, limit=10_000), now=now)
        book.settle(f"c{number}", 1, now)
    (balance,) = book.balances.values()
    assert len(balance.steps) <= STEPS + 1
    assert settled(balance, START + 999 * 7.0) >= 3_600 // 7


def test_without_a_window_nothing_is_ever_free_again() -> None:
    book = Book()
    book.reserve("a", 100, TOTAL)
    book.settle("a", 60)
    assert settled(book.balances["task/support/production/t1/usd"], START + 1e9) == 60


def test_an_account_is_over_when_it_counts_nothing_and_never_while_something_is_held() -> None:
    book = Book()
    release = replace(TOTAL, scope=BudgetScope.DEPLOYMENT)
    book.reserve("a", 10, TOTAL, HOUR, release)
    assert all(over_at(name, balance) is None for name, balance in book.balances.items())
    book.settle("a", 10)
    for name, balance in book.balances.items():
        over = over_at(name, balance)
        if name.startswith("deployment"):
            assert over is None
        elif name.startswith("ring"):
            assert over is not None
            assert settled(balance, over) == 0
            assert settled(balance, over - 0.01) == 10


# --- any sequence ----------------------------------------------------------------------------------------------------


class Day(RuleBasedStateMachine):
    """Calls come, end, are forgotten, while limits change and time passes.

    `spent` is what was really taken, as late as it can have been: when its call was settled or reaped.
    """

    @initialize(limit=st.integers(0, 150), share=st.integers(1, 4))
    def begin(self, limit: int, share: int) -> None:
        self.book = Book()
        self.now = START
        self.number = 0
        self.held: dict[str, int] = {}
        self.spent: list[tuple[float, int]] = []
        self.hour = replace(HOUR, limit=limit // share)
        self.total = replace(TOTAL, limit=limit)
        self.highest = self.hour.limit  # that the ring's limit ever was

    @rule(nanos=st.integers(-3, 120), both=st.booleans())
    def call(self, nanos: int, both: bool) -> None:
        self.number += 1
        budgets = (self.hour, self.total) if both else (self.hour,)
        before = dict(self.book.balances)
        refusal = self.book.reserve(f"c{self.number}", nanos, *budgets, now=self.now)
        if refusal is None:
            self.held[f"c{self.number}"] = max(0, nanos)
        else:
            assert refusal.settled + refusal.held + refusal.wanted > refusal.budget.limit
            assert {name: b.held for name, b in self.book.balances.items()} == {n: b.held for n, b in before.items()}

    @rule(data=st.data(), share=st.floats(-0.5, 3.0))
    def end(self, data: st.DataObject, share: float) -> None:
        if not self.held:
            return
        call = data.draw(st.sampled_from(sorted(self.held)))
        took = round(self.held[call] * share)
        self.book.settle(call, took, self.now)
        self.book.settle(call, took, self.now)
        self.spent.append((self.now, min(max(0, took), self.held.pop(call))))

    @rule()
    def reap(self) -> None:
        change = plan_reap(self.book.balances, self.book.holds, self.now)
        self.book.take(change)
        self.spent += [(self.now, self.held.pop(call)) for call in change.holds]

    @rule(seconds=st.floats(0, 2_000))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(limit=st.integers(0, 150))
    def change_limit(self, limit: int) -> None:
        self.hour = replace(self.hour, limit=limit)
        self.highest = max(self.highest, limit)

    @invariant()
    def settled_and_held_do_not_exceed_a_limit(self) -> None:
        for name, balance in self.book.balances.items():
            limit = self.highest if name.startswith("ring") else self.total.limit
            assert settled(balance, self.now) + balance.held <= limit

    @invariant()
    def what_is_held_is_the_sum_of_the_holds(self) -> None:
        for name, balance in self.book.balances.items():
            charges = (charge for hold in self.book.holds.values() for charge in hold.charges)
            assert balance.held == sum(charge.amount for charge in charges if charge.account == name)

    @invariant()
    def in_no_hour_more_than_the_limit_was_spent(self) -> None:
        for begin, _ in self.spent:
            assert sum(amount for at, amount in self.spent if begin <= at <= begin + 3_600) <= self.highest


TestDay = Day.TestCase
