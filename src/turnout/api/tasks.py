"""Tasks: which requests came, and from one of them back to everything that answered it."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from turnout.api.auth import Authenticated
from turnout.schemas import LineageView, TaskList
from turnout.services import lineage
from turnout.services import tasks as services
from turnout.services.tasks import TaskFilter

router = APIRouter(prefix="/v1/tasks", tags=["tasks"])


@router.get("")
def list_tasks(
    call: Authenticated,
    agent: str | None = None,
    ring: str | None = None,
    release: Annotated[str | None, Query(description="version or digest; without an agent a whole digest")] = None,
    arm: Literal["stable", "candidate"] | None = None,
    rollout: Annotated[str | None, Query(description="a deployment's id")] = None,
    failed: Annotated[
        bool | None, Query(description="a status of 500 and more, or an outcome that is a failure; false: the others")
    ] = None,
    since: Annotated[str | None, Query(description="ISO 8601, or how long ago, such as 2h")] = None,
    until: Annotated[str | None, Query(description="as since; not included itself")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=200, description="`next` of the page before")] = None,
) -> TaskList:
    """Requests that were served, newest first, with what became of their tasks."""
    wanted = TaskFilter(agent, ring, release, arm, rollout, failed, since, until, limit, cursor)
    return services.list_tasks(call.office, call.actor, wanted)


@router.get("/{task:path}")
def show_lineage(task: str, call: Authenticated) -> LineageView:
    """From a task, or one of its requests, back to release, prompts, config, approvals, verdict and outcome."""
    return lineage.trace_task(call.office, call.actor, task)
