"""What became of tasks: one report, or a batch of them. Reports are idempotent by nature: a repeated one changes nothing."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from turnout.api.auth import Authenticated
from turnout.api.rates import ReportRate
from turnout.domain.outcomes import LARGEST_COST, Outcome, Source
from turnout.manifest.values import AgentName, RingName
from turnout.schemas import TakenList, TakenView
from turnout.services import outcomes as services
from turnout.services.together import MOST_AT_ONCE, WrittenTogether

router = APIRouter(prefix="/v1", tags=["outcomes"])


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("expected a text without the character NUL")
    return text


PlainText = Annotated[str, AfterValidator(_without_nul)]


class OutcomeBody(BaseModel):
    """What became of a task. What is left out is not known. Cost in the currency in which ceilings are given."""

    model_config = ConfigDict(extra="forbid", strict=True)

    success: bool | None = None
    intervention: bool | None = Field(default=None, description="a person took over, corrected or rejected")
    cost: float | None = Field(default=None, ge=0, le=LARGEST_COST, allow_inf_nan=False)
    detail: PlainText = Field(default="", max_length=1_000, description="for people, such as why it failed")
    agent: AgentName | None = Field(default=None, description="where the task was; a task of another does not count")
    ring: RingName | None = None

    def outcome(self, task: str) -> Outcome:
        """As a report; who says so and when is known to the service."""
        return Outcome(
            task,
            Source.REPORT,
            0.0,
            None if self.success is None else not self.success,
            self.intervention,
            self.cost,
            detail=self.detail,
            agent=self.agent,
            ring=self.ring,
        )


class TaskOutcome(OutcomeBody):
    """A report of a batch."""

    task: PlainText = Field(min_length=1, max_length=256)


class BatchBody(BaseModel):
    """Reports, of which each is taken or refused on its own."""

    model_config = ConfigDict(extra="forbid")

    outcomes: list[dict[str, Any]] = Field(
        max_length=MOST_AT_ONCE, description="each with `task`, and as the body of a single report"
    )


@router.post("/tasks/{task:path}/outcome")
def report_outcome(task: PlainText, body: OutcomeBody, call: Authenticated, request: Request) -> TakenView:
    """Say what became of a task: `state` and `message` tell whether it counts."""
    rate_of(request).spend(call.actor.name, 1)
    return services.report_one(call.office, call.actor, body.outcome(task), written_of(request))


@router.post("/outcomes")
def report_outcomes(body: BatchBody, call: Authenticated, request: Request) -> TakenList:
    """Say what became of many tasks: an answer for each, in order; those with the state `invalid` were not taken."""
    rate_of(request).spend(call.actor.name, len(body.outcomes))
    said = [_read(item) for item in body.outcomes]
    return services.report_many(call.office, call.actor, said, written_of(request))


def rate_of(request: Request) -> ReportRate:
    """The buckets of this server."""
    rate = request.app.state.rate
    assert isinstance(rate, ReportRate)  # noqa: S101  (set where the application is made)
    return rate


def written_of(request: Request) -> WrittenTogether:
    """Through which this server writes the reports of all callers."""
    written = request.app.state.written
    assert isinstance(written, WrittenTogether)  # noqa: S101  (set where the application is made)
    return written


def _read(item: dict[str, Any]) -> Outcome | str:
    try:
        body = TaskOutcome.model_validate(item)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        return "; ".join(f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in faults[:5])
    return body.outcome(body.task)
