"""/v1/keys: whose signatures under attestations count."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from turnout.api.auth import Authenticated
from turnout.schemas import KeyList, KeyView
from turnout.services import keys as services

router = APIRouter(prefix="/v1/keys", tags=["keys"])


class KeyBody(BaseModel):
    """A public key, as `turnout keys export` writes it."""

    model_config = ConfigDict(extra="forbid")

    public_key: str = Field(description="the file of the public key, as text", max_length=64 << 10)
    instance: bool = Field(default=False, description="it belongs to an instance, which attests what others decided")


@router.get("")
def list_keys(call: Authenticated) -> KeyList:
    """All keys that are or were trusted."""
    return services.list_keys(call.office, call.actor)


@router.post("", status_code=201)
def trust_key(body: KeyBody, call: Authenticated) -> KeyView:
    """Trust a key from now on."""
    return services.trust_key(call.office, call.actor, body.public_key.encode(), instance=body.instance)


@router.delete("/{keyid}", status_code=204)
def revoke_key(keyid: str, call: Authenticated) -> Response:
    """Trust a key no longer, nor anything that it signed."""
    services.revoke_key(call.office, call.actor, keyid)
    return Response(status_code=204)
