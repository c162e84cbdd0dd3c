"""Whether a whole answer is one, and what it says. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from turnout.domain.errors import RouteFailed
from turnout.gateway.prices import Terms, read_terms
from turnout.gateway.protocols.endpoints import Endpoint
from turnout.gateway.protocols.usage import Usage, read_usage

_CONTENT: dict[Endpoint, tuple[str, type]] = {
    Endpoint.CHAT: ("choices", list),
    Endpoint.RESPONSES: ("output", list),
    Endpoint.EMBEDDINGS: ("data", list),
    Endpoint.MESSAGES: ("content", list),
    Endpoint.COUNT_TOKENS: ("input_tokens", int),
}


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer says of itself."""

    model: str
    usage: Usage | None
    terms: Terms = ()


def read_answer(endpoint: Endpoint, body: bytes) -> Said:
    """Look at a whole answer with status 200. Raises `RouteFailed` for one that is none."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise RouteFailed("the answer is no whole JSON", answered=200, sent=True) from None
    if not isinstance(answer, dict):
        raise RouteFailed("the answer is no JSON object", answered=200, sent=True)
    if answer.get("error") or answer.get("type") == "error" or answer.get("status") == "failed":
        raise RouteFailed("the answer is an error with status 200", answered=200, sent=True)
    content, kind = _CONTENT[endpoint]
    if not isinstance(answer.get(content), kind):
        raise RouteFailed(f"the answer has no {content}", answered=200, sent=True)
    return Said(_name(answer.get("model")), read_usage(endpoint, answer.get("usage")), read_terms(answer))


def _name(value: Any) -> str:
    return value[:200] if isinstance(value, str) else ""
