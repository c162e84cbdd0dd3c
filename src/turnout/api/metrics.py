"""/metrics for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from turnout.alerts import desk
from turnout.api.auth import Authenticated
from turnout.services import metrics

router = APIRouter(tags=["instance"])


@router.get("/metrics", response_class=Response, responses={200: {"content": {metrics.CONTENT_TYPE: {}}}})
def show_metrics(call: Authenticated) -> Response:
    """The state of the instance in the text format of Prometheus."""
    alerts = desk.list_targets(call.office.store, call.office.clock.now())["alerts"]
    return Response(metrics.render(call.office, call.actor, alerts), media_type=metrics.CONTENT_TYPE)
