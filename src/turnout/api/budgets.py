"""/v1/budgets: what is spent, and the limits of the instance."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from turnout.api.auth import Authenticated
from turnout.schemas import BudgetList, BudgetView
from turnout.services import budgets as services
from turnout.services.budgets import BudgetWish

router = APIRouter(prefix="/v1/budgets", tags=["budgets"])


class BudgetBody(BaseModel):
    """A budget of the instance. Without an agent it is one for everything that runs here."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    limit: float = Field(description="in dollars, tokens or calls")
    window: float = Field(description="in seconds")
    unit: str = Field(default="usd", max_length=16, description="usd, tokens or calls")
    agent: str | None = Field(default=None, max_length=64)
    ring: str | None = Field(default=None, max_length=64)


@router.get("")
def list_budgets(call: Authenticated) -> BudgetList:
    """The budgets of the instance and of the releases in use, and what every account holds and has settled."""
    return services.list_budgets(call.office, call.actor)


@router.put("")
def set_budget(body: BudgetBody, call: Authenticated) -> BudgetView:
    """Set a budget of the instance, or its limit anew."""
    wish = BudgetWish(body.unit, body.window, body.limit, body.agent, body.ring)
    return services.set_budget(call.office, call.actor, wish)


@router.delete("", status_code=204)
def unset_budget(
    call: Authenticated,
    window: Annotated[float, Query(allow_inf_nan=False, description="in seconds")],
    unit: Annotated[str, Query(max_length=16)] = "usd",
    agent: Annotated[str | None, Query(max_length=64)] = None,
    ring: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Forget a budget of the instance."""
    services.unset_budget(call.office, call.actor, BudgetWish(unit, window, agent=agent, ring=ring))
    return Response(status_code=204)
