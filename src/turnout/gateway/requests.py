"""A request of an agent, read: what it asks for, and what of it has to change on its way to a provider. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turnout.domain.errors import CallRefused
from turnout.gateway.json_object import JsonObject, parse_object
from turnout.gateway.prices import Terms, read_terms
from turnout.gateway.protocols.demand import Demand, limit_to_set, read_demand
from turnout.gateway.protocols.endpoints import Endpoint
from turnout.gateway.values import Protocol, Route

# Of one connection, or of the gateway itself; and what names the caller of a provider, which is this instance.
_KEPT_BACK = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding upgrade"
    b" host content-length expect accept-encoding cookie authorization x-api-key api-key x-goog-api-key"
    b" openai-organization openai-project baggage forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip"
    b" via idempotency-key".split()
)
_ANTHROPIC_VERSION = b"2023-06-01"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose body was understood. `wants_usage`: of a streamed chat, whether the caller asks for the usage."""

    endpoint: Endpoint
    body: JsonObject
    model: str
    stream: bool
    wants_usage: bool
    demand: Demand
    terms: Terms = ()  # that its price depends on
    tool_models: tuple[str, ...] = ()  # that tools of the provider are to use

    def body_for(self, model: str, route: Route, *, limited: bool) -> bytes:
        """The body that a route gets. `limited`: whether tokens out have to be, because a budget counts them."""
        changes: dict[str, Any] = {}
        if model != self.model:
            changes["model"] = model
        parameter = limit_to_set(self.endpoint, self.demand, route.limit_parameter) if limited else None
        if parameter is not None:
            changes[parameter] = self.demand.limit or route.max_output
        if self.endpoint is Endpoint.CHAT and self.stream and not self.wants_usage:
            changes["stream_options"] = {**(self.body.get("stream_options") or {}), "include_usage": True}
        return self.body.changed(changes)


_GOVERNED = frozenset(
    {
        *("model", "models", "route", "preset", "stream", "stream_options", "n", "background", "service_tier", "speed"),
        *("max_tokens", "max_completion_tokens", "max_output_tokens"),
        *("messages", "input", "system", "tools", "previous_response_id", "conversation", "prompt", "container"),
    }
)


def read_request(endpoint: Endpoint, body: bytes) -> Asked:
    """Raises `CallRefused` that says what is wrong with a body."""
    try:
        read = parse_object(body)
    except ValueError as error:
        raise _invalid(f"the body is no JSON object that can be read: {error}") from None
    _refuse_doubles(read)
    model, stream, options = read.get("model"), read.get("stream"), read.get("stream_options")
    if not isinstance(model, str) or not model:
        raise _invalid("model has to be the name of a model")
    if stream is not None and not isinstance(stream, bool):
        raise _invalid("stream has to be true or false")
    if options is not None and not isinstance(options, dict):
        raise _invalid("stream_options has to be an object")
    if stream and not endpoint.writes:
        raise _invalid(f"{endpoint} cannot be streamed")
    wants_usage = bool(options and options.get("include_usage"))
    demand = read_demand(endpoint, read, len(body))
    tool_models, kept = _tool_models(read), read.without_values("stream_options")
    return Asked(endpoint, kept, model, bool(stream), wants_usage, demand, read_terms(read), tool_models)


def headers_for(head: Mapping[bytes, bytes], route: Route, key: str | None, idempotency_key: str) -> dict[bytes, bytes]:
    """The headers that a route gets: the caller's own, apart from those of one connection, and of its key."""
    named = {name.strip().lower() for name in head.get(b"connection", b"").split(b",")}
    headers = {
        name: value
        for name, value in head.items()
        if name not in _KEPT_BACK and name not in named and not name.startswith((b"x-turnout-", b"x-envoy-"))
    }
    headers[b"content-type"] = b"application/json"
    headers[b"accept-encoding"] = b"identity"
    headers[b"idempotency-key"] = idempotency_key.encode()
    if route.protocol is Protocol.ANTHROPIC:
        headers.setdefault(b"anthropic-version", _ANTHROPIC_VERSION)
        if key is not None:
            headers[b"x-api-key"] = key.encode()
    elif key is not None:
        headers[b"authorization"] = b"Bearer " + key.encode()
    return headers


def _invalid(message: str) -> CallRefused:
    return CallRefused(message, status=400, code="invalid_request")


def _refuse_doubles(body: JsonObject) -> None:
    """Some servers read names without regard to case: what is checked here must be what they read."""
    for name in body.members:
        if name not in _GOVERNED and (plain := _plain(name)) in _GOVERNED:
            raise _invalid(f"the member {name[:40]!r} could be read as {plain!r}; leave it out")
    for name in ("models", "route", "preset"):
        if name in body.members:
            raise _invalid(f"{name} can name other models than the one of the release; leave it out")


def _plain(name: str) -> str:
    return name.lower() if name.isascii() else unicodedata.normalize("NFKC", name).casefold()


def _tool_models(body: JsonObject) -> tuple[str, ...]:
    """The models that tools of the provider are to use."""
    found = []
    for tool in body.get("tools") or ():
        for name in tool if isinstance(tool, dict) else ():
            if _plain(name) == "model" and (name != "model" or not isinstance(tool[name], str)):
                raise _invalid("the model of a tool has to be the name of a model, under model")
            if name == "model":
                found.append(tool[name])
    return tuple(found)
