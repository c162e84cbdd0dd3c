"""Budgets of the instance: set, shown, given to the rings that they bind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.controller.stage import ADMIN, BOB, Stage, staged
from tests.unit.domain.values import AGENT, make_release
from turnout.domain.budget import Budget, BudgetScope, Unit, budgets_for
from turnout.domain.errors import Forbidden, InvalidRequest, NotFound
from turnout.domain.models import RingSettings
from turnout.ports import Account
from turnout.services.budgets import MOST_TASKS, BudgetWish, list_budgets, set_budget, unset_budget

DECLARED = Budget(BudgetScope.TASK, 5, Unit.CALLS)
ONE = make_release("v1", rings=(RingSettings("dev", budgets=(DECLARED,)),))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path, (ONE,)) as stage:
        stage.deploy(ONE)
        yield stage


def bound(stage: Stage, agent: str = AGENT, ring: str = "dev") -> tuple[Budget, ...]:
    with stage.store.snapshot() as snapshot:
        return budgets_for(snapshot.budgets(), agent, ring)


def test_a_budget_binds_a_ring_an_agent_or_everything(stage: Stage) -> None:
    set_budget(stage.office, ADMIN, BudgetWish("usd", 86_400.0, 100.0))
    set_budget(stage.office, ADMIN, BudgetWish("tokens", 3_600.0, 5_000, AGENT))
    set_budget(stage.office, ADMIN, BudgetWish("calls", 60.0, 30, AGENT, "dev"))
    everything = Budget(BudgetScope.WORKSPACE, 100_000_000_000, Unit.USD, 86_400.0)
    mine = Budget(BudgetScope.AGENT, 5_000, Unit.TOKENS, 3_600.0)
    assert bound(stage) == (everything, mine, Budget(BudgetScope.RING, 30, Unit.CALLS, 60.0))
    assert bound(stage, ring="production") == (everything, mine)
    assert bound(stage, agent="billing") == (everything,)


def test_a_budget_that_is_set_again_has_the_new_limit_and_one_that_is_unset_is_gone(stage: Stage) -> None:
    woken: list[tuple[str, str]] = []
    office = replace(stage.office, wake=lambda agent, ring: woken.append((agent, ring)))
    set_budget(office, ADMIN, BudgetWish("usd", 60.0, 1.0))
    view = set_budget(office, ADMIN, BudgetWish("usd", 60.0, 2.5))
    assert (view["limit"], view["actor"], view["scope"]) == (2.5, "ann", "workspace")
    assert [budget.limit for budget in bound(stage)] == [2_500_000_000]
    unset_budget(office, ADMIN, BudgetWish("usd", 60.0))
    assert bound(stage) == ()
    with pytest.raises(NotFound):
        unset_budget(office, ADMIN, BudgetWish("usd", 60.0))
    assert woken == [(AGENT, "dev")] * 3, "the rings learn of it"
    with stage.store.snapshot() as snapshot:
        told = [item.event for item in snapshot.events(limit=1_000) if item.event.type.value.startswith("budget.")]
    assert [event.type.value for event in told] == ["budget.set", "budget.set", "budget.unset"]
    assert told[1].data == {"agent": None, "ring": None, "unit": "usd", "window": 60.0, "limit": 2.5}


@pytest.mark.parametrize(
    "wish",
    [
        BudgetWish("euro", 60.0, 1.0),
        BudgetWish("usd", 0.0, 1.0),
        BudgetWish("usd", float("nan"), 1.0),
        BudgetWish("usd", 1e12, 1.0),
        BudgetWish("usd", 60.0, 0.0),
        BudgetWish("usd", 60.0, -1.0),
        BudgetWish("usd", 60.0, float("nan")),
        BudgetWish("usd", 60.0, float("inf")),
        BudgetWish("usd", 60.0, 1e300),
        BudgetWish("usd", 60.0, 1.0, None, "dev"),
    ],
)
def test_a_budget_that_is_none_is_refused(stage: Stage, wish: BudgetWish) -> None:
    with pytest.raises(InvalidRequest):
        set_budget(stage.office, ADMIN, wish)
    assert bound(stage) == ()


def test_a_budget_of_what_is_not_there_is_refused_and_so_is_who_may_not(stage: Stage) -> None:
    with pytest.raises(NotFound):
        set_budget(stage.office, ADMIN, BudgetWish("usd", 60.0, 1.0, "nobody"))
    with pytest.raises(NotFound):
        set_budget(stage.office, ADMIN, BudgetWish("usd", 60.0, 1.0, AGENT, "nowhere"))
    with pytest.raises(Forbidden):
        set_budget(stage.office, BOB, BudgetWish("usd", 60.0, 1.0))


def test_the_list_shows_what_is_declared_and_what_accounts_hold(stage: Stage) -> None:
    accounts = (
        Account("task/support/dev/usd/calls", 3, 1, 5),
        *(Account(f"task/support/dev/t{n}/usd", n, 0, 1_000) for n in range(MOST_TASKS + 5)),
        Account("workspace/usd/60s", 1_500_000_000, 500_000_000, 2_000_000_000),
    )
    office = replace(stage.office, accounts=lambda: accounts)
    set_budget(office, ADMIN, BudgetWish("usd", 60.0, 2.0))
    found = list_budgets(office, BOB)
    assert [item["limit"] for item in found["budgets"]] == [2.0]
    assert [(item["version"], item["scope"], item["limit"], item["window"]) for item in found["declared"]] == [
        ("v1", "task", 5.0, None)
    ]
    whole, fullest = found["accounts"][:2]
    assert whole == {"name": "workspace/usd/60s", "unit": "usd", "settled": 1.5, "held": 0.5, "limit": 2.0}
    assert fullest == {"name": "task/support/dev/usd/calls", "unit": "calls", "settled": 3.0, "held": 1.0, "limit": 5.0}
    assert (len(found["accounts"]), found["more"]) == (1 + MOST_TASKS, 6)
