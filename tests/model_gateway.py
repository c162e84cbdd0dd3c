"""A model gateway on a real port in a thread, with budgets and a journal in memory."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from tests.provider_answers import text
from turnout.domain.budget import Amount, Budget, Refusal, Spender, account_of
from turnout.domain.calls import Call, ModelCall
from turnout.domain.errors import LedgerUnavailable, SetupFailed
from turnout.domain.grants import Grant, ModelPin
from turnout.domain.models import Digest
from turnout.gateway.model_app import create_model_app
from turnout.gateway.serve import build_server, listen
from turnout.gateway.values import GatewayConfig, Price, Protocol, Route

HOST = "127.0.0.1"
KEY = "tk_of-the-tests"
PROVIDER_KEY = "sk-secret-of-the-provider"
OPENAI_MODEL = "gpt-4o-2024-08-06"
ANTHROPIC_MODEL = "claude-haiku-4-5-20251001"
LOCAL_MODEL = "gemma"
ENDS = {"chat/completions": b"[DONE]", "responses": b"response.completed", "messages": b"message_stop"}
RELEASE = Digest("sha256:" + "ab" * 32)


class MemoryAccounts:
    """Budgets without a window, in one process."""

    def __init__(self) -> None:
        self.settled: dict[str, int] = {}
        self.held: dict[str, dict[str, tuple[Budget, int]]] = {}
        self.most: list[Amount] = []  # that was asked for
        self.spent: list[Amount] = []
        self.down = False

    async def reserve(self, call: str, spender: Spender, budgets: Sequence[Budget], most: Amount) -> Refusal | None:
        """As `Accounts.reserve`."""
        if self.down:
            raise LedgerUnavailable("the ledger is down")
        self.most.append(most)
        lines = {account: budget for budget in budgets if (account := account_of(budget, spender)) is not None}
        for account, budget in lines.items():
            settled = self.settled.get(account, 0)
            held = sum(hold[account][1] for hold in self.held.values() if account in hold)
            if settled + held + most.of(budget.unit) > budget.limit:
                return Refusal(budget, account, most.of(budget.unit), settled, held)
        self.held[call] = {account: (budget, most.of(budget.unit)) for account, budget in lines.items()}
        return None

    def settle(self, call: str, spent: Amount) -> None:
        """As `Accounts.settle`."""
        self.spent.append(spent)
        for account, (budget, most) in self.held.pop(call, {}).items():
            self.settled[account] = self.settled.get(account, 0) + min(spent.of(budget.unit), most)


class MemoryJournal:
    """What was written, and a wait for it."""

    def __init__(self) -> None:
        self.calls: list[ModelCall] = []
        self._changed = threading.Condition()

    def write(self, call: Call) -> None:
        """As `CallJournal.write`."""
        assert isinstance(call, ModelCall)
        with self._changed:
            self.calls.append(call)
            self._changed.notify_all()

    def wait(self, number: int = 1, timeout: float = 10) -> list[ModelCall]:
        """The calls, once there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.calls) >= number, timeout), self.calls
            return list(self.calls)

    def last(self, number: int = 1) -> ModelCall:
        """The last of so many calls."""
        return self.wait(number)[number - 1]


