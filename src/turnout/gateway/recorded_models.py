"""Models in a replay: an ASGI application that answers calls with the bytes that were recorded of their task.

Requests are known by their endpoint and by the digest of what they ask for. One that was not recorded is refused in the
protocol of its provider, and goes nowhere.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

from turnout.domain.budget import NANOS
from turnout.domain.calls import Ended, ModelCall
from turnout.domain.errors import CallRefused
from turnout.domain.grants import Grant
from turnout.domain.recordings import RecordedModel
from turnout.domain.replays import Divergence
from turnout.gateway.admission import find_grant, find_task
from turnout.gateway.asgi import (
    Application,
    Receive,
    Room,
    Scope,
    Send,
    Share,
    read_body,
    read_head,
    send_answer,
    send_problem,
)
from turnout.gateway.choice import find_pins
from turnout.gateway.kept_answer import request_digest
from turnout.gateway.listing import answer_elsewhere
from turnout.gateway.model_app import LARGEST_BODY, problem_of
from turnout.gateway.protocols.endpoints import BY_PATH, Endpoint
from turnout.gateway.protocols.errors import Problem
from turnout.gateway.requests import Asked, read_request
from turnout.gateway.seams import GrantSource
from turnout.gateway.tasks import TASK_HEADER
from turnout.playback import NO_TASK, Playback


@dataclass(frozen=True, slots=True)
class RecordedModels:
    """The application. `clock` gives seconds since the epoch."""

    grants: GrantSource
    playback: Playback
    clock: Callable[[], float]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            endpoint = BY_PATH.get(scope["path"])
            if endpoint is None or scope["method"] != "POST":
                await answer_elsewhere(scope, send, self.grants)
            else:
                await self._answer(endpoint, scope, receive, send)

    async def _answer(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            head = read_head(scope)
            grant = find_grant(head, self.grants)
            told = find_task(head)
            task = self.playback.find(told)
            body = await read_body(receive, head, LARGEST_BODY, Share(Room(LARGEST_BODY)))
            if body is None:
                return
            asked = read_request(endpoint, body)
            find_pins(grant, asked.model)
        except CallRefused as refusal:
            await send_problem(send, endpoint.protocol, problem_of(refusal))
            return
        with self.playback.calling(task):
            await self._play(send, grant, asked, task, told)

    async def _play(self, send: Send, grant: Grant, asked: Asked, task: str | None, told: str | None) -> None:
        at, began = self.clock(), asyncio.get_running_loop().time()
        digest, protocol = request_digest(asked.body), asked.endpoint.protocol
        found = None
        if task is not None:
            found = self.playback.model_call(task, asked.endpoint, digest, stream=asked.stream)
        seconds = asyncio.get_running_loop().time() - began
        call = _call(grant, asked, task, digest, at, seconds)
        if found is None:
            why = NO_TASK if task is None else "the recording holds no such request"
            self.playback.diverged(task or told, Divergence("model", asked.model, why, f"sha256 {digest[:12]}"))
            self.playback.write(replace(call, ended=Ended.REFUSED, status=409, error=f"not_recorded: {why}"))
            await send_problem(send, protocol, Problem(409, "not_recorded", f"this is a replay: {why}"))
            return
        self.playback.write(_as_recorded(call, found))
        if found.ended is not Ended.DONE or found.answer is None:
            status = found.status if found.status >= 400 else 502
            problem = Problem(status, "recorded_failure", "this call failed when it was recorded", retry=status >= 500)
            await send_problem(send, protocol, problem)
            return
        headers = [(b"content-type", found.content_type.encode("latin-1", "replace"))]
        await send_answer(send, found.status, headers, found.answer.encode(errors="replace"))


def follow(app: Application, playback: Playback) -> Application:
    """An application that asks real models, in a replay: its calls belong to tasks that are under way."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        try:
            told = find_task(read_head(scope))
        except CallRefused:
            told = None  # the application says so
        known = playback.find(told)
        if told is None and known is not None:
            header = (TASK_HEADER.encode(), known.encode())
            scope = {**scope, "headers": [*scope["headers"], header]}
        with playback.calling(known):
            await app(scope, receive, send)

    return answer


def _call(grant: Grant, asked: Asked, task: str | None, digest: str, at: float, seconds: float) -> ModelCall:
    return ModelCall(
        id=uuid.uuid4().hex,
        at=at,
        duration=seconds,
        agent=grant.agent,
        ring=grant.ring,
        release=grant.release,
        task=task,
        endpoint=asked.endpoint,
        provider=find_pins(grant, asked.model)[0].provider,
        model=asked.model,
        stream=asked.stream,
        request_digest=digest,
    )


def _as_recorded(call: ModelCall, found: RecordedModel) -> ModelCall:
    """What it cost and took then is what it costs and takes now."""
    return replace(
        call,
        duration=found.duration,
        status=found.status,
        ended=found.ended,
        tokens_in=found.tokens_in,
        tokens_out=found.tokens_out,
        nanos=round(found.cost * NANOS),
        answer=found.answer,
        content_type=found.content_type,
    )


async def _live(receive: Receive, send: Send) -> None:
    while (message := await receive())["type"] != "lifespan.shutdown":
        await send({"type": f"{message['type']}.complete"})
    await send({"type": "lifespan.shutdown.complete"})
