"""Breakers: how each stands, and letting calls through again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from turnout.api.auth import Authenticated
from turnout.domain.models import Digest
from turnout.schemas import BreakerList
from turnout.services import breakers as services
from turnout.services.breakers import Reset

router = APIRouter(prefix="/v1", tags=["breakers"])


class ResetBody(BaseModel):
    """Which breakers of a ring to reset: all that are open, or those of a metric or release."""

    model_config = ConfigDict(extra="forbid")

    half_open: bool = Field(default=False, description="on trial: one fault opens it again")
    metric: str | None = Field(default=None, max_length=32)
    release: str | None = Field(default=None, pattern="sha256:[0-9a-f]{64}", description="a digest")
    reason: str = Field(default="", max_length=1_000)


@router.get("/breakers")
def list_breakers(call: Authenticated, agent: Annotated[str | None, Query(max_length=64)] = None) -> BreakerList:
    """Every breaker that a ring declares or that is open, with what it sees now and what it tripped with."""
    return services.list_breakers(call.office, call.actor, agent)


@router.post("/agents/{agent}/rings/{ring}/breakers")
def reset_breakers(agent: str, ring: str, body: ResetBody, call: Authenticated) -> BreakerList:
    """Let calls of a release through again: closed, counting anew from now on, or half open."""
    release = Digest(body.release) if body.release is not None else None
    wish = Reset(body.metric, release, body.half_open, body.reason)
    return services.reset_breakers(call.office, call.actor, agent, ring, wish)