class WallClock:
    """The time."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()


@dataclass
class LiveGateway:
    """A gateway that runs. Its grant and its configuration can be changed while it does."""

    grant: Grant
    config: GatewayConfig
    accounts: MemoryAccounts = field(default_factory=MemoryAccounts)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    port: int = 0

    def find(self, key: str) -> Grant | None:
        """As `GrantSource.find`."""
        return self.grant if key == KEY else None

    @property
    def url(self) -> str:
        """As ANTHROPIC_BASE_URL has it."""
        return f"http://{HOST}:{self.port}"

    @property
    def openai_url(self) -> str:
        """As OPENAI_BASE_URL has it."""
        return f"{self.url}/v1"


def grant(**changes: object) -> Grant:
    """A grant for the models of the tests."""
    models = (ModelPin("openai", OPENAI_MODEL), ModelPin("anthropic", ANTHROPIC_MODEL), ModelPin("local", LOCAL_MODEL))
    values: dict[str, object] = {
        "key": hashlib.sha256(KEY.encode()).hexdigest(),
        "agent": "support",
        "ring": "production",
        "release": RELEASE,
        "version": "v1.0.0",
        "models": models,
    }
    return Grant(**{**values, **changes})  # type: ignore[arg-type]


def config(
    urls: Sequence[str], prices: Mapping[str, Price] | None = None, *, mark: str = "r", **changes: object
) -> GatewayConfig:
    """Routes of all three providers to the URLs, in this order; their names are the mark and a number."""
    providers = {}
    for name in ("openai", "anthropic", "local"):
        protocol = Protocol.ANTHROPIC if name == "anthropic" else Protocol.OPENAI
        values: dict[str, object] = {"key": "env:PROVIDER_KEY", "protocol": protocol, "deadline": 10.0, **changes}
        providers[name] = tuple(
            Route(provider=name, name=f"{mark}{index}", url=url, **values)  # type: ignore[arg-type]
            for index, url in enumerate(urls)
        )
    return GatewayConfig(providers=providers, prices=prices or {})


def secret_of(reference: str) -> str:
    """Knows one."""
    if reference == "env:PROVIDER_KEY":
        return PROVIDER_KEY
    raise SetupFailed(f"{reference} is not set")


@contextmanager
def model_gateway(config: GatewayConfig, grant: Grant, **options: int) -> Iterator[LiveGateway]:
    """A gateway in a thread of this process."""
    live = LiveGateway(grant, config)
    app = create_model_app(
        live,
        lambda: live.config,
        live.accounts,
        live.journal,
        WallClock(),
        secret_of,
        **options,  # type: ignore[arg-type]
    )
    with listen(HOST, 0) as listener:
        live.port = listener.getsockname()[1]
        server = build_server(app, drain=2)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
        thread.start()
        try:
            yield live
        finally:
            server.should_exit = True
            thread.join(10)


@dataclass(frozen=True)
class Answer:
    """What came back. `whole`: whether the connection said that this was all."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool
    seconds: float

    @property
    def json(self) -> dict[str, Any]:
        """The body."""
        return cast("dict[str, Any]", json.loads(self.body))


def question(endpoint: str = "chat/completions", *, stream: bool = False, **changes: object) -> dict[str, object]:
    """The body of a request; a change to None takes a member out."""
    body: dict[str, object] = {"model": ANTHROPIC_MODEL if endpoint == "messages" else OPENAI_MODEL}
    if endpoint in ("chat/completions", "messages"):
        body |= {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}
    else:
        body["input"] = "hi"
    if stream:
        body["stream"] = True
    return {name: value for name, value in {**body, **changes}.items() if value is not None}


def ask(
    live: LiveGateway,
    endpoint: str = "chat/completions",
    body: object = None,
    *,
    stream: bool = False,
    headers: Mapping[str, str] | None = None,
    key: str | None = KEY,
) -> Answer:
    """One request over a connection of its own. `body` as an object, or as bytes that are sent as they are."""
    connection = http.client.HTTPConnection(HOST, live.port, timeout=20)
    given = question(endpoint, stream=stream) if body is None else body
    raw = given if isinstance(given, bytes) else json.dumps(given).encode()
    sent = {
        "content-type": "application/json",
        **({"authorization": f"Bearer {key}"} if key else {}),
        **(headers or {}),
    }
    began = time.monotonic()
    try:
        connection.request("POST", f"/v1/{endpoint}", raw, sent)
        response = connection.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        try:
            got, whole = response.read(), True
        except http.client.IncompleteRead as error:
            got, whole = error.partial, False
        return Answer(response.status, told, got, whole, time.monotonic() - began)
    finally:
        connection.close()


def is_whole(endpoint: str, answer: Answer, *, stream: bool) -> bool:
    """Whether an answer is the one that was made, and says that this is all."""
    if answer.status != 200 or not answer.whole:
        return False
    if not stream:
        return endpoint == "embeddings" or text() in json.dumps(answer.json)
    return ENDS[endpoint] in answer.body and all(word.encode() in answer.body for word in text().split())


def is_error(endpoint: str, answer: Answer) -> bool:
    """In the protocol of the endpoint, and impossible to take for an answer."""
    if answer.status != 200:
        error = answer.json["error"]
        fits = answer.json["type"] == "error" if endpoint == "messages" else "code" in error
        return bool(error["message"]) and fits
    last = answer.body.strip().split(b"\n\n")[-1]
    named = endpoint == "chat/completions" or last.startswith(b"event: error\n")
    told = json.loads(last.partition(b"data: ")[2])
    return named and bool(told["error"]["message"]) and not answer.whole and ENDS[endpoint] not in answer.body
