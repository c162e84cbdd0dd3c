"""/healthz and /v1/instance."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from turnout import __version__
from turnout.api.auth import Authenticated
from turnout.api.document import build_document
from turnout.schemas import CollectionView, InstanceView
from turnout.services import storage

router = APIRouter(tags=["instance"])


class GarbageBody(BaseModel):
    """How to collect."""

    model_config = ConfigDict(extra="forbid")

    dry_run: bool = Field(default=False, description="say what would be removed, and remove nothing")


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """Whether the server answers. Needs no token and tells nothing else."""
    return {"status": "ok"}


@router.get("/v1/openapi.json")
def show_openapi(call: Authenticated, request: Request) -> dict[str, Any]:  # noqa: ARG001
    """This API as an OpenAPI document."""
    return build_document(request.app)


@router.post("/v1/garbage")
def collect_garbage(body: GarbageBody, call: Authenticated) -> CollectionView:
    """Remove from the artifact store what no version, ring, deployment or push needs."""
    return storage.collect_garbage(call.office, call.actor, dry_run=body.dry_run)


@router.get("/v1/instance")
def show_instance(call: Authenticated) -> InstanceView:
    """The instance, and who asks."""
    return {
        "version": __version__,
        "traffic": call.office.traffic_url,
        "actor": call.actor.name,
        "role": call.actor.role.value,
        "gateway": call.office.gateway(),
    }
