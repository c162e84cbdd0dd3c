"""Passes answers on to the agent, and makes sure that what broke off never looks whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum

from turnout.domain.calls import Ended
from turnout.domain.errors import RouteFailed
from turnout.gateway.answering import Caller, Stream, Whole
from turnout.gateway.asgi import Presence, RawHeaders, Send, send_answer, send_problem
from turnout.gateway.metering import Bill
from turnout.gateway.protocols.endpoints import Endpoint
from turnout.gateway.protocols.errors import Problem, error_event
from turnout.gateway.protocols.streams import Kind


class Told(IntEnum):
    """How much of an answer the agent has."""

    NOTHING = 0  # but comments and pings
    PREAMBLE = 1
    CONTENT = 2


LAST_WORDS = 2.0  # seconds, to tell the agent that its stream broke off
LOOK_SECONDS = 1.0  # between two looks whether a call under way may go on
MOST_SILENCES = 6  # idle timeouts, that a provider can fill with comments and pings

# Where a second preamble can be left out without the agent noticing. The events of responses all name the one response.
_RESTARTABLE = frozenset((Endpoint.CHAT, Endpoint.MESSAGES))


class Relay:
    """The way of one answer to its agent. `restart`: whether a stream may be begun again after its preamble. `check` is
    called once a second while a stream goes on, and raises `CallRefused` where it may not any more.

    `close` closes the bill; it is called when the last bytes are on their way: the agent waits neither for the journal nor
    for the ledger, and its next call comes after both.
    """

    def __init__(
        self,
        bill: Bill,
        presence: Presence,
        send: Send,
        close: Callable[[], None],
        check: Callable[[], object] = lambda: None,
        *,
        restart: bool,
    ) -> None:
        self.presence = presence
        self.begun = False  # whether the agent has a status
        self.over = False  # whether it has everything
        self._bill = bill
        self._send = send
        self._close = close
        self._check = check
        self._restart = restart and bill.asked.endpoint in _RESTARTABLE
        self._told = Told.NOTHING

    async def run(self, caller: Caller) -> None:
        """Get an answer and pass it on. Raises `RouteFailed` where no route gave one, or the last one broke off."""
        answer = await caller.journey.run(caller.answer)
        while isinstance(answer, Stream):
            try:
                await self._pass_stream(answer, caller)
                return
            except RouteFailed as fault:
                final = self._told is Told.CONTENT or (self._told is Told.PREAMBLE and not self._restart)
                caller.journey.fail(answer.candidate, fault, passed_on=final)
                if final:
                    raise
            finally:
                self._note(answer)
                caller.upstream.let_go(answer.response, whole=self.over)
            # Nothing of the answer was told that the next one does not tell again.
            self._bill.started = False
            answer = await caller.journey.run(caller.answer)
        if self.begun:  # a refusal where a stream had begun: its status can no longer be told
            raise RouteFailed("the next route refused the call", answered=answer.status)
        await self._pass_whole(answer, caller)

    async def end_badly(self, problem: Problem) -> None:
        """Tell the agent that there is no answer, or that the one it has is not whole."""
        bill = self._bill
        bill.error = bill.error or problem.message
        self.presence.stop()
        if not self.begun:
            self.begun, bill.status = True, problem.status
            await send_problem(self._send, bill.asked.endpoint.protocol, problem, _turnout_headers(bill))
        else:
            # The connection ends without the mark of its end, so that no client can take the answer for a whole one.
            event = error_event(bill.asked.endpoint, problem)
            with suppress(TimeoutError):  # an agent that reads nothing does not hold up the end
                async with asyncio.timeout(LAST_WORDS):
                    await self._send({"type": "http.response.body", "body": event, "more_body": True})
        self._end()

    def leave(self, why: str) -> None:
        """The call ends in mid-air."""
        bill = self._bill
        bill.error = why
        if bill.journey is not None and bill.journey.under_way:
            bill.journey.leave(why, passed_on=bill.started)

    async def _pass_whole(self, answer: Whole, caller: Caller) -> None:
        bill, candidate = self._bill, answer.candidate
        bill.answered, bill.status = candidate, answer.status
        self.begun = True
        self.presence.stop()
        if answer.said is None:
            bill.error = f"status {answer.status} of the provider"
        else:
            bill.started, bill.whole, bill.ended = True, True, Ended.DONE
            bill.usage, bill.answered_by, bill.terms = answer.said.usage, answer.said.model, answer.said.terms
            bill.seen_out = len(answer.body) // 4 if bill.asked.demand.output else 0
        try:
            if answer.said is None and not _is_json(answer.headers):
                problem = Problem(answer.status, "provider_refused", f"the provider refused the call: {bill.error}")
                await send_problem(self._send, bill.asked.endpoint.protocol, problem, _turnout_headers(bill))
            else:
                self._keep(answer.body, answer.headers)
                await send_answer(self._send, answer.status, [*answer.headers, *_turnout_headers(bill)], answer.body)
        finally:  # whatever became of the agent; and it does not wait for this
            caller.journey.succeed(candidate, answer.status)
        self._end()

    async def _pass_stream(self, stream: Stream, caller: Caller) -> None:
        bill = self._bill
        bill.started, bill.answered = True, stream.candidate
        await self._begin(stream)
        skip_preamble = self._told is Told.PREAMBLE
        idle, now = stream.candidate.route.idle_timeout, asyncio.get_running_loop().time
        spoke = looked = now()
        while True:
            ready, stream.ready = stream.ready, []
            out: list[bytes] = []
            at = now()
            if any(kind is not Kind.SILENT for kind, _ in ready):
                spoke = at
            if at - looked > LOOK_SECONDS:
                looked = at
                self._check()
            for number, (kind, event) in enumerate(ready):
                if kind is Kind.END:
                    rest = b"".join(out) + event.raw + b"".join(later.raw for _, later in ready[number + 1 :])
                    await self._finish(stream, caller, rest)
                    return
                if (kind is Kind.USAGE and not bill.asked.wants_usage) or (kind is Kind.PREAMBLE and skip_preamble):
                    continue
                self._tell(kind)
                out.append(event.raw)
            if out:
                part = b"".join(out)
                self._keep(part, stream.headers)
                await self._send({"type": "http.response.body", "body": part, "more_body": True})
            if stream.over:
                raise RouteFailed("the stream broke off before its end", answered=200, sent=True)
            if at - spoke > idle * MOST_SILENCES:
                raise RouteFailed("nothing but pings for too long", answered=200, sent=True, timeout=True)
            await stream.read(idle)

    async def _begin(self, stream: Stream) -> None:
        if self.begun:
            return
        bill = self._bill
        self.begun, bill.status = True, stream.response.status
        bill.first_chunk = asyncio.get_running_loop().time() - bill.began
        headers = [*stream.headers, *_turnout_headers(bill)]
        await self._send({"type": "http.response.start", "status": bill.status, "headers": headers})

    async def _finish(self, stream: Stream, caller: Caller, rest: bytes) -> None:
        caller.journey.succeed(stream.candidate, stream.response.status)
        self.presence.stop()
        self._bill.whole, self._bill.ended = True, Ended.DONE
        self._note(stream)
        self._keep(rest, stream.headers)
        await self._send({"type": "http.response.body", "body": rest})
        self._end()

    def _keep(self, part: bytes, headers: RawHeaders) -> None:
        if self._bill.kept is not None:
            self._bill.kept.add(part, dict(headers).get(b"content-type", b""))

    def _note(self, stream: Stream) -> None:
        bill, reader = self._bill, stream.reader
        bill.usage, bill.answered_by, bill.terms = reader.usage, reader.model, reader.terms
        bill.seen_out = reader.estimate_out()

    def _tell(self, kind: Kind) -> None:
        if kind is Kind.PREAMBLE:
            self._told = max(self._told, Told.PREAMBLE)
        elif kind is not Kind.SILENT:
            self._told = Told.CONTENT

    def _end(self) -> None:
        self.over = True
        # In the next turn of the event loop: what was sent leaves the process at the end of this one.
        asyncio.get_running_loop().call_soon(self._close)


def _turnout_headers(bill: Bill) -> RawHeaders:
    headers = [(b"x-turnout-call", bill.id.encode())]
    if bill.answered is not None:
        headers.append((b"x-turnout-route", bill.answered.name.encode("ascii", "replace")))
    return headers


def _is_json(headers: RawHeaders) -> bool:
    return any(name == b"content-type" and b"json" in value for name, value in headers)
