"""/v1/tokens: who may speak to the API."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from turnout.api.auth import Authenticated
from turnout.schemas import TokenList, TokenView
from turnout.services import tokens as services

router = APIRouter(prefix="/v1/tokens", tags=["tokens"])


class TokenBody(BaseModel):
    """A token to make."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=128)
    role: str


@router.get("")
def list_tokens(call: Authenticated) -> TokenList:
    """All tokens, without their text."""
    return services.list_tokens(call.office, call.actor)


@router.post("", status_code=201)
def create_token(body: TokenBody, call: Authenticated) -> TokenView:
    """Make a token; its text is in this answer only, so the answer is not recorded for an idempotency key."""
    return services.create_token(call.office, call.actor, body.name, body.role)


@router.delete("/{name}", status_code=204)
def revoke_token(name: str, call: Authenticated) -> Response:
    """Forget a token."""
    services.revoke_token(call.office, call.actor, name)
    return Response(status_code=204)
