"""/v1/alerts: whom this instance tells, how far each is, and sending again."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from turnout.alerts import desk
from turnout.api.auth import Authenticated
from turnout.domain.policy import Verb
from turnout.schemas import AlertAsked, AlertList

router = APIRouter(prefix="/v1/alerts", tags=["alerts"])


class ReplayBody(BaseModel):
    """From where to send again."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(ge=0, description="sequence number of the last event that is not sent again")


@router.get("")
def list_alerts(call: Authenticated) -> AlertList:
    """Every target of alerts: how far it is behind, and what went wrong last."""
    call.actor.check(Verb.ADMINISTER)
    return desk.list_targets(call.office.store, call.office.clock.now())


@router.post("/{name}/replay", status_code=202, response_model=AlertAsked)
def replay(name: str, body: ReplayBody, call: Authenticated) -> Response:
    """Send a target again everything that it wants after an event."""
    call.actor.check(Verb.ADMINISTER)
    return call.once(lambda office: desk.replay(office.store, name, body.after), 202)


@router.post("/{name}/test", status_code=202, response_model=AlertAsked)
def send_test(name: str, call: Authenticated) -> Response:
    """Send a target a message that says that nothing happened; the list tells what became of it."""
    call.actor.check(Verb.ADMINISTER)
    return call.once(lambda office: desk.send_test(office.store, name), 202)
