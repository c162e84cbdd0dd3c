"""/v1/deployments/{deployment}/why: what happened to a deployment, on one page."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from turnout.alerts.page import build_page
from turnout.alerts.page_html import CONTENT_POLICY, build_html_page
from turnout.api.auth import Authenticated
from turnout.schemas import WhyView
from turnout.services.incidents import why

router = APIRouter(prefix="/v1", tags=["deployments"])


@router.get("/deployments/{deployment}/why", response_model=WhyView)
def explain(
    deployment: str,
    call: Authenticated,
    page: Annotated[Literal["json", "text", "html"], Query(description="how it is written")] = "json",
) -> Response:
    """Why a deployment is where it is: what decided, the evidence, what differs, what was done and what to do next."""
    view = why(call.office, call.actor, deployment)
    if page == "text":
        return PlainTextResponse(build_page(view))
    if page == "html":
        headers = {"Content-Security-Policy": CONTENT_POLICY, "X-Content-Type-Options": "nosniff"}
        return HTMLResponse(build_html_page(view), headers=headers)
    return JSONResponse(view)
