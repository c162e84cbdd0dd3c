"""Reads and writes about breakers that tripped, and budgets of the instance."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from turnout.db.reads import Reads
from turnout.db.tables import breakers, budgets, deployments
from turnout.domain.breakers import BreakerRecord, BreakerState
from turnout.domain.budget import Budget, BudgetScope, StoredBudget, Unit
from turnout.domain.models import BreakerScope
from turnout.domain.outcomes import Tally

_SUMS = tuple(item.name for item in fields(Tally))  # older records have others too
_KEY = ("agent", "ring", "release", "scope", "metric")


class BreakerReads(Reads):
    """The part of `ports.Snapshot` that is about breakers and budgets; see there for the meaning of each."""

    def breakers(self, agent: str | None = None, ring: str | None = None) -> tuple[BreakerRecord, ...]:
        """Every breaker that ever tripped. One whose release was deployed to the ring again since then is closed."""
        again = (
            select(func.max(deployments.c.created_at))
            .where(
                deployments.c.agent == breakers.c.agent,
                deployments.c.ring == breakers.c.ring,
                deployments.c.digest == breakers.c.release,
            )
            .scalar_subquery()
        )
        query = select(breakers, again.label("again")).order_by(*(breakers.c[name] for name in _KEY))
        for column, value in ((breakers.c.agent, agent), (breakers.c.ring, ring)):
            if value is not None:
                query = query.where(column == value)
        return tuple(_record(dict(row)) for row in self._all(query))

    def budgets(self) -> tuple[StoredBudget, ...]:
        """The budgets that people set for the instance."""
        query = select(budgets).order_by(budgets.c.agent, budgets.c.ring, budgets.c.unit, budgets.c.window)
        return tuple(_budget(row) for row in self._all(query))


class BreakerWrites(BreakerReads):
    """The part of `ports.Transaction` that is about breakers and budgets; see there for the meaning of each."""

    def save_breaker(self, record: BreakerRecord) -> None:
        """Write what became of a breaker."""
        values = asdict(record) | {"scope": record.scope.value, "state": record.state.value}
        where = [breakers.c[name] == values[name] for name in _KEY]
        if self._connection.execute(update(breakers).where(*where).values(values)).rowcount == 0:
            self._connection.execute(insert(breakers).values(values))

    def set_budget(self, budget: StoredBudget) -> None:
        """Set a budget, or its limit anew."""
        where, values = _budget_key(budget), _budget_row(budget)
        if self._connection.execute(update(budgets).where(*where).values(values)).rowcount == 0:
            self._connection.execute(insert(budgets).values(values))

    def unset_budget(self, budget: StoredBudget) -> bool:
        """Forget a budget; its limit does not matter. False when there is none."""
        return self._connection.execute(delete(budgets).where(*_budget_key(budget))).rowcount > 0


def _record(row: dict[str, Any]) -> BreakerRecord:
    again = row.pop("again")
    record = BreakerRecord(
        **row
        | {
            "scope": BreakerScope(row["scope"]),
            "state": BreakerState(row["state"]),
            "ignored": Tally(**{name: row["ignored"][name] for name in _SUMS if name in row["ignored"]}),
        }
    )
    if again is None or again <= record.since or record.state is BreakerState.CLOSED:
        return record
    return replace(record, state=BreakerState.CLOSED, since=again, ignored=Tally())


def _budget(row: Any) -> StoredBudget:
    agent, ring = row["agent"] or None, row["ring"] or None
    scope = BudgetScope.RING if ring else BudgetScope.AGENT if agent else BudgetScope.WORKSPACE
    budget = Budget(scope, row["limit"], Unit(row["unit"]), row["window"])
    return StoredBudget(budget, agent, ring, row["actor"], row["at"])


def _budget_row(budget: StoredBudget) -> dict[str, Any]:
    return {
        "agent": budget.agent or "",
        "ring": budget.ring or "",
        "unit": budget.budget.unit.value,
        "window": budget.budget.window,
        "limit": budget.budget.limit,
        "actor": budget.actor,
        "at": budget.at,
    }


def _budget_key(budget: StoredBudget) -> list[Any]:
    row = _budget_row(budget)
    return [budgets.c[name] == row[name] for name in ("agent", "ring", "unit", "window")]
