"""/healthz and /v1/instance."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from turnout import __version__
from turnout.api.auth import Authenticated
from turnout.api.document import build_document
from turnout.schemas import InstanceView

router = APIRouter(tags=["instance"])


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """Whether the server answers. Needs no token and tells nothing else."""
    return {"status": "ok"}


@router.get("/v1/openapi.json")
def show_openapi(call: Authenticated, request: Request) -> dict[str, Any]:  # noqa: ARG001
    """This API as an OpenAPI document."""
    return build_document(request.app)


@router.get("/v1/instance")
def show_instance(call: Authenticated) -> InstanceView:
    """The instance, and who asks."""
    return {
        "version": __version__,
        "traffic": call.office.traffic_url,
        "actor": call.actor.name,
        "role": call.actor.role.value,
    }
