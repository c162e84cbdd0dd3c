"""/v1/deployments, and what starts them: deployments, promotions and rollbacks of a ring."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from turnout.api.auth import Authenticated
from turnout.api.stream import follow_deployment, stream
from turnout.domain.errors import InvalidRequest
from turnout.domain.models import ComponentRef, Digest, Release
from turnout.manifest.config import parse_config
from turnout.schemas import DeploymentList, DeploymentView, PreviewView
from turnout.services import deployments as services
from turnout.services import rollbacks
from turnout.services.deployments import Wish
from turnout.services.rollbacks import RollbackWish

router = APIRouter(prefix="/v1", tags=["deployments"])


class UnpushedBody(BaseModel):
    """A release that was built and not pushed yet, for a dry run."""

    model_config = ConfigDict(extra="forbid")

    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    components: dict[str, str] = Field(description="component name → digest")
    config: dict[str, Any] = Field(description="the config component")
    version: str


class DeployBody(BaseModel):
    """A release to deploy to the first ring."""

    model_config = ConfigDict(extra="forbid")

    release: str | None = None
    override: str | None = Field(default=None, min_length=1, max_length=1000)
    reason: str = Field(default="", max_length=1000)
    force: bool = False
    dry_run: bool = False
    unpushed: UnpushedBody | None = None


class PromoteBody(BaseModel):
    """A promotion: what is active in the ring `source` goes on, or the named release if it is that."""

    model_config = ConfigDict(extra="forbid")

    source: str
    release: str | None = None
    override: str | None = Field(default=None, min_length=1, max_length=1000)
    reason: str = Field(default="", max_length=1000)
    force: bool = False
    dry_run: bool = False


class RollbackBody(BaseModel):
    """A rollback: to last-good, or to a version that was active before."""

    model_config = ConfigDict(extra="forbid")

    version: str | None = None
    leaving: str | None = Field(default=None, description="digest that must still be in the traffic, or 409")
    override: str | None = Field(default=None, min_length=1, max_length=1000)
    reason: str = Field(default="", max_length=1000)
    quarantine: bool = True
    dry_run: bool = False


@router.get("/deployments")
def list_deployments(
    call: Authenticated,
    agent: str | None = None,
    ring: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> DeploymentList:
    """Deployments, newest first."""
    return services.list_deployments(call.office, call.actor, agent, ring, limit)


@router.get("/deployments/{deployment}")
def show_deployment(deployment: str, call: Authenticated) -> DeploymentView:
    """One deployment with its transitions."""
    return services.show_deployment(call.office, call.actor, deployment)


@router.get("/deployments/{deployment}/events", response_class=StreamingResponse)
def follow(deployment: str, call: Authenticated, request: Request) -> StreamingResponse:
    """Server-sent events of a deployment until it is settled; the last is `settled` with the deployment."""
    services.show_deployment(call.office, call.actor, deployment)  # a wrong id is an answer, not a stream
    return stream(follow_deployment(call.office, call.actor, deployment, request))


@router.post("/agents/{agent}/rings/{ring}/deployments", status_code=202, response_model=DeploymentView | PreviewView)
def deploy(agent: str, ring: str, body: DeployBody, call: Authenticated) -> Response | PreviewView:
    """Deploy a release to the first ring."""
    wish = Wish(agent, ring, body.release, None, body.override, body.reason, body.force)
    if not body.dry_run:
        return call.once(lambda office: services.deploy(office, call.actor, wish), 202)
    unpushed = _unpushed(agent, body.unpushed, call) if body.unpushed else None
    return services.preview(call.office, call.actor, wish, unpushed)


@router.post("/agents/{agent}/rings/{ring}/promotions", status_code=202, response_model=DeploymentView | PreviewView)
def promote(agent: str, ring: str, body: PromoteBody, call: Authenticated) -> Response | PreviewView:
    """Promote the release of another ring."""
    wish = Wish(agent, ring, body.release, body.source, body.override, body.reason, body.force)
    if body.dry_run:
        return services.preview(call.office, call.actor, wish)
    return call.once(lambda office: services.deploy(office, call.actor, wish), 202)


@router.post("/agents/{agent}/rings/{ring}/rollbacks", status_code=202, response_model=DeploymentView | PreviewView)
def roll_back(agent: str, ring: str, body: RollbackBody, call: Authenticated) -> Response | PreviewView:
    """Undo the last change of a ring."""
    wish = RollbackWish(
        agent, ring, body.version, body.leaving, body.override, reason=body.reason, quarantine=body.quarantine
    )
    if body.dry_run:
        return rollbacks.preview_rollback(call.office, call.actor, wish)
    return call.once(lambda office: rollbacks.roll_back(office, call.actor, wish), 202)


def _unpushed(agent: str, body: UnpushedBody, call: Authenticated) -> Release:
    spec = parse_config(json.dumps(body.config).encode())
    if spec.agent != agent:
        raise InvalidRequest(f"the release is of agent {spec.agent}, not of {agent}")
    refs = {name: ComponentRef(Digest(digest), "", 0) for name, digest in body.components.items()}
    now = call.office.clock.now()
    return Release(Digest(body.digest), agent, body.version, refs, spec, call.actor.name, now)
