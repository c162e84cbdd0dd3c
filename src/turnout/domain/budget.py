"""Budgets: what may be spent by a task, a release, a ring, an agent, the workspace. Pure.

All amounts are whole numbers: nano-dollars (1e-9 USD), tokens, or calls. A call holds its worst case on every account that
it belongs to before it is made, and settles what it took when it is over; settled and held together never exceed a limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a ring's settings hold budgets
    from turnout.domain.models import Digest

NANOS = 1_000_000_000  # in a dollar
STEPS = 60  # of a window: what was settled counts until the whole step that it lies in has left the window
SOON = 1.0  # seconds after which to try again where nothing but calls under way is in the way
IDLE_TASK = 30 * 86_400.0  # seconds after which a task is over, and its account without a window forgotten
MOST_TASKS = 100_000  # accounts of tasks in a ring; of more the idlest are forgotten: agents may invent any number


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
class StoredBudget:
    """A budget that somebody set for the instance: for one ring of an agent, for an agent, or for all (None)."""

    budget: Budget
    agent: str | None
    ring: str | None
    actor: str
    at: float


@dataclass(frozen=True, slots=True)
class Spender:
    """Who makes a call. `task` is None where the agent does not tell it: all such calls of a release are as one task."""

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
        if unit is Unit.USD:
            return self.nanos
        return self.tokens if unit is Unit.TOKENS else self.calls


@dataclass(frozen=True, slots=True)
class Refusal:
    """The budget that a call would exceed."""

    budget: Budget
    account: str
    wanted: int  # in the unit of the budget, as the rest
    settled: int  # in the window
    held: int
    retry_after: float | None = None  # seconds until enough of the window has passed; None: it never will


@dataclass(frozen=True, slots=True)
class Balance:
    """What is on one account. `steps` are pairs of a step of the window and what was settled in it, the oldest first.

    A step is named by its number since the epoch; without a window there is one, 0, that stays.
    """

    window: float | None = None
    steps: tuple[tuple[int, int], ...] = ()
    held: int = 0
    limit: int = 0  # that was given last
    at: float = 0.0  # of the last change


_EMPTY = Balance()


@dataclass(frozen=True, slots=True)
class Charge:
    """What a call holds on one account, in the unit of the account."""

    account: str
    unit: Unit
    amount: int


@dataclass(frozen=True, slots=True)
class Hold:
    """What a call under way holds on its accounts. It can be reaped when it was not settled until `until`."""

    until: float
    charges: tuple[Charge, ...]


@dataclass(frozen=True, slots=True)
class Reserve:
    """Hold the worst case of a call on all its accounts, or on none."""

    call: str
    spender: Spender
    budgets: tuple[Budget, ...]
    most: Amount
    until: float
    # By account; of several that share one the lowest: they differ in their limit alone.
    by_account: Mapping[str, Budget] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_account", _lowest(self.budgets, self.spender))


@dataclass(frozen=True, slots=True)
class Settle:
    """End the hold of a call with what it took."""

    call: str
    spent: Amount


Order = Reserve | Settle


@dataclass(frozen=True, slots=True)
class Change:
    """What an order comes to: the new balances, and the new holds; None is a hold that ended."""

    balances: Mapping[str, Balance] = field(default_factory=dict)
    holds: Mapping[str, Hold | None] = field(default_factory=dict)
    refusal: Refusal | None = None


def budgets_for(stored: Iterable[StoredBudget], agent: str, ring: str) -> tuple[Budget, ...]:
    """The budgets of the instance that calls of a ring count against."""
    return tuple(item.budget for item in stored if item.agent in (None, agent) and item.ring in (None, ring))


def account_of(budget: Budget, spender: Spender) -> str:
    """The name of the account that a budget keeps of a spender.

    Such as `task/support/production/3f2a…/usd`. Budgets that differ in their limit alone share one, so that a limit can be
    changed while calls are made.
    """
    scope = budget.scope
    if scope is BudgetScope.TASK:
        # An agent that leaves its task out would have no budget of a task at all otherwise.
        task = f"/{spender.release}" if spender.task is None else spender.task
        who = f"/{spender.agent}/{spender.ring}/{task}"
    elif scope is BudgetScope.DEPLOYMENT:
        who = f"/{spender.agent}/{spender.ring}/{spender.release}"
    elif scope is BudgetScope.RING:
        who = f"/{spender.agent}/{spender.ring}"
    else:
        who = f"/{spender.agent}" if scope is BudgetScope.AGENT else ""
    window = "" if budget.window is None else f"/{budget.window:.15g}s"
    return f"{scope}{who}/{budget.unit}{window}"


def plan_order(order: Order, balances: Mapping[str, Balance], holds: Mapping[str, Hold], now: float) -> Change:
    """What an order changes, given at least the accounts and the hold that it names. Each order is idempotent."""
    hold = holds.get(order.call)
    if isinstance(order, Settle):
        return Change() if hold is None else _plan_end(order.call, hold, order.spent, balances, now)
    if hold is not None:
        return Change()  # asked again, because the first answer was lost
    refusal = _find_refusal(order.by_account, order.most, balances, now)
    if refusal is None:
        return _plan_hold(order, balances, now)
    return _plan_refusal(order.by_account, refusal, balances)


def plan_reap(balances: Mapping[str, Balance], holds: Mapping[str, Hold], now: float) -> Change:
    """Settle in full the holds that nobody settled in time: what their calls took is not known."""
    after: dict[str, Balance] = dict(balances)
    ended: dict[str, Hold | None] = {}
    for call, hold in holds.items():
        if hold.until <= now:
            after |= _plan_end(call, hold, None, after, now).balances
            ended[call] = None
    return Change({name: balance for name, balance in after.items() if balance is not balances.get(name)}, ended)


def decide(
    spender: Spender, budgets: Iterable[Budget], most: Amount, balances: Mapping[str, Balance], now: float
) -> Refusal | None:
    """The budget that is in the way of a call; of several the one that will be for longest. None: the call fits."""
    return _find_refusal(_lowest(budgets, spender), most, balances, now)


def settled(balance: Balance, now: float) -> int:
    """What counts of what was settled."""
    return sum(amount for step, amount in balance.steps if now < _leaves(step, balance.window))


def over_at(name: str, balance: Balance) -> float | None:
    """When an account can be forgotten, if nothing comes to it until then; None: not for now."""
    if balance.held:
        return None
    if balance.window is not None:
        return _leaves(balance.steps[-1][0], balance.window) if balance.steps else balance.at
    return balance.at + IDLE_TASK if name.startswith(f"{BudgetScope.TASK}/") else None


def find_surplus(ends: Mapping[str, float | None]) -> list[str]:
    """The accounts of tasks to be forgotten early, as a ring has too many: of those on which nothing is held the idlest.

    `ends`: when each account can be forgotten, see `over_at`. A tenth more than has to be goes, so that it lasts.
    """
    rings: dict[tuple[str, str], list[str]] = {}
    for name in ends:
        scope, _, rest = name.partition("/")
        if scope == BudgetScope.TASK:
            agent, ring, _ = rest.split("/", 2)
            rings.setdefault((agent, ring), []).append(name)
    surplus: list[str] = []
    for names in rings.values():
        if len(names) > MOST_TASKS:
            idle = sorted((at, name) for name in names if (at := ends[name]) is not None)
            surplus += [name for _, name in idle[: len(names) - MOST_TASKS + MOST_TASKS // 10]]
    return surplus


def _find_refusal(
    lowest: Mapping[str, Budget], most: Amount, balances: Mapping[str, Balance], now: float
) -> Refusal | None:
    refusals = [
        refusal
        for account, budget in lowest.items()
        if (refusal := _refusal(budget, account, most.of(budget.unit), balances.get(account, _EMPTY), now)) is not None
    ]
    return max(refusals, key=lambda refusal: _wait(refusal.retry_after)) if refusals else None


def _refusal(budget: Budget, account: str, wanted: int, balance: Balance, now: float) -> Refusal | None:
    wanted = max(0, wanted)
    spent = settled(balance, now)
    # A call that takes nothing fits always: it does not make worse what a lowered limit has made too much.
    if wanted == 0 or spent + balance.held + wanted <= budget.limit:
        return None
    wait = _seconds_until(spent + wanted - budget.limit, balance, now) if wanted <= budget.limit else None
    return Refusal(budget, account, wanted, spent, balance.held, wait)


def _seconds_until(excess: int, balance: Balance, now: float) -> float | None:
    """How long until so much of what was settled has left the window, at the least: calls under way may end with nothing."""
    if excess <= 0:
        return SOON
    if balance.window is None:
        return None
    for step, amount in balance.steps:
        leaves = _leaves(step, balance.window)
        if now < leaves:
            excess -= amount
            if excess <= 0:
                return leaves - now
    return None


def _wait(retry_after: float | None) -> float:
    return math.inf if retry_after is None else retry_after


def _plan_hold(order: Reserve, balances: Mapping[str, Balance], now: float) -> Change:
    after: dict[str, Balance] = {}
    charges: list[Charge] = []
    for account, budget in order.by_account.items():
        amount = max(0, order.most.of(budget.unit))
        if amount == 0:
            continue  # nothing keeps an account on which nothing is held: a charge would outlive it
        before = balances.get(account) or Balance(budget.window)
        after[account] = Balance(before.window, before.steps, before.held + amount, budget.limit, now)
        charges.append(Charge(account, budget.unit, amount))
    return Change(after, {order.call: Hold(order.until, tuple(charges))} if charges else {})


def _plan_refusal(lowest: Mapping[str, Budget], refusal: Refusal, balances: Mapping[str, Balance]) -> Change:
    """Nothing is held, but the accounts that are there learn of a new limit."""
    after = {
        account: replace(balances[account], limit=budget.limit)
        for account, budget in lowest.items()
        if account in balances and balances[account].limit != budget.limit
    }
    return Change(after, refusal=refusal)


def _lowest(budgets: Iterable[Budget], spender: Spender) -> dict[str, Budget]:
    """See `Reserve.by_account`."""
    lowest: dict[str, Budget] = {}
    for budget in budgets:
        account = account_of(budget, spender)
        if account not in lowest or budget.limit < lowest[account].limit:
            lowest[account] = budget
    return lowest


def _plan_end(call: str, hold: Hold, spent: Amount | None, balances: Mapping[str, Balance], now: float) -> Change:
    """`spent` None: all that was held."""
    after: dict[str, Balance] = {}
    for charge in hold.charges:
        before = balances.get(charge.account)
        if before is None:
            continue  # forgotten: nothing was held on it
        took = charge.amount if spent is None else min(charge.amount, max(0, spent.of(charge.unit)))
        steps = _with_settled(before, took, now)
        after[charge.account] = replace(before, steps=steps, held=before.held - charge.amount, at=now)
    return Change(after, {call: None})


def _with_settled(balance: Balance, amount: int, now: float) -> tuple[tuple[int, int], ...]:
    """The steps that still count, with an amount more in the one that is now.

    A clock that was set back puts it into an earlier step than the last; what is there goes on to count.
    """
    kept = {step: taken for step, taken in balance.steps if now < _leaves(step, balance.window)}
    if amount:
        step = _step_at(now, balance.window)
        kept[step] = kept.get(step, 0) + amount
    return tuple(sorted(kept.items()))


def _step_at(now: float, window: float | None) -> int:
    return 0 if window is None else math.floor(now * STEPS / window)


def _leaves(step: int, window: float | None) -> float:
    """When a step has left the window: all that was settled in it is then older than the window is long."""
    return math.inf if window is None else (step + 1) * window / STEPS + window
