"""What every ledger must do: in memory, in an SQLite file, in PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.ledger_support import RELEASE, FakeClock, budget, by_name, hold
from turnout.db.ledger import open_ledger
from turnout.domain.budget import (
    IDLE_TASK,
    SOON,
    Amount,
    Budget,
    BudgetScope,
    Order,
    Refusal,
    Reserve,
    Settle,
    Spender,
    Unit,
)
from turnout.gateway.ledger import MemoryLedger
from turnout.ports import Ledger

START = 1_800_000_000.0
SPENDER = Spender("support", "production", RELEASE, "t1")
TASK = "task/support/production/t1/usd"
RING_HOUR = "ring/support/production/usd/3600s"
NOTHING = Amount(0, 0, 0)


@dataclass(frozen=True)
class World:
    """Two openings of one ledger, as two processes have them; in memory they are the same."""

    ledger: Ledger
    other: Ledger
    clock: FakeClock

    def reserve(
        self, call: str, nanos: int, *budgets: Budget, spender: Spender = SPENDER, lease: float = 60.0
    ) -> Refusal | None:
        return self.ledger.reserve(call, spender, budgets, Amount(nanos, nanos, 1), self.clock() + lease)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    clock = FakeClock(START)
    if request.param == "memory":
        ledger = MemoryLedger(clock)
        yield World(ledger, ledger, clock)
        return
    make_url: Callable[[], str] = lambda: f"sqlite:///{tmp_path / 'ledger.db'}"  # noqa: E731
    if request.param == "postgresql":
        make_url = request.getfixturevalue("postgres")
    url = make_url()
    one, two = open_ledger(url, clock), open_ledger(url, clock)
    yield World(one, two, clock)
    one.close()
    two.close()


# --- reserve and settle ----------------------------------------------------------------------------------------------


def test_a_call_holds_its_worst_case_and_settles_what_it_took(world: World) -> None:
    assert world.reserve("a", 70, budget(100)) is None
    assert by_name(world.ledger)[TASK] == (0, 70, 100)
    world.ledger.settle("a", Amount(nanos=30))
    assert by_name(world.other)[TASK] == (30, 0, 100)


def test_a_call_that_does_not_fit_is_told_which_budget_is_in_the_way(world: World) -> None:
    world.reserve("a", 60, budget(100))
    world.ledger.settle("a", Amount(nanos=50))
    world.reserve("b", 30, budget(100))
    refusal = world.other.reserve("c", SPENDER, [budget(100)], Amount(nanos=21), world.clock() + 60)
    assert refusal == Refusal(budget(100), TASK, wanted=21, settled=50, held=30, retry_after=SOON)
    assert world.reserve("d", 20, budget(100)) is None


def test_what_can_never_fit_is_not_to_be_tried_again(world: World) -> None:
    too_much = world.reserve("a", 101, budget(100))
    assert too_much is not None
    assert too_much.retry_after is None
    world.reserve("b", 60, budget(100))
    world.ledger.settle("b", Amount(nanos=60))
    spent = world.reserve("c", 60, budget(100))
    assert spent is not None
    assert spent.retry_after is None


def test_a_call_holds_on_all_its_accounts_or_on_none(world: World) -> None:
    ring = budget(10, BudgetScope.RING, window=3600.0)
    refusal = world.reserve("a", 50, budget(100), ring)
    assert refusal is not None
    assert refusal.budget == ring
    assert all(held == 0 for _, held, _ in by_name(world.ledger).values())
    assert world.reserve("b", 10, budget(100), ring) is None
    assert {name: held for name, (_, held, _) in by_name(world.ledger).items()} == {RING_HOUR: 10, TASK: 10}


def test_each_unit_has_an_account_of_its_own(world: World) -> None:
    budgets = [budget(100), budget(50, unit=Unit.TOKENS), budget(2, unit=Unit.CALLS)]
    assert world.ledger.reserve("a", SPENDER, budgets, Amount(90, 40), START + 60) is None
    world.ledger.settle("a", Amount(10, 20))
    assert {name.rpartition("/")[2]: settled for name, (settled, _, _) in by_name(world.ledger).items()} == {
        "usd": 10,
        "tokens": 20,
        "calls": 1,
    }


def test_two_budgets_of_one_account_hold_once_and_the_lower_limit_counts(world: World) -> None:
    assert world.reserve("a", 40, budget(100), budget(50)) is None
    assert by_name(world.ledger)[TASK] == (0, 40, 50)
    assert world.reserve("b", 20, budget(50), budget(100)) is not None


def test_a_call_without_a_budget_leaves_nothing(world: World) -> None:
    assert world.reserve("a", 1 << 80) is None
    world.ledger.settle("a", Amount(1))
    assert world.ledger.accounts() == ()


def test_calls_that_tell_no_task_share_an_account_of_their_release(world: World) -> None:
    untold = Spender("support", "production", RELEASE)
    assert world.reserve("a", 60, budget(100), spender=untold) is None
    assert world.other.reserve("b", untold, [budget(100)], Amount(60), START + 60) is not None
    assert world.reserve("c", 60, budget(100)) is None
    assert by_name(world.ledger)[f"task/support/production//{RELEASE}/usd"] == (0, 60, 100)


def test_tasks_that_an_agent_invents_do_not_pile_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnout.domain.budget.MOST_TASKS", 20)
    ring = budget(1_000, BudgetScope.RING)
    for number in range(25):
        world.clock.now += 1.0
        spender = Spender("support", "production", RELEASE, f"t{number}")
        assert world.reserve(f"c{number}", 1, budget(100), ring, spender=spender) is None
        if number != 3:
            world.ledger.settle(f"c{number}", Amount(nanos=1))
    world.ledger.reap()
    names = by_name(world.ledger)
    kept = ["t3", *(f"t{number}" for number in range(8, 25))]  # that of a call under way, and those used last
    assert names.keys() == {"ring/support/production/usd", *(f"task/support/production/{task}/usd" for task in kept)}


def test_settling_twice_counts_once(world: World) -> None:
    world.reserve("a", 70, budget(100))
    world.ledger.settle("a", Amount(nanos=30))
    world.other.settle("a", Amount(nanos=40))
    world.ledger.settle("unknown", Amount(nanos=40))
    assert by_name(world.ledger)[TASK] == (30, 0, 100)


def test_reserving_twice_holds_once(world: World) -> None:
    assert world.reserve("a", 70, budget(100)) is None
    assert world.reserve("a", 70, budget(100)) is None
    assert by_name(world.ledger)[TASK] == (0, 70, 100)


@pytest.mark.parametrize(("spent", "counted"), [(-5, 0), (0, 0), (70, 70), (71, 70), (1 << 200, 70)])
def test_no_more_than_was_held_counts_and_nothing_is_given_back(world: World, spent: int, counted: int) -> None:
    world.reserve("a", 70, budget(100))
    world.ledger.settle("a", Amount(nanos=spent))
    assert by_name(world.ledger)[TASK] == (counted, 0, 100)


def test_amounts_may_be_nothing_or_huge(world: World) -> None:
    huge = 1 << 200
    assert world.reserve("a", huge, budget(huge)) is None
    assert by_name(world.other)[TASK] == (0, huge, huge)
    assert world.reserve("b", 1, budget(huge)) is not None
    assert world.reserve("c", 0, budget(huge)) is None
    assert world.reserve("d", -1, budget(huge)) is None
    world.ledger.settle("a", Amount(nanos=huge))
    assert by_name(world.other)[TASK] == (huge, 0, huge)
    assert world.reserve("e", 1, budget(0), spender=Spender("a", "r", RELEASE, "t2")) is not None


def test_a_call_that_takes_nothing_has_no_account_that_could_be_forgotten_under_it(world: World) -> None:
    daily = budget(100, scope=BudgetScope.RING, window=3_600.0)
    assert world.reserve("a", 0, daily) is None
    assert world.ledger.accounts() == ()
    world.clock.now += 10_000.0
    assert world.ledger.reap() == 0
    world.ledger.settle("a", Amount(nanos=5))
    assert world.reserve("b", 70, daily) is None
    assert [account.held for account in world.ledger.accounts()] == [70]


def test_a_name_of_a_task_can_be_anything_that_is_text(world: World) -> None:
    for number, task in enumerate(["a/b", "'; DROP TABLE ledger_accounts; --", "ü 🦉", "%(x)s", ":x", " ", "x" * 4000]):
        spender = Spender("support", "production", RELEASE, task)
        assert world.reserve(f"c{number}", 10, budget(10), spender=spender) is None
        assert by_name(world.other)[f"task/support/production/{task}/usd"] == (0, 10, 10)


# --- limits and windows ----------------------------------------------------------------------------------------------


def test_a_limit_that_is_lowered_while_calls_are_under_way_counts_from_the_next_call(world: World) -> None:
    world.reserve("a", 80, budget(100))
    refusal = world.reserve("b", 5, budget(50))
    assert refusal is not None
    assert by_name(world.ledger)[TASK] == (0, 80, 50)
    world.ledger.settle("a", Amount(nanos=40))
    assert world.reserve("c", 10, budget(50)) is None
    assert by_name(world.ledger)[TASK] == (40, 10, 50)


def test_a_window_frees_what_left_it_in_whole_steps(world: World) -> None:
    hour = budget(100, BudgetScope.RING, window=3600.0)
    world.reserve("a", 100, hour)
    world.ledger.settle("a", Amount(nanos=90))
    refusal = world.reserve("b", 11, hour)
    assert refusal is not None
    assert refusal.retry_after is not None
    assert 3600.0 <= refusal.retry_after <= 3660.0
    world.clock.now += refusal.retry_after - 0.01
    assert world.reserve("c", 11, hour) is not None
    world.clock.now += 0.02
    assert world.reserve("d", 100, hour) is None
    assert by_name(world.ledger)[RING_HOUR] == (0, 100, 100)


def test_a_clock_that_was_set_back_frees_nothing(world: World) -> None:
    hour = budget(100, BudgetScope.RING, window=3600.0)
    world.reserve("a", 100, hour)
    world.ledger.settle("a", Amount(nanos=60))
    world.clock.now -= 7200.0
    assert world.reserve("b", 41, hour) is not None
    assert world.reserve("c", 40, hour) is None


def test_an_account_is_forgotten_once_it_can_refuse_nothing(world: World) -> None:
    hour = budget(100, BudgetScope.RING, window=3600.0)
    release = budget(100, BudgetScope.DEPLOYMENT)
    world.reserve("a", 10, budget(100), hour, release)
    world.ledger.settle("a", Amount(nanos=10))
    world.clock.now += 3700.0
    world.ledger.reap()
    assert set(by_name(world.ledger)) == {TASK, f"deployment/support/production/{RELEASE}/usd"}
    world.clock.now += IDLE_TASK
    world.reserve("b", 10, budget(100), spender=Spender("support", "production", RELEASE, "t2"), lease=IDLE_TASK)
    world.ledger.reap()
    assert set(by_name(world.ledger)) == {
        "task/support/production/t2/usd",
        f"deployment/support/production/{RELEASE}/usd",
    }


# --- holds that nobody settles ---------------------------------------------------------------------------------------


def test_a_hold_that_nobody_settles_in_time_is_settled_in_full(world: World) -> None:
    world.reserve("a", 70, budget(100), lease=10.0)
    world.reserve("b", 20, budget(100), lease=30.0)
    assert world.other.reap() == 0
    world.clock.now += 10.0
    assert world.other.reap() == 1
    assert by_name(world.ledger)[TASK] == (70, 20, 100)
    assert world.other.reap() == 0


def test_a_hold_that_is_reaped_and_then_settled_counts_once(world: World) -> None:
    world.reserve("a", 70, budget(100), lease=10.0)
    world.clock.now += 11.0
    world.other.reap()
    world.ledger.settle("a", Amount(nanos=30))
    assert by_name(world.ledger)[TASK] == (70, 0, 100)


def test_a_call_under_way_is_extended_and_one_that_ended_is_not_brought_back(world: World) -> None:
    for call in ("a", "b"):
        world.reserve(call, 10, budget(100), lease=10.0)
    world.ledger.settle("b", NOTHING)
    world.ledger.extend(["a", "b", "unknown"], START + 30)
    world.ledger.extend(["a"], START + 20)  # comes late
    world.ledger.extend([], START + 90)
    world.clock.now += 29.0
    assert world.other.reap() == 0
    assert by_name(world.ledger)[TASK] == (0, 10, 100)
    world.clock.now += 1.0
    assert world.other.reap() == 1


def test_many_holds_are_extended_and_reaped_at_once(world: World) -> None:
    calls = [f"c{number}" for number in range(1_100)]
    orders = [Reserve(call, SPENDER, (budget(2_000),), Amount(1), START + 10) for call in calls]
    assert world.ledger.write(orders) == (None,) * len(calls)
    world.ledger.extend(calls[:-1], START + 20)
    world.clock.now += 15.0
    assert world.ledger.reap() == 1
    world.clock.now += 15.0
    assert world.ledger.reap() == 1_099
    assert by_name(world.ledger)[TASK] == (1_100, 0, 2_000)


# --- many orders at once ---------------------------------------------------------------------------------------------


def test_orders_are_answered_one_after_the_other(world: World) -> None:
    def ask(call: str, nanos: int) -> Order:
        return Reserve(call, SPENDER, (budget(100),), Amount(nanos), START + 60)

    answers = world.ledger.write([ask("a", 60), ask("b", 60), Settle("a", Amount(40)), ask("c", 60), ask("a", 1)])
    assert [answer is None for answer in answers] == [True, False, True, True, False]
    assert by_name(world.other)[TASK] == (40, 60, 100)
    assert world.ledger.write(()) == ()


def test_what_is_written_at_once_is_written_as_all_else_or_not_at_all(world: World) -> None:
    order = Reserve("a", SPENDER, (budget(100),), Amount(60), START + 60)
    answers = world.ledger.write_at_once([order])
    assert by_name(world.other).get(TASK) == (None if answers is None else (0, 60, 100))
    world.other.write([order])
    again = world.ledger.write_at_once([order, replace(order, call="b")])
    assert again is None or [answer is None for answer in again] == [True, False]
    assert by_name(world.other)[TASK] == (0, 60, 100)


def test_what_another_process_wrote_is_never_overlooked(world: World) -> None:
    assert world.reserve("a", 60, budget(100)) is None
    world.other.settle("a", Amount(nanos=50))
    assert world.reserve("b", 60, budget(100)) is not None
    assert world.other.reserve("c", SPENDER, [budget(100)], Amount(40), START + 60) is None
    assert world.reserve("c", 40, budget(100)) is None  # asked again
    assert world.reserve("d", 20, budget(100)) is not None
    world.ledger.settle("a", Amount(nanos=60))
    world.clock.now += 120.0
    assert world.other.reap() == 1
    world.ledger.settle("c", NOTHING)
    assert by_name(world.ledger)[TASK] == (90, 0, 100)


def test_threads_and_openings_together_never_go_over_a_limit(world: World) -> None:
    accepted: list[str] = []

    def spend(ledger: Ledger, name: str) -> None:
        for number in range(25):
            if hold(ledger, f"{name}-{number}", SPENDER, 10, budget(150), until=START + 60) is None:
                accepted.append(f"{name}-{number}")

    threads = [
        threading.Thread(target=spend, args=(ledger, str(index)))
        for index, ledger in enumerate([world.ledger, world.other] * 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(accepted) == 15
    assert by_name(world.ledger)[TASK] == (0, 150, 150)


# --- the same answers ------------------------------------------------------------------------------------------------

CALLS = st.sampled_from([f"c{number}" for number in range(6)])
BUDGETS = (
    budget(100),
    budget(60, BudgetScope.RING, window=60.0),
    budget(3, BudgetScope.DEPLOYMENT, unit=Unit.CALLS),
    budget(200, BudgetScope.WORKSPACE, window=3600.0),
)
TIMES = st.floats(START, START + 300)
AMOUNTS = st.builds(Amount, st.integers(-2, 200))
SOME_BUDGETS = st.sets(st.sampled_from(BUDGETS)).map(tuple)


class Extend(NamedTuple):
    calls: set[str]
    until: float


class Write(NamedTuple):
    orders: list[Order]
    by_other: bool  # by another process
    at_once: bool


ORDERS = st.one_of(
    st.builds(Reserve, CALLS, st.just(SPENDER), SOME_BUDGETS, AMOUNTS, TIMES), st.builds(Settle, CALLS, AMOUNTS)
)
STEPS_OF_A_DAY = st.one_of(
    st.builds(Write, st.lists(ORDERS, min_size=1, max_size=3), st.booleans(), st.booleans()),
    st.floats(-5.0, 120.0),  # seconds that pass
    st.just("reap"),
    st.builds(Extend, st.sets(CALLS), TIMES),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(day=st.lists(STEPS_OF_A_DAY, max_size=25))
def test_openings_of_a_file_answer_as_one_ledger_in_memory(
    tmp_path_factory: pytest.TempPathFactory, day: list[object]
) -> None:
    clock = FakeClock(START)
    memory = MemoryLedger(clock)
    url = f"sqlite:///{tmp_path_factory.mktemp('day') / 'ledger.db'}"
    stored, other = open_ledger(url, clock), open_ledger(url, clock)
    for step in day:
        match step:
            case Write(orders, by_other, at_once):
                ledger = other if by_other else stored
                write = ledger.write_at_once if at_once else ledger.write
                assert write(orders) == memory.write(orders)
            case float():
                clock.now += step
            case Extend(calls, until):
                stored.extend(calls, until)
                memory.extend(calls, until)
            case _:
                assert stored.reap() == memory.reap()
        assert stored.accounts() == memory.accounts()
    stored.close()
    other.close()
