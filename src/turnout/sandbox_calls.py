"""The gateway of a release that runs apart: what it may call, what answers, what is remembered of it, what it may cost."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from turnout.clock import SystemClock
from turnout.domain.budget import NANOS, BudgetScope
from turnout.domain.calls import Call, ModelCall
from turnout.domain.errors import InvalidRequest
from turnout.domain.grants import Grant, Pins, build_grant
from turnout.domain.models import Release
from turnout.gateway.accounts import Accounts
from turnout.gateway.asgi import Application
from turnout.gateway.config import resolve_secret
from turnout.gateway.keys import key_digest
from turnout.gateway.ledger import MemoryLedger
from turnout.gateway.seams import CallJournal
from turnout.gateway.values import GatewayConfig, ToolServer
from turnout.gateway_control import read_pins
from turnout.ports import ArtifactStore

RING = "sandbox"
MOST_DOLLARS, DEFAULT_DOLLARS = "TURNOUT_SANDBOX_DOLLARS", "50"


class CallLog:
    """A journal in memory: what was called, by task, in order of the ends; not what was said. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[str | None, list[Call]] = {}

    def write(self, call: Call) -> None:
        """Add one."""
        with self._lock:
            self._calls.setdefault(call.task, []).append(_without_payloads(call))

    def of(self, task: str | None) -> tuple[Call, ...]:
        """The calls of a task so far; None: those that told none."""
        with self._lock:
            return tuple(self._calls.get(task, ()))

    def take(self) -> tuple[Call, ...]:
        """All of them, which are then forgotten."""
        with self._lock:
            taken, self._calls = self._calls, {}
        return tuple(call for calls in taken.values() for call in calls)


class Purse:
    """What models may cost in one sandbox, in nano-dollars. Calls that end are taken from it. Safe for several threads."""

    def __init__(self, most: int, log: CallJournal) -> None:
        self.most = most
        self._log = log
        self._lock = threading.Lock()
        self._spent = 0

    def write(self, call: Call) -> None:
        """See `seams.CallJournal`: it is counted and passed on."""
        with self._lock:
            self._spent += call.nanos if isinstance(call, ModelCall) else 0
        self._log.write(call)

    def empty(self) -> bool:
        """Whether nothing is left."""
        with self._lock:
            return self._spent >= self.most

    def why(self) -> str:
        """Why nothing is let through once it is empty."""
        return f"models have cost the {self.most / NANOS:g} dollars that a sandbox may spend ({MOST_DOLLARS})"


@dataclass(frozen=True, slots=True)
class OneGrant:
    """The one key of a sandbox. Nothing is let through once its purse is empty."""

    grant: Grant
    purse: Purse | None = None

    def find(self, key: str) -> Grant | None:
        """See `seams.GrantSource`."""
        if key_digest(key) != self.grant.key:
            return None
        if self.purse is None or not self.purse.empty():
            return self.grant
        return replace(self.grant, stopped=self.purse.why())


@dataclass(slots=True)
class SandboxGateway:
    """What the agent of a sandbox calls. The applications are served while the sandbox lasts."""

    key: str
    log: CallLog
    models: Application | None = None
    tools: Application | None = None
    purse: Purse | None = None  # of live models
    withheld: frozenset[str] = frozenset()  # tools of the release that may not be called here
    ports: dict[str, int] = field(default_factory=dict)  # by kind, once they are served


def build_sandbox_grant(release: Release, artifacts: ArtifactStore, key: str, ring: str | None = None) -> Grant:
    """What the release may call: what its components pin, within what a task may take in a ring (None: the last one).

    Everything of its calls is kept. Budgets of more than one task are left out: they are of callers.
    """
    pins: Pins = read_pins(artifacts, release)
    grant = build_grant(release, RING, pins, key_digest(key))
    settings = release.spec.ring(ring) if ring is not None else None
    settings = settings or next(reversed(release.spec.rings), None)
    budgets = settings.budgets if settings is not None else ()
    return replace(grant, budgets=tuple(budget for budget in budgets if budget.scope is BudgetScope.TASK))


def most_nanos() -> int:
    """What models may cost in one sandbox, in nano-dollars. Raises `InvalidRequest` where it is set to no number."""
    given = os.environ.get(MOST_DOLLARS, "")
    try:
        dollars = float(given or DEFAULT_DOLLARS)
    except ValueError:
        dollars = -1.0
    if not 0 <= dollars < 1e9:
        raise InvalidRequest(f"{MOST_DOLLARS} is {given!r}, which is no number of dollars")
    return round(dollars * NANOS)


def build_live_models(grant: Grant, config: GatewayConfig, purse: Purse) -> Application:
    """Models by the routes of an instance, until the purse is empty; the call that empties it is let finish."""
    from turnout.gateway.model_app import create_model_app

    accounts, source = Accounts(MemoryLedger()), OneGrant(grant, purse)
    return create_model_app(source, lambda: config, accounts, purse, SystemClock(), _secret_of, close=accounts.close)


def build_live_tools(
    grant: Grant, config: GatewayConfig, log: CallLog, logs: Path, stand_ins: Mapping[str, ToolServer | None]
) -> Application:
    """Tools by servers that stand in for those of an instance; without one only tools without side effects are called.

    A stand-in may be None until the sandbox is there: until then nothing is called in its place. `withheld_tools` tells
    which tools are left out.
    """
    from turnout.gateway.tools.app import build_tool_app
    from turnout.gateway.tools.calls import ToolCalls
    from turnout.gateway.tools.upstream import Upstreams

    def servers() -> dict[str, ToolServer]:
        real = {name: server for name, server in config.tool_servers.items() if name not in stand_ins}
        return real | {name: server for name, server in stand_ins.items() if server is not None}

    withheld = withheld_tools(grant, stand_ins)
    source = OneGrant(replace(grant, tools=tuple(pin for pin in grant.tools if pin.name not in withheld)))
    upstreams = Upstreams(servers, _secret_of, logs=logs)
    accounts = Accounts(MemoryLedger())
    return build_tool_app(source, ToolCalls(upstreams, accounts, log), upstreams)


def withheld_tools(grant: Grant, stand_ins: Collection[str]) -> frozenset[str]:
    """The tools with side effects that nothing stands in for."""
    return frozenset(pin.name for pin in grant.tools if pin.side_effects and pin.server not in stand_ins)


def _secret_of(reference: str) -> str:
    return resolve_secret(reference, os.environ)


def _without_payloads(call: Call) -> Call:
    if isinstance(call, ModelCall):
        return replace(call, answer=None)
    return replace(call, arguments=None, result=None)
