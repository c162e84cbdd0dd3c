"""What a request of an agent asks for: its model, and how many tokens it may take at most. Pure.

A token stands for at least one byte, so the bytes of a body bound its tokens; but for what the body only refers to (files, a
former response, what a tool of the provider finds) and for pictures, of which a small file can make many tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from turnout.domain.errors import CallRefused
from turnout.gateway.json_object import JsonObject
from turnout.gateway.protocols.endpoints import Endpoint

UNBOUNDED_INPUT = 1_000_000  # tokens, for content elsewhere, where the window of the model is not known
TOKENS_OF_IMAGE = 40_000  # at most; the dearest known counts 36,835 for one in high detail
HIDDEN_TOKENS = 64  # that providers put around the messages
HIDDEN_TOKENS_OF_TOOLS = 1_024  # and around descriptions of tools
MOST_CHOICES = 128

_LIMITS = {
    Endpoint.CHAT: ("max_completion_tokens", "max_tokens"),
    Endpoint.RESPONSES: ("max_output_tokens",),
    Endpoint.EMBEDDINGS: (),
    Endpoint.MESSAGES: ("max_tokens",),
    Endpoint.COUNT_TOKENS: (),
}
_REFERENCES = ("previous_response_id", "conversation", "prompt", "container", "mcp_servers", "web_search_options")
_TEXTS = frozenset(
    {"text", "input_text", "output_text", "message", "refusal", "function_call", "function_call_output"}
    | {"reasoning", "tool_use", "tool_result", "thinking", "redacted_thinking", "function", "custom"}
    | {"custom_tool_call", "custom_tool_call_output", "summary_text", "reasoning_text"}
)
_IMAGES = frozenset(("image", "image_url", "input_image"))


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request may take. `limit` is the caller's own, of tokens out for each of its `choices`."""

    size: int  # bytes of the body
    limit: int | None
    named: tuple[str, ...] = ()  # the parameters that gave it
    choices: int = 1
    images: int = 0
    tools: bool = False
    elsewhere: bool = False  # whether it refers to content that is not in it
    output: bool = True  # whether tokens come out at all
    reasons: bool | None = None  # whether the model is told to reason; None: it does as it is used to

    def most_in(self, window: int | None) -> int:
        """Tokens in, at most. `window`: of the model, where known."""
        hidden = HIDDEN_TOKENS + (HIDDEN_TOKENS_OF_TOOLS if self.tools else 0)
        inside = self.size + hidden + self.images * TOKENS_OF_IMAGE
        return max(inside, window or UNBOUNDED_INPUT) if self.elsewhere else inside

    def most_out(self, max_output: int) -> int:
        """Tokens out, at most. `max_output`: where the caller gives no limit."""
        if not self.output:
            return 0
        return (max_output if self.limit is None else self.limit) * self.choices

    @property
    def estimate_in(self) -> int:
        """Tokens in, as they usually are: four bytes each."""
        return self.size // 4 + 1


def read_demand(endpoint: Endpoint, body: JsonObject, size: int) -> Demand:
    """Look through a request. Raises `CallRefused` for limits that are no numbers, and for what cannot be metered."""
    if body.get("background"):
        raise _invalid("background responses are not offered: what they take could not be metered")
    limits = {name: limit for name in _LIMITS[endpoint] if (limit := _whole(body, name)) is not None}
    images, elsewhere = _look_through(body)
    return Demand(
        size=size,
        limit=max(limits.values(), default=None),
        named=tuple(limits),
        choices=(_whole(body, "n", MOST_CHOICES) or 1) if endpoint is Endpoint.CHAT else 1,
        images=images,
        tools=bool(body.get("tools")),
        elsewhere=elsewhere,
        output=endpoint.writes,
        reasons=_reasons(endpoint, body),
    )


def limit_to_set(endpoint: Endpoint, demand: Demand, parameter: str) -> str | None:
    """The parameter that limits tokens out, where the caller gives none that the route knows.

    `parameter`: of the route, for chats. Every server knows `max_tokens`, and those that want the newer one refuse it; one
    that knows `max_tokens` alone passes over the newer one without a word.
    """
    if not demand.output:
        return None
    if demand.limit is None:
        return parameter if endpoint is Endpoint.CHAT else _LIMITS[endpoint][0]
    unknown = endpoint is Endpoint.CHAT and parameter == "max_tokens" and parameter not in demand.named
    return parameter if unknown else None


def _whole(body: JsonObject, name: str, most: int = 100_000_000) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise _invalid(f"{name} has to be a whole number from 1 to {most}")
    return value


def _reasons(endpoint: Endpoint, body: JsonObject) -> bool | None:
    if not endpoint.writes:
        return False
    if endpoint is Endpoint.MESSAGES:  # never without being told to
        thinking = body.get("thinking")
        return thinking is not None and not (isinstance(thinking, dict) and thinking.get("type") == "disabled")
    return True if body.get("reasoning_effort") or body.get("reasoning") else None


def _look_through(body: JsonObject) -> tuple[int, bool]:
    """How many pictures there are, and whether there is content elsewhere."""
    images, elsewhere = 0, any(body.get(name) for name in _REFERENCES)
    tools = body.get("tools") or []
    if not isinstance(tools, list):
        raise _invalid("tools has to be a list")
    for tool in tools:
        elsewhere = elsewhere or (isinstance(tool, dict) and tool.get("type", "function") not in ("function", "custom"))
    for name in ("messages", "input", "system"):
        for kind in _kinds(body.get(name)):
            if kind in _IMAGES:
                images += 1
            elsewhere = elsewhere or (kind not in _IMAGES and kind not in _TEXTS)
    return images, elsewhere


def _kinds(content: Any) -> Iterator[str]:
    """The `type` of every part, however deep it lies."""
    left = [content]
    while left:
        item = left.pop()
        if isinstance(item, list):
            left += [part for part in item if isinstance(part, dict | list)]
        elif isinstance(item, dict):
            if "type" in item:
                yield str(item["type"])
            elif "id" in item and not item.keys() & {"role", "content"}:
                yield "item_reference"  # which may leave out that it is one
            left += [item[name] for name in ("content", "output") if isinstance(item.get(name), list)]


def _invalid(message: str) -> CallRefused:
    return CallRefused(message, status=400, code="invalid_request")
