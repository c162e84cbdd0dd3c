"""Budgets: what accounts have spent, and the limits that people set for the whole instance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from turnout.domain.budget import NANOS, Budget, BudgetScope, StoredBudget, Unit
from turnout.domain.errors import InvalidRequest, NotFound
from turnout.domain.events import Event, EventType
from turnout.domain.models import RingSettings
from turnout.domain.policy import Verb
from turnout.ports import Account, Snapshot
from turnout.schemas import AccountView, BudgetList, BudgetView, DeclaredBudgetView
from turnout.services.office import Actor, Office, check_agent, check_ring
from turnout.services.views import view_time

LONGEST_WINDOW = 366 * 86_400.0
MOST_TASKS = 50  # whose accounts are shown
LARGEST_LIMIT = 1 << 53  # in nano-dollars, tokens or calls


@dataclass(frozen=True, slots=True)
class BudgetWish:
    """A budget of the instance: of a ring, an agent, or everything. `limit` in dollars, tokens or calls."""

    unit: str
    window: float
    limit: float = 0.0
    agent: str | None = None
    ring: str | None = None


def list_budgets(office: Office, actor: Actor) -> BudgetList:
    """The budgets of the instance, those that the releases in use declare, and what every account holds."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        stored = [_view(item) for item in snapshot.budgets()]
        declared = _view_declared(snapshot)
    shown, more = _choose(office.accounts())
    return {
        "budgets": stored,
        "declared": declared,
        "accounts": [_view_account(item) for item in shown],
        "more": more,
    }


def set_budget(office: Office, actor: Actor, wish: BudgetWish) -> BudgetView:
    """Set a budget of the instance, or its limit anew. Raises `InvalidRequest`, `NotFound`."""
    actor.check(Verb.STEER)
    budget = _build(wish, actor.name, office.clock.now())
    if budget.budget.limit <= 0 or budget.budget.limit > LARGEST_LIMIT:
        raise InvalidRequest(
            f"{wish.limit:g} cannot be the limit of a budget", hint="above 0; a release is stopped by its breakers"
        )
    with office.store.transaction() as transaction:
        _check_place(transaction, wish)
        transaction.set_budget(budget)
        data = {**_describe(budget), "limit": wish.limit}
        transaction.emit(Event(EventType.BUDGET_SET, budget.at, actor.name, wish.agent, wish.ring, None, data))
        rings = [(pointer.agent, pointer.ring) for pointer in transaction.pointers(wish.agent)]
    _wake(office, rings)
    return _view(budget)


def unset_budget(office: Office, actor: Actor, wish: BudgetWish) -> None:
    """Forget a budget of the instance. Raises `NotFound`."""
    actor.check(Verb.STEER)
    budget = _build(wish, actor.name, office.clock.now())
    with office.store.transaction() as transaction:
        if not transaction.unset_budget(budget):
            raise NotFound("there is no such budget", hint="see `turnout budgets list`")
        event = Event(EventType.BUDGET_UNSET, budget.at, actor.name, wish.agent, wish.ring, None, _describe(budget))
        transaction.emit(event)
        rings = [(pointer.agent, pointer.ring) for pointer in transaction.pointers(wish.agent)]
    _wake(office, rings)


def _build(wish: BudgetWish, actor: str, at: float) -> StoredBudget:
    if wish.unit not in Unit.__members__.values():
        raise InvalidRequest(f"there is no unit {wish.unit[:40]!r}", hint=f"units are {', '.join(Unit)}")
    if not 1.0 <= wish.window <= LONGEST_WINDOW:
        raise InvalidRequest(f"a window of {wish.window:g} s is none", hint="from 1 s to 366 days")
    if wish.ring is not None and wish.agent is None:
        raise InvalidRequest("a ring is one of an agent", hint="name the agent too")
    unit = Unit(wish.unit)
    limit = round(wish.limit * (NANOS if unit is Unit.USD else 1)) if abs(wish.limit) < LARGEST_LIMIT else -1
    scope = BudgetScope.RING if wish.ring else BudgetScope.AGENT if wish.agent else BudgetScope.WORKSPACE
    return StoredBudget(Budget(scope, limit, unit, wish.window), wish.agent, wish.ring, actor, at)


def _check_place(snapshot: Snapshot, wish: BudgetWish) -> None:
    if wish.agent is not None and wish.ring is not None:
        check_ring(snapshot, wish.agent, wish.ring)
    elif wish.agent is not None:
        check_agent(snapshot, wish.agent)


def _wake(office: Office, rings: list[tuple[str, str]]) -> None:
    for agent, ring in rings:
        office.wake(agent, ring)


def _describe(budget: StoredBudget) -> dict[str, object]:
    return {
        "agent": budget.agent,
        "ring": budget.ring,
        "unit": budget.budget.unit.value,
        "window": budget.budget.window,
    }


def _view(budget: StoredBudget) -> BudgetView:
    return {
        "scope": budget.budget.scope.value,
        "agent": budget.agent,
        "ring": budget.ring,
        "unit": budget.budget.unit.value,
        "limit": _shown(budget.budget.limit, budget.budget.unit),
        "window": budget.budget.window,
        "actor": budget.actor,
        "at": view_time(budget.at),
    }


def _view_declared(snapshot: Snapshot) -> list[DeclaredBudgetView]:
    found: list[DeclaredBudgetView] = []
    for pointer in snapshot.pointers():
        for digest in (pointer.stable, pointer.candidate):
            release = snapshot.release(digest) if digest is not None else None
            if release is None:
                continue
            settings = release.spec.ring(pointer.ring) or RingSettings(pointer.ring)
            found += [
                {
                    "agent": pointer.agent,
                    "ring": pointer.ring,
                    "digest": release.digest,
                    "version": release.version,
                    "scope": budget.scope.value,
                    "unit": budget.unit.value,
                    "limit": _shown(budget.limit, budget.unit),
                    "window": budget.window,
                }
                for budget in settings.budgets
            ]
    return found


def _choose(accounts: Sequence[Account]) -> tuple[list[Account], int]:
    """All but those of tasks, of which there are many: the fullest of these. And how many are left out."""
    of_tasks = [item for item in accounts if item.name.startswith(f"{BudgetScope.TASK}/")]
    fullest = sorted(of_tasks, key=lambda item: -(item.settled + item.held) / max(item.limit, 1))[:MOST_TASKS]
    return [item for item in accounts if item not in of_tasks] + fullest, len(of_tasks) - len(fullest)


def _view_account(account: Account) -> AccountView:
    unit = _unit_of(account.name)
    return {
        "name": account.name,
        "unit": unit.value,
        "settled": _shown(account.settled, unit),
        "held": _shown(account.held, unit),
        "limit": _shown(account.limit, unit),
    }


def _unit_of(name: str) -> Unit:
    """The last part of an account's name, or the last but one before a window."""
    parts = name.split("/")
    return next((Unit(part) for part in reversed(parts[-2:]) if part in Unit.__members__.values()), Unit.USD)


def _shown(amount: int, unit: Unit) -> float:
    return amount / NANOS if unit is Unit.USD else float(amount)
