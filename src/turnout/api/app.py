"""The application: its routes, and errors as problem+json (RFC 9457)."""

from __future__ import annotations

import logging
import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from turnout import __version__
from turnout.api import (
    agents,
    alerts,
    breakers,
    budgets,
    deployments,
    evals,
    incidents,
    instance,
    keys,
    metrics,
    otlp,
    outcomes,
    recordings,
    releases,
    replays,
    rollouts,
    tasks,
    tokens,
)
from turnout.api.document import build_document
from turnout.api.limits import BodyLimit
from turnout.api.rates import ReportRate
from turnout.domain.errors import ManifestError, TooManyRequests, TurnoutError
from turnout.services.office import Office
from turnout.services.together import WrittenTogether

log = logging.getLogger(__name__)


def create_app(office: Office) -> FastAPI:
    """The API over an office."""
    app = FastAPI(
        title="turnout",
        version=__version__,
        description="Release platform for AI agents. Every endpoint but /healthz needs a bearer token.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # served by `instance.py`, to those who have a token
    )
    app.state.office = office
    app.state.rate = ReportRate()
    app.state.written = WrittenTogether(office.store) if office else None  # without one for the documents
    app.openapi = lambda: build_document(app)  # type: ignore[method-assign]
    app.add_middleware(BodyLimit)
    rooms = (instance, metrics, agents, releases, deployments, incidents, rollouts, outcomes, otlp, tasks, alerts)
    for room in (*rooms, evals, replays, recordings, breakers, budgets, tokens, keys):
        app.include_router(room.router)
    app.add_exception_handler(TurnoutError, _show_error)
    app.add_exception_handler(RequestValidationError, _show_invalid)
    app.add_exception_handler(HTTPException, _show_http)
    app.add_exception_handler(Exception, _show_unexpected)
    return app


def _show_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TurnoutError)  # noqa: S101  (registered for it)
    problems = error.problems if isinstance(error, ManifestError) else ()
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
    if isinstance(error, TooManyRequests):
        headers = {"Retry-After": str(math.ceil(error.retry_after))}
    return _problem(error.status, error.code, error.message, hint=error.hint, problems=problems, headers=headers)


def _show_invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101  (registered for it)
    problems = tuple(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors())
    return _problem(422, "invalid_request", "the request is not understood", problems=problems)


def _show_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  (registered for it)
    code = "not_found" if error.status_code == 404 else "invalid_request"
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return _problem(error.status_code, code, detail, headers=dict(error.headers or {}))


def _show_unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _problem(500, "internal", "turnout met a fault of its own", hint="the server's log has the details")


def _problem(
    status: int,
    code: str,
    detail: str,
    *,
    hint: str | None = None,
    problems: tuple[str, ...] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    body: dict[str, Any] = {
        "type": f"urn:turnout:problem:{code}",
        "title": code.replace("_", " "),
        "status": status,
        "detail": detail,
    }
    if hint:
        body["hint"] = hint
    if problems:
        body["problems"] = list(problems)
    return JSONResponse(body, status, headers, media_type="application/problem+json")
