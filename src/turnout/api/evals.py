"""/v1/agents/{agent}/evals: what suites found."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from turnout.api.auth import Authenticated
from turnout.schemas import EvalReportView, EvalRunList, EvalRunView
from turnout.services import evals as services

router = APIRouter(prefix="/v1/agents/{agent}", tags=["evals"])


class ReportBody(BaseModel):
    """The report of a suite."""

    model_config = ConfigDict(extra="forbid")

    document: str = Field(description="the report, as text; the run has the digest of exactly these bytes")


@router.post("/releases/{ref}/evals")
def record_report(agent: str, ref: str, body: ReportBody, call: Authenticated) -> EvalRunView:
    """Keep the report of a suite for a release. The verdict is made from its runs."""
    return services.record_report(call.office, call.actor, agent, ref, body.document.encode())


@router.get("/evals")
def list_runs(
    agent: str,
    call: Authenticated,
    release: str | None = None,
    suite: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> EvalRunList:
    """Runs of suites, newest first."""
    return services.list_runs(call.office, call.actor, agent, release, suite, limit)


@router.get("/evals/{run}")
def show_run(agent: str, run: str, call: Authenticated) -> EvalReportView:
    """One run with its report."""
    return services.show_run(call.office, call.actor, agent, run)
