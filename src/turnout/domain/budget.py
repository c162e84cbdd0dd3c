"""Budgets: what may be spent by a task, a release, a ring, an agent, the workspace. Pure.

All amounts are whole numbers: nano-dollars (1e-9 USD), tokens, or calls. A call holds its worst case on every account that
it belongs to before it is made, and settles what it took when it is over; settled and held together never exceed a limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a ring's settings hold budgets
    from turnout.domain.models import Digest

NANOS = 1_000_000_000  # in a dollar


class BudgetScope(StrEnum):
    """Who shares a budget."""

    TASK = "task"  # one task at one agent and ring
    DEPLOYMENT = "deployment"  # one release in one ring
    RING = "ring"  # all releases of an agent in one ring
    AGENT = "agent"  # all rings of an agent
    WORKSPACE = "workspace"  # everything that runs here


class Unit(StrEnum):
    """What a budget counts."""

    USD = "usd"  # nano-dollars
    TOKENS = "tokens"  # in and out
    CALLS = "calls"


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `limit` in any `window` seconds; without a window in all, which only a task or a release can end."""

    scope: BudgetScope
    limit: int  # in whole units, of dollars in nano-dollars
    unit: Unit = Unit.USD
    window: float | None = None


@dataclass(frozen=True, slots=True)
class Spender:
    """Who makes a call. `task` is None where the agent does not tell it."""

    agent: str
    ring: str
    release: Digest
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Amount:
    """What a call takes, or may take at most."""

    nanos: int = 0  # nano-dollars
    tokens: int = 0
    calls: int = 1

    def of(self, unit: Unit) -> int:
        """In one unit."""
        return {Unit.USD: self.nanos, Unit.TOKENS: self.tokens, Unit.CALLS: self.calls}[unit]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The budget that a call would exceed."""

    budget: Budget
    account: str
    wanted: int  # in the unit of the budget, as the rest
    settled: int  # in the window
    held: int
    retry_after: float | None = None  # seconds until enough of the window has passed; None: it never will


def account_of(budget: Budget, spender: Spender) -> str | None:
    """The name of the account that a budget keeps of a spender; None for a budget of tasks where the task is unknown.

    Such as `task/support/production/3f2a…/usd`. Budgets that differ in their limit alone share one, so that a limit can be
    changed while calls are made.
    """
    match budget.scope:
        case BudgetScope.TASK:
            if spender.task is None:
                return None
            who: tuple[str, ...] = (spender.agent, spender.ring, spender.task)
        case BudgetScope.DEPLOYMENT:
            who = (spender.agent, spender.ring, spender.release)
        case BudgetScope.RING:
            who = (spender.agent, spender.ring)
        case BudgetScope.AGENT:
            who = (spender.agent,)
        case BudgetScope.WORKSPACE:
            who = ()
    window = () if budget.window is None else (f"{budget.window:g}s",)
    return "/".join((budget.scope, *who, budget.unit, *window))
