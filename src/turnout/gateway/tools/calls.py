"""A call of a tool, from the key to the record: what may be called, with which arguments, by whom, and what became of it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from turnout.domain.budget import Amount, Refusal, Spender
from turnout.domain.calls import Ended
from turnout.domain.errors import Retryable
from turnout.domain.grants import Grant, ToolPin
from turnout.domain.tool_pins import find_pin, found_as, pin_fault, unlisted_text
from turnout.domain.tool_rules import arguments_fault
from turnout.gateway.seams import CallJournal, Spending
from turnout.gateway.tools.connection import Changed, NoSecret, Slow, Unreachable
from turnout.gateway.tools.recording import Record, in_order
from turnout.gateway.tools.upstream import Upstream, Upstreams
from turnout.manifest.json_schema import JsonSchema, matches

LARGEST_RESULT = 16 << 20  # bytes
_MOST_SCHEMAS = 2_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the agent gets: the result of the tool as it came, or why there is none."""

    result: Mapping[str, Any] | None = None
    error: str = ""


class CallEnds(Exception):
    """A call that ends here. `why` is what the agent hears, and what is written down."""

    def __init__(self, ended: Ended, why: str) -> None:
        super().__init__(why)
        self.ended = ended
        self.why = why


class ToolCalls:
    """Makes calls for agents. Safe to use by any number of them at once."""

    def __init__(
        self,
        upstreams: Upstreams,
        spending: Spending,
        journal: CallJournal,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._upstreams = upstreams
        self._spending = spending
        self._journal = journal
        self._clock = clock
        self._schemas: OrderedDict[str, JsonSchema] = OrderedDict()
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="records")

    async def call(self, grant: Grant, task: str | None, name: str, arguments: Mapping[str, Any]) -> Answer:
        """Make one call and write it down, however it ends. Cancelling it cancels it at the server."""
        record = Record(uuid.uuid4().hex, self._clock(), time.monotonic(), grant, task, name[:200], arguments)
        try:
            record.result = await self._made(record, name)
            record.ended = Ended.DONE
        except CallEnds as end:
            record.ended, record.error = end.ended, end.why
            return Answer(error=end.why)
        except asyncio.CancelledError:
            record.ended, record.error = Ended.CANCELLED, "the agent went away"
            raise
        finally:
            await self._write_down(record)
        return Answer(record.result)

    async def _write_down(self, record: Record) -> None:
        """A record that takes long to close is closed beside the event loop, and whatever becomes of the agent."""
        now = time.monotonic()

        def write() -> None:
            self._journal.write(record.close(now))

        if record.takes_long:
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._beside, write))
        else:
            write()

    async def _made(self, record: Record, name: str) -> dict[str, Any]:
        grant = record.grant
        if grant.stopped:
            raise CallEnds(Ended.REFUSED, f"release {grant.version} was stopped in {grant.ring}: {grant.stopped}")
        record.size = _json_size(record.arguments)
        pin = record.pin = find_pin(grant.tools, name)
        if pin is None:
            raise CallEnds(Ended.REFUSED, unlisted_text(grant.tools, name, grant.version))
        self._check_arguments(pin, record.arguments)
        return await self._answered(record, pin)

    async def _answered(self, record: Record, pin: ToolPin) -> dict[str, Any]:
        """By the server, where it describes the tool as it was pinned, within the budgets. Raises `CallEnds`."""
        upstream = self._upstreams.find(pin.server)
        if upstream is None and pin.server:
            raise CallEnds(Ended.FAILED, f'the instance has no tool server "{pin.server}"')
        await self._check_pin(record, pin, upstream)
        assert upstream is not None  # noqa: S101  # a pin without a server was refused
        return await self._spent(record, pin, upstream)

    def _check_arguments(self, pin: ToolPin, arguments: Mapping[str, Any]) -> None:
        fault = self._schema(pin).fault(arguments) if pin.schema else None
        if fault:
            raise CallEnds(Ended.REFUSED, f'the arguments do not fit the schema of "{pin.name}": {fault}')
        if pin.rules is None:
            return
        fault = arguments_fault(pin.rules, arguments, matches)
        if fault:
            raise CallEnds(Ended.REFUSED, f'the rules of "{pin.name}" refuse these arguments: {fault}')

    async def _check_pin(self, record: Record, pin: ToolPin, upstream: Upstream | None) -> None:
        try:
            found = await upstream.digest(pin.name) if upstream and pin.schema else None
        except Unreachable as error:
            raise CallEnds(
                Ended.FAILED, f'the tool server "{pin.server}" cannot be used: {_for_agents(error, pin)}'
            ) from None
        fault = pin_fault(pin, found)
        if fault:
            record.found = found_as(found) if pin.schema else ""
            raise CallEnds(Ended.REFUSED, fault)

    async def _spent(self, record: Record, pin: ToolPin, upstream: Upstream) -> dict[str, Any]:
        """The call within its budgets: one call is held while it is made, and counted if it was."""
        grant = record.grant
        if not grant.budgets:
            return await self._sent(record, pin, upstream)
        spender = Spender(grant.agent, grant.ring, grant.release, record.task)
        try:
            refusal = await self._spending.reserve(record.id, spender, grant.budgets, Amount(calls=1))
        except Retryable as error:
            raise CallEnds(Ended.REFUSED, f"budgets cannot be asked just now: {error.message}") from None
        if refusal is not None:
            raise CallEnds(Ended.REFUSED, _budget_text(refusal))
        try:
            return await self._sent(record, pin, upstream)
        finally:
            self._spending.settle(record.id, Amount(calls=1 if record.sent else 0))

    async def _sent(self, record: Record, pin: ToolPin, upstream: Upstream) -> dict[str, Any]:
        record.sent = True
        try:
            result = await upstream.call(
                pin.name, record.arguments, pin.timeout, pinned=pin.schema, again=not pin.side_effects
            )
        except Changed as change:  # after it was looked at
            record.sent, record.found = False, found_as(change.found)
            raise CallEnds(Ended.REFUSED, pin_fault(pin, change.found) or "") from None
        except Slow as error:
            raise CallEnds(Ended.TIMEOUT, f'the tool "{pin.name}" did not answer in time: {error}') from None
        except Unreachable as error:
            why = _for_agents(error, pin)
            raise CallEnds(Ended.FAILED, f'the tool server "{pin.server}" did not answer the call: {why}') from None
        if result.get("resultType", "complete") != "complete" or not isinstance(result.get("content"), list):
            raise CallEnds(Ended.FAILED, f'the tool "{pin.name}" asks for what the gateway does not pass on')
        record.written = in_order(result)
        if len(record.written) > LARGEST_RESULT:
            raise CallEnds(Ended.FAILED, f'the result of the tool "{pin.name}" is larger than {LARGEST_RESULT} bytes')
        record.size += len(record.written)
        return result

    def _schema(self, pin: ToolPin) -> JsonSchema:
        known = self._schemas.get(pin.schema)
        if known is None:
            try:
                known = JsonSchema(pin.description.get("inputSchema", {}))
            except ValueError:
                raise CallEnds(Ended.REFUSED, f'the pinned schema of "{pin.name}" cannot be used') from None
            self._schemas[pin.schema] = known
            if len(self._schemas) > _MOST_SCHEMAS:
                self._schemas.popitem(last=False)
        return known


def _json_size(arguments: Mapping[str, Any]) -> int:
    """Bytes. What has no JSON form would break the session that all agents share, or arrive as something that was not
    checked: it ends the call.
    """
    try:
        return len(json.dumps(dict(arguments), ensure_ascii=False, allow_nan=False).encode())
    except (ValueError, RecursionError):
        raise CallEnds(Ended.REFUSED, "the arguments are not JSON that can be passed on") from None


def _for_agents(error: Unreachable, pin: ToolPin) -> str:
    """Where a secret is kept is for the log alone."""
    if not isinstance(error, NoSecret):
        return str(error)
    log.error("the tool server %s cannot be used: %s", pin.server, error)
    return "a secret of it cannot be read; the log of the gateway says which"


def _budget_text(refusal: Refusal) -> str:
    budget = refusal.budget
    window = f" in {budget.window:g} s" if budget.window else ""
    again = "" if refusal.retry_after is None else f"; there is room again in {refusal.retry_after:.0f} s"
    text = f"budget_exceeded: {refusal.settled + refusal.held} of {budget.limit} {budget.unit}{window} are taken"
    return f"{text} ({refusal.account}){again}"
