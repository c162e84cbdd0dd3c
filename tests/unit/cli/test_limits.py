"""`turnout breakers` and `turnout budgets`: what they send and print."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.unit.cli.command import CommandLine

DIGEST = "sha256:" + "a" * 64
CLOSED: dict[str, Any] = {
    "agent": "support",
    "ring": "production",
    "digest": DIGEST,
    "version": "v1",
    "scope": "deployment",
    "metric": "error_rate",
    "above": 0.3,
    "window": 300.0,
    "tasks": 20,
    "state": "closed",
    "value": None,
    "task": None,
    "since": None,
    "tripped_with": None,
    "reason": None,
    "actor": None,
}
OPEN = CLOSED | {
    "scope": "run",
    "metric": "cost",
    "above": 2.0,
    "state": "open",
    "value": 2.5,
    "task": "t\x1b[31m",
    "since": "2026-05-04T12:30:00.000000Z",
    "tripped_with": 2.25,
    "reason": "breaker: 2.25 cost of task t1, above 2",
    "actor": "turnout",
}
BUDGET = {"scope": "workspace", "agent": None, "ring": None, "unit": "usd", "limit": 100.0, "window": 86_400.0}
DECLARED = {
    "agent": "support",
    "ring": "dev",
    "digest": DIGEST,
    "version": "v1",
    "scope": "task",
    "unit": "tokens",
    "limit": 5_000.0,
    "window": None,
}
ACCOUNT = {"name": "workspace/usd/86400s", "unit": "usd", "settled": 12.5, "held": 0.25, "limit": 100.0}


@dataclass
class Server:
    """A client that remembers what it was asked."""

    breakers_found: list[dict[str, Any]] = field(default_factory=lambda: [CLOSED, OPEN])
    asked: list[Any] = field(default_factory=list)

    def breakers(self, agent: str | None) -> dict[str, Any]:
        self.asked.append(agent)
        return {"breakers": self.breakers_found}

    def reset_breakers(self, agent: str, ring: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((agent, ring, body))
        return {"breakers": [CLOSED]}

    def budgets(self) -> dict[str, Any]:
        known = [{**BUDGET, "actor": "ann", "at": OPEN["since"]}]
        return {"budgets": known, "declared": [DECLARED], "accounts": [ACCOUNT], "more": 3}

    def set_budget(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        return {**BUDGET, **body}

    def unset_budget(self, **which: Any) -> None:
        self.asked.append(which)


@pytest.fixture
def server(turnout: CommandLine) -> Server:
    server = Server()
    turnout.speaks_to(server)
    return server


def test_breakers_are_a_table_with_what_they_see_and_why_they_are_open(turnout: CommandLine, server: Server) -> None:
    shown = turnout("breakers", "list", "support").out
    assert server.asked == ["support"]
    closed, opened = shown.splitlines()[1:]
    assert closed.startswith("support  production  v1 (aaaaaaa)  deployment error_rate  30.0% in 300 s")
    assert closed.split()[10:] == ["-", "closed", "-", "-"]
    assert "2.5 (t·[31m)  open" in opened
    assert opened.endswith("2026-05-04 12:30:00  breaker: 2.25 cost of task t1, above 2")
    assert turnout("breakers", "list", "--json").json() == {"breakers": [CLOSED, OPEN]}


def test_rings_without_breakers_say_where_they_are_declared(turnout: CommandLine, server: Server) -> None:
    server.breakers_found = []
    assert "[[rings.NAME.breakers]]" in turnout("breakers", "list").out


def test_a_reset_names_what_it_is_about(turnout: CommandLine, server: Server) -> None:
    turnout("breakers", "reset", "support", "dev")
    turnout("breakers", "reset", "support", "dev", "--half-open", "--metric", "cost", "--reason", "mended")
    everything = {"half_open": False, "metric": None, "release": None, "reason": ""}
    assert server.asked == [
        ("support", "dev", everything),
        ("support", "dev", everything | {"half_open": True, "metric": "cost", "reason": "mended"}),
    ]


def test_budgets_and_accounts_are_tables(turnout: CommandLine, server: Server) -> None:
    shown = turnout("budgets", "list").out
    for part in (
        "everything   workspace  instance      $100         86400 s",
        "support/dev  task       v1 (aaaaaaa)  5000 tokens  in all",
        "workspace/usd/86400s  $12.5    $0.25  $100",
        "… and 3 more accounts of tasks",
    ):
        assert part in shown, shown
    assert turnout("budgets", "list", "--json").json()["accounts"] == [ACCOUNT]


def test_a_budget_is_set_and_unset(turnout: CommandLine, server: Server) -> None:
    shown = turnout("budgets", "set", "--limit", "100", "--window", "24h", "--agent", "support", "--ring", "dev").out
    assert "support/dev: at most $100 in 86400 s" in shown
    assert (
        "everything: no budget of calls in 60 s any more"
        in turnout("budgets", "unset", "--window", "1m", "--unit", "calls").out
    )
    assert server.asked == [
        {"limit": 100.0, "window": 86_400.0, "unit": "usd", "agent": "support", "ring": "dev"},
        {"agent": None, "ring": None, "unit": "calls", "window": 60.0},
    ]


@pytest.mark.parametrize("arguments", [("set", "--window", "1h"), ("set", "--limit", "1"), ("unset",)])
def test_a_budget_needs_its_limit_and_window(turnout: CommandLine, server: Server, arguments: tuple[str, ...]) -> None:
    assert turnout("budgets", *arguments).code == 2
    assert server.asked == []
