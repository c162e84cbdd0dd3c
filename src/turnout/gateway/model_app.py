"""The model gateway: an ASGI application that agents call as if it were OpenAI or Anthropic.

A call is let in by its key, bound to a model of its release, bounded by the budgets, and passed on by the best route that is
fit. Whatever happens to it then, its bill is settled and it is written to the journal.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from itertools import count

from turnout.domain.budget import Spender
from turnout.domain.calls import Ended, RouteChange
from turnout.domain.errors import CallRefused, RouteFailed
from turnout.domain.grants import Grant, ModelPin
from turnout.gateway.admission import find_grant, find_task, scoped_key
from turnout.gateway.answering import Caller, Secrets
from turnout.gateway.asgi import (
    Application,
    Presence,
    Receive,
    Room,
    Scope,
    Send,
    Share,
    read_body,
    read_head,
    send_problem,
)
from turnout.gateway.choice import (
    check_tool_models,
    find_candidates,
    find_pins,
    is_limited,
    keep_priced,
    worst_case,
)
from turnout.gateway.failover import Candidate, Journey, RouteBoard
from turnout.gateway.kept_answer import KeptAnswer
from turnout.gateway.listing import answer_elsewhere
from turnout.gateway.metering import Bill
from turnout.gateway.prices import PriceTable
from turnout.gateway.protocols.endpoints import BY_PATH, Endpoint
from turnout.gateway.protocols.errors import Problem
from turnout.gateway.relay import Relay
from turnout.gateway.requests import read_request
from turnout.gateway.seams import CallJournal, GrantSource, Spending
from turnout.gateway.upstream import Upstream
from turnout.gateway.values import GatewayConfig
from turnout.ports import Clock

_log = logging.getLogger(__name__)

LARGEST_BODY = 32 * 1024 * 1024  # bytes, of a request
MOST_BODIES = 512 * 1024 * 1024  # bytes, of the requests of all calls under way in a process


def create_model_app(
    grants: GrantSource,
    config: Callable[[], GatewayConfig],
    accounts: Spending,
    journal: CallJournal,
    clock: Clock,
    secret_of: Secrets,
    *,
    new_id: Callable[[], str] | None = None,
    largest_body: int = LARGEST_BODY,
    most_bodies: int = MOST_BODIES,
    on_route: Callable[[RouteChange], None] = lambda _: None,
    close: Callable[[], Awaitable[None]] | None = None,
) -> Application:
    """The application. `grants` finds what a key allows, `config` gives the configuration as it is now.

    `secret_of` gives what a reference such as `env:OPENAI_API_KEY` stands for; it is asked for every try, and raises
    `SetupFailed` for one that cannot be read. `on_route` is told of routes that go down and come back. `close` is awaited
    when the last call is over: a server that a signal tells to end takes the process with it, and what stands after it in
    the program is not reached.
    """
    room = Room(most_bodies)
    return ModelGateway(
        grants, config, accounts, journal, clock, secret_of, new_id or _count_ids(), largest_body, room, on_route, close
    )


class ModelGateway:
    """See `create_model_app`."""

    def __init__(
        self,
        grants: GrantSource,
        config: Callable[[], GatewayConfig],
        accounts: Spending,
        journal: CallJournal,
        clock: Clock,
        secret_of: Secrets,
        new_id: Callable[[], str],
        largest_body: int,
        room: Room,
        on_route: Callable[[RouteChange], None],
        close: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self._grants = grants
        self._config = config
        self._accounts = accounts
        self._journal = journal
        self._clock = clock
        self._secret_of = secret_of
        self._new_id = new_id
        self._largest_body = largest_body
        self._room = room
        self._close = close
        self._upstream = Upstream()
        self._board = RouteBoard(
            lambda key, why: on_route(RouteChange(clock.now(), key, why is not None, why or "")),
        )
        self._priced: tuple[GatewayConfig, PriceTable] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            endpoint = BY_PATH.get(scope["path"])
            if endpoint is None or scope["method"] != "POST":
                await answer_elsewhere(scope, send, self._grants)
            else:
                share = Share(self._room)
                try:
                    await self._answer(endpoint, scope, receive, send, share)
                finally:
                    share.close()

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            if (await receive())["type"] == "lifespan.startup":
                self._prices().rates(ModelPin("openai", "gpt-4o"))  # reads the table, which takes a while once
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._upstream.close()
                if self._close is not None:
                    await self._close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send, share: Share) -> None:
        """Everything about one call up to the point where the bill is open."""
        at, began = self._clock.now(), asyncio.get_running_loop().time()
        try:
            head = read_head(scope)
            grant = find_grant(head, self._grants)
            spender = Spender(grant.agent, grant.ring, grant.release, find_task(head))
            body = await read_body(receive, head, self._largest_body, share)
            if body is None:
                return
            asked = read_request(endpoint, body)
            del body  # its text is in what was read of it
        except CallRefused as refusal:
            await send_problem(send, endpoint.protocol, problem_of(refusal))
            return
        bill = Bill(self._new_id(), at, began, spender, asked, self._prices())
        bill.kept = KeptAnswer(grant.capture) if grant.record_models else None
        close = partial(bill.close, self._accounts, self._journal)
        check = partial(find_grant, head, self._grants)
        relay = Relay(bill, Presence(receive), send, close, check, restart=grant.restart_streams)
        try:
            await self._call(bill, relay, grant, head)
        finally:
            relay.presence.stop()
            if not relay.over:
                close()

    async def _call(self, bill: Bill, relay: Relay, grant: Grant, head: Mapping[bytes, bytes]) -> None:
        """Make the call; every end of it is told to the agent, if it is still there, and noted in the bill."""
        try:
            candidates = self._choose(bill, grant)
            deadline = bill.began + candidates[0].route.deadline
            async with asyncio.timeout_at(deadline):
                await self._make(bill, relay, head, candidates, deadline)
        except CallRefused as refusal:
            bill.ended = Ended.CANCELLED if bill.started else Ended.REFUSED
            relay.leave(refusal.message)
            await relay.end_badly(problem_of(refusal))
        except TimeoutError:
            if relay.over:
                return
            bill.ended = Ended.TIMEOUT
            relay.leave("the deadline of the call has passed")
            await relay.end_badly(Problem(504, "deadline_exceeded", "the deadline of the call has passed", retry=True))
        except asyncio.CancelledError:
            if relay.over:
                raise
            bill.ended = Ended.CANCELLED
            relay.leave("the agent went away")
            if not relay.presence.gone:
                raise
            relay.presence.forgive()
        except Exception:  # noqa: BLE001  whatever it is, the agent is told in its protocol
            _log.exception("call %s failed by a fault of the gateway", bill.id)
            relay.leave("a fault of the gateway")
            if not relay.over:
                bill.ended = Ended.CUT if relay.begun else Ended.FAILED
                await relay.end_badly(
                    Problem(500, "internal_error", "the gateway failed; its log says why", retry=True)
                )

    def _choose(self, bill: Bill, grant: Grant) -> tuple[Candidate, ...]:
        asked = bill.asked
        pins = find_pins(grant, asked.model)
        check_tool_models(grant, asked.tool_models)
        bill.budgets = () if asked.endpoint.is_free else grant.budgets
        candidates = find_candidates(pins, asked, self._config(), bill.prices)
        return keep_priced(candidates, bill.budgets)

    async def _make(
        self,
        bill: Bill,
        relay: Relay,
        head: Mapping[bytes, bytes],
        candidates: tuple[Candidate, ...],
        deadline: float,
    ) -> None:
        if bill.budgets:
            await bill.hold(self._accounts, worst_case(bill.asked, candidates))
        bill.journey = journey = Journey(candidates, self._board, deadline)
        idempotency_key = scoped_key(bill.spender, head.get(b"idempotency-key", b"")) or f"turnout-{bill.id}"
        limited = is_limited(bill.budgets)
        caller = Caller(bill.asked, head, idempotency_key, limited, self._upstream, self._secret_of, journey)
        try:
            await relay.run(caller)
        except RouteFailed as fault:
            bill.ended = Ended.CUT if relay.begun else Ended.FAILED
            bill.error = fault.message
            await relay.end_badly(journey.problem())

    def _prices(self) -> PriceTable:
        config = self._config()
        if self._priced is None or self._priced[0] is not config:
            self._priced = (config, PriceTable(config.prices))
        return self._priced[1]


def _count_ids() -> Callable[[], str]:
    """Ids of calls: of this process, and a number. (Randomness for each call would cost more than all else here.)"""
    process, numbers = secrets.token_hex(12), count(1)
    return lambda: f"{process}{next(numbers):08x}"


def problem_of(refusal: CallRefused) -> Problem:
    """What the agent is told of a refusal: to try again only where that can help."""
    retry = refusal.retry_after is not None
    return Problem(refusal.status, refusal.code, refusal.message, retry=retry, retry_after=refusal.retry_after)
