"""Server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from itertools import chain, repeat

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from turnout.schemas import LogLine
from turnout.services import agents, deployments
from turnout.services.logs import LogTail
from turnout.services.office import Actor, Office

_LOOK_SECONDS = (0.01, 0.02, 0.04)  # soon at first, for what is over in a moment; the last again and again
_LOOK_LOGS_SECONDS = 0.25


def stream(events: AsyncIterator[tuple[str, object]]) -> StreamingResponse:
    """(event, data) pairs as text/event-stream."""

    async def encode() -> AsyncIterator[bytes]:
        async for name, data in events:
            yield f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()

    return StreamingResponse(encode(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def follow_deployment(
    office: Office, actor: Actor, deployment_id: str, request: Request
) -> AsyncIterator[tuple[str, object]]:
    """Every event of a deployment; when it is over, or active and routed, `settled` with the deployment, and the end."""
    after = 0
    pauses = chain(_LOOK_SECONDS, repeat(_LOOK_SECONDS[-1]))
    while not await request.is_disconnected():
        shown = await run_in_threadpool(deployments.show_deployment, office, actor, deployment_id)
        found = await run_in_threadpool(
            partial(agents.list_events, office, actor, deployment=deployment_id, after=after, limit=1000)
        )
        for event in found["events"]:
            after = event["seq"]
            yield event["type"], event
        if await run_in_threadpool(deployments.is_settled, office, shown):
            yield "settled", shown
            return
        await asyncio.sleep(next(pauses))


async def follow_lines(tail: LogTail, request: Request, *, follow: bool) -> AsyncIterator[LogLine]:
    """The lines of a log, and with `follow` what is added until the caller leaves."""
    while True:
        for line in await run_in_threadpool(lambda: list(tail.read())):
            yield line
        if not follow or await request.is_disconnected():
            return
        await asyncio.sleep(_LOOK_LOGS_SECONDS)
