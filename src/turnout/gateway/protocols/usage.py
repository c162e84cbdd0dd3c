"""What an answer says that it took. Pure.

Providers count differently: of OpenAI the tokens in hold those that were cached, of Anthropic they do not; of OpenAI the
tokens out hold those of reasoning, of others that speak its protocol (xAI, Gemini) only the sum of all tokens does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from turnout.gateway.protocols.endpoints import Endpoint


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call."""

    tokens_in: int = 0  # all of them
    cached: int = 0  # of those in, read from the provider's cache
    written: int = 0  # of those in, written to it
    written_long: int = 0  # of those written, for an hour
    tokens_out: int = 0
    reasoning: int = 0  # of those out


def read_usage(endpoint: Endpoint, said: Any) -> Usage | None:
    """From the `usage` of an answer. None where it is missing, or cannot be true."""
    if not isinstance(said, dict):
        return None
    try:
        usage = _READERS[endpoint](said)
    except ValueError:
        return None
    fits = usage.cached + usage.written <= usage.tokens_in and usage.written_long <= usage.written
    return usage if fits and usage.reasoning <= usage.tokens_out else None


def _read_chat(said: dict[str, Any]) -> Usage:
    reasoning = _count(_part(said, "completion_tokens_details"), "reasoning_tokens")
    return Usage(
        tokens_in=_count(said, "prompt_tokens", needed=True),
        cached=_count(_part(said, "prompt_tokens_details"), "cached_tokens"),
        tokens_out=_out(said, "prompt_tokens", "completion_tokens", reasoning),
        reasoning=reasoning,
    )


def _read_responses(said: dict[str, Any]) -> Usage:
    reasoning = _count(_part(said, "output_tokens_details"), "reasoning_tokens")
    return Usage(
        tokens_in=_count(said, "input_tokens", needed=True),
        cached=_count(_part(said, "input_tokens_details"), "cached_tokens"),
        tokens_out=_out(said, "input_tokens", "output_tokens", reasoning),
        reasoning=reasoning,
    )


def _read_embeddings(said: dict[str, Any]) -> Usage:
    return Usage(tokens_in=_count(said, "prompt_tokens", needed=True))


def _read_messages(said: dict[str, Any]) -> Usage:
    cached, written = _count(said, "cache_read_input_tokens"), _count(said, "cache_creation_input_tokens")
    return Usage(
        tokens_in=_count(said, "input_tokens", needed=True) + cached + written,
        cached=cached,
        written=written,
        written_long=_count(_part(said, "cache_creation"), "ephemeral_1h_input_tokens"),
        tokens_out=_count(said, "output_tokens", needed=True),
    )


_READERS = {
    Endpoint.CHAT: _read_chat,
    Endpoint.RESPONSES: _read_responses,
    Endpoint.EMBEDDINGS: _read_embeddings,
    Endpoint.MESSAGES: _read_messages,
}


def _out(said: dict[str, Any], name_in: str, name_out: str, reasoning: int) -> int:
    """All tokens out, those of reasoning with them."""
    told = _count(said, name_out, needed=True)
    beyond = _count(said, "total_tokens") - _count(said, name_in, needed=True)
    return max(told, beyond, told + reasoning if reasoning > told else 0)


def _part(said: dict[str, Any], name: str) -> dict[str, Any]:
    part = said.get(name)
    return part if isinstance(part, dict) else {}


def _count(said: dict[str, Any], name: str, *, needed: bool = False) -> int:
    value = said.get(name)
    if value is None and not needed:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(name)
    return value
