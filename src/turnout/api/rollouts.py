"""Approvals, and the rollout of a ring: look, plan, steer."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from turnout.api.auth import Authenticated
from turnout.schemas import ApprovalView, DeploymentView, RolloutPlanView, RolloutView
from turnout.services import approvals, rollbacks, rollouts

router = APIRouter(prefix="/v1/agents/{agent}/rings/{ring}", tags=["rollouts"])


class ApprovalBody(BaseModel):
    """A decision about a release; without a name, about the one that waits in the ring."""

    model_config = ConfigDict(extra="forbid")

    approved: bool
    release: str | None = None
    comment: str = Field(default="", max_length=1000)


class RolloutBody(BaseModel):
    """What to do with the deployment in progress."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["advance", "abort", "pause", "resume"]
    reason: str = Field(default="", max_length=1000)
    quarantine: bool = False


@router.post("/approvals", status_code=201, response_model=ApprovalView)
def decide(agent: str, ring: str, body: ApprovalBody, call: Authenticated) -> Response:
    """Approve or reject a release for a ring."""
    return call.once(
        lambda office: approvals.decide(
            office,
            call.actor,
            agent,
            ring,
            release=body.release,
            approved=body.approved,
            comment=body.comment,
        ),
        201,
    )


@router.get("/approvals")
def show_approvals(agent: str, ring: str, call: Authenticated, release: str | None = None) -> ApprovalView:
    """How the approvals of a release in a ring stand."""
    return approvals.show_approvals(call.office, call.actor, agent, ring, release)


@router.get("/rollout")
def show_rollout(agent: str, ring: str, call: Authenticated) -> RolloutView:
    """The rollout of a ring, and what its judge says."""
    return rollouts.show_rollout(call.office, call.actor, agent, ring)


@router.get("/rollout/plan")
def plan_rollout(agent: str, ring: str, call: Authenticated, release: str | None = None) -> RolloutPlanView:
    """What a rollout could tell, by the traffic of the last day."""
    return rollouts.plan_rollout(call.office, call.actor, agent, ring, release)


@router.post("/rollout", status_code=202, response_model=DeploymentView)
def steer(agent: str, ring: str, body: RolloutBody, call: Authenticated) -> Response:
    """Advance, abort, pause or resume the deployment in progress."""
    if body.action in ("pause", "resume"):
        paused = body.action == "pause"
        return call.once(lambda office: rollouts.pause(office, call.actor, agent, ring, paused=paused), 202)
    if body.action == "advance":
        return call.once(lambda office: rollouts.advance(office, call.actor, agent, ring), 202)
    return call.once(
        lambda office: rollbacks.abort(office, call.actor, agent, ring, reason=body.reason, quarantine=body.quarantine),
        202,
    )
