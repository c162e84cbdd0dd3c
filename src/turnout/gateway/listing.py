"""The list of models that a release may call, and every path that is no call."""

from __future__ import annotations

import json

from turnout.domain.errors import CallRefused
from turnout.domain.grants import Grant, ModelPin
from turnout.gateway.admission import find_grant
from turnout.gateway.asgi import Scope, Send, read_head, send_answer, send_problem
from turnout.gateway.protocols.endpoints import BY_PATH, MODELS_PATH
from turnout.gateway.protocols.errors import Problem
from turnout.gateway.seams import GrantSource
from turnout.gateway.values import Protocol

READY_PATH = "/-/ready"

_EPOCH = "1970-01-01T00:00:00Z"  # when a model was made is not known here


async def answer_elsewhere(scope: Scope, send: Send, grants: GrantSource) -> None:
    """Answer whatever is no call of a model."""
    path, method = scope["path"], scope["method"]
    names = {name for name, _ in scope["headers"]}
    protocol = Protocol.ANTHROPIC if b"anthropic-version" in names else Protocol.OPENAI
    if path == READY_PATH:
        await send_answer(send, 200, [(b"content-type", b"text/plain")], b"ready\n")
        return
    if path in BY_PATH:
        await send_problem(send, BY_PATH[path].protocol, Problem(405, "method_not_allowed", f"{path} takes POST alone"))
        return
    is_model = path.startswith(f"{MODELS_PATH}/")
    if method != "GET" or not (path == MODELS_PATH or is_model):
        offered = ", ".join((*BY_PATH, MODELS_PATH))
        problem = Problem(404, "unknown_path", f"there is no {method} {path[:100]} here; offered are {offered}")
        await send_problem(send, protocol, problem)
        return
    try:
        grant = find_grant(read_head(scope), grants)
        body = _one(grant, path.removeprefix(f"{MODELS_PATH}/"), protocol) if is_model else _all(grant, protocol)
    except CallRefused as refusal:
        await send_problem(send, protocol, Problem(refusal.status, refusal.code, refusal.message))
        return
    await send_answer(send, 200, [(b"content-type", b"application/json")], json.dumps(body).encode())


def _one(grant: Grant, name: str, protocol: Protocol) -> dict[str, object]:
    for pin in grant.models:
        if pin.name == name:
            return _line(pin, protocol)
    raise CallRefused(f"the model {name[:100]!r} is not in this release", status=404, code="model_not_found")


def _all(grant: Grant, protocol: Protocol) -> dict[str, object]:
    lines = [_line(pin, protocol) for pin in grant.models]
    if protocol is Protocol.OPENAI:
        return {"object": "list", "data": lines}
    first, last = (lines[0]["id"], lines[-1]["id"]) if lines else (None, None)
    return {"data": lines, "has_more": False, "first_id": first, "last_id": last}


def _line(pin: ModelPin, protocol: Protocol) -> dict[str, object]:
    if protocol is Protocol.OPENAI:
        return {"id": pin.name, "object": "model", "created": 0, "owned_by": pin.provider}
    return {"type": "model", "id": pin.name, "display_name": pin.name, "created_at": _EPOCH}
