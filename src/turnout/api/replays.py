"""/v1/agents/{agent}/replays: what came of recorded tasks that were asked of another release."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from turnout.api.auth import Authenticated
from turnout.schemas import ReplayList, ReplayReportView, ReplayView
from turnout.services import replays as services

router = APIRouter(prefix="/v1/agents/{agent}/replays", tags=["replays"])


class ReplayBody(BaseModel):
    """The report of a replay."""

    model_config = ConfigDict(extra="forbid")

    document: str = Field(description="the report, as text; the replay has the digest of exactly these bytes")


@router.post("")
def record_replay(agent: str, body: ReplayBody, call: Authenticated) -> ReplayView:
    """Keep the report of a replay that was made elsewhere."""
    return services.record_replay(call.office, call.actor, agent, body.document.encode())


@router.get("")
def list_replays(
    agent: str,
    call: Authenticated,
    release: Annotated[str | None, Query(description="the candidate: version, digest or ring:NAME")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 50,
) -> ReplayList:
    """Replays, newest first."""
    return services.list_replays(call.office, call.actor, agent, release, limit)


@router.get("/{replay}")
def show_replay(agent: str, replay: str, call: Authenticated) -> ReplayReportView:
    """One replay with its report; `latest` is the newest."""
    return services.show_replay(call.office, call.actor, agent, replay)
