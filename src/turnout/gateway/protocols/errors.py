"""Errors as the protocols of models tell them: bodies of answers, and events in a stream."""

from __future__ import annotations

import json
from dataclasses import dataclass

from turnout.gateway.protocols.endpoints import Endpoint
from turnout.gateway.values import Protocol

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


@dataclass(frozen=True, slots=True)
class Problem:
    """What an agent is told. `retry`: whether its SDK may try the same again; `retry_after` in seconds."""

    status: int
    code: str
    message: str
    retry: bool = False
    retry_after: float | None = None


def error_body(protocol: Protocol, problem: Problem) -> bytes:
    """The body of an answer."""
    return json.dumps(_error(protocol, problem), ensure_ascii=False).encode()


def error_event(endpoint: Endpoint, problem: Problem) -> bytes:
    """The event that ends a stream which did not come to its end."""
    if endpoint is Endpoint.RESPONSES:
        error = {"code": problem.code, "message": problem.message, "param": None}
        # The official clients look for `error`, the description of the protocol has its members beside the type.
        data = {"type": "error", **error, "error": {**error, "type": _openai_type(problem)}}
        return b"event: error\ndata: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"
    name = b"event: error\n" if endpoint is Endpoint.MESSAGES else b""
    return name + b"data: " + error_body(endpoint.protocol, problem) + b"\n\n"


def _error(protocol: Protocol, problem: Problem) -> dict[str, object]:
    if protocol is Protocol.ANTHROPIC:
        kind = _ANTHROPIC_TYPES.get(problem.status, "api_error" if problem.status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": problem.message}}
    error = {"message": problem.message, "type": _openai_type(problem), "param": None, "code": problem.code}
    return {"error": error}


def _openai_type(problem: Problem) -> str:
    if problem.code == "budget_exceeded":
        return "insufficient_quota"
    return _OPENAI_TYPES.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request_error")
