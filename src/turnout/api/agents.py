"""/v1/agents: what is where, what happened, what the replicas print."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from turnout.api.auth import Authenticated
from turnout.api.stream import follow_lines, stream
from turnout.schemas import AgentList, AgentView, EventList
from turnout.services import agents as services
from turnout.services.logs import open_logs

router = APIRouter(prefix="/v1", tags=["agents"])


@router.get("/agents")
def list_agents(call: Authenticated) -> AgentList:
    """All agents and their rings."""
    return services.list_agents(call.office, call.actor)


@router.get("/agents/{agent}")
def show_agent(agent: str, call: Authenticated) -> AgentView:
    """One agent and its rings in promotion order."""
    return services.show_agent(call.office, call.actor, agent)


@router.get("/events")
def list_events(
    call: Authenticated,
    agent: str | None = None,
    ring: str | None = None,
    deployment: str | None = None,
    after: Annotated[int, Query(ge=0)] = 0,
    newest_first: bool = False,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> EventList:
    """What happened; append-only, in order of `seq`."""
    return services.list_events(
        call.office,
        call.actor,
        agent=agent,
        ring=ring,
        deployment=deployment,
        after=after,
        newest_first=newest_first,
        limit=limit,
    )


@router.get("/agents/{agent}/rings/{ring}/logs", response_class=StreamingResponse)
def show_logs(
    agent: str,
    ring: str,
    call: Authenticated,
    request: Request,
    lines: Annotated[int, Query(ge=0, le=10_000)] = 100,
    follow: bool = False,
) -> StreamingResponse:
    """The last lines of a ring's replicas as server-sent events `line`; with `follow` also what comes."""
    tail = open_logs(call.office, call.actor, agent, ring, lines)

    async def events() -> AsyncIterator[tuple[str, object]]:
        async for line in follow_lines(tail, request, follow=follow):
            yield "line", line

    return stream(events())
