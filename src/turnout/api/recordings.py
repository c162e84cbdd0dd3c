"""/v1/agents/{agent}/recordings: tasks that are kept for replay."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from turnout.api.auth import Authenticated
from turnout.schemas import RecordingList, RecordingView
from turnout.services import recordings as services
from turnout.services.recordings import RecordingFilter

router = APIRouter(prefix="/v1/agents/{agent}/recordings", tags=["recordings"])


class KeepBody(BaseModel):
    """A task to record."""

    model_config = ConfigDict(extra="forbid")

    task: str = Field(min_length=1, max_length=256)
    ring: str | None = Field(default=None, max_length=64, description="the ring it came to, where it came to several")


@router.get("")
def list_recordings(
    agent: str,
    call: Authenticated,
    ring: str | None = None,
    release: Annotated[str | None, Query(description="version, digest or ring:NAME")] = None,
    task: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    skip: Annotated[int, Query(ge=0, le=1_000_000, description="so many of the newest")] = 0,
) -> RecordingList:
    """Recordings, newest first, each with why it cannot be replayed."""
    return services.list_recordings(call.office, call.actor, agent, RecordingFilter(ring, release, task, limit, skip))


@router.post("")
def keep_recording(agent: str, body: KeepBody, call: Authenticated) -> RecordingView:
    """Record a task now, whatever the sample of its ring."""
    return services.keep_recording(call.office, call.actor, agent, body.task, body.ring)


@router.get("/{document}", response_class=Response, responses={200: {"content": {"application/json": {}}}})
def read_recording(agent: str, document: str, call: Authenticated) -> Response:
    """The document of a recording, byte for byte as its digest says."""
    content = services.read_recording(call.office, call.actor, agent, document)
    return Response(content, media_type="application/json")


@router.delete("/{document}", status_code=204)
def delete_recording(agent: str, document: str, call: Authenticated) -> Response:
    """Forget a recording and its document."""
    services.delete_recording(call.office, call.actor, agent, document)
    return Response(status_code=204)
