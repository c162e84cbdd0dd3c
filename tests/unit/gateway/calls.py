"""Calls to write down."""

from __future__ import annotations

from typing import Any

from turnout.domain.calls import Attempt, Ended, ModelCall, ToolCall
from turnout.domain.models import Digest

RELEASE = Digest("sha256:" + "a" * 64)


def model_call(id: str = "call-1", **changes: Any) -> ModelCall:
    values: dict[str, Any] = {
        "at": 1_000.0,
        "duration": 1.5,
        "agent": "support",
        "ring": "production",
        "release": RELEASE,
        "task": "task-1",
        "endpoint": "chat/completions",
        "provider": "openai",
        "model": "gpt-4o-2024-08-06",
    }
    return ModelCall(id, **(values | changes))


def tool_call(id: str = "call-1", **changes: Any) -> ToolCall:
    values: dict[str, Any] = {
        "at": 1_000.0,
        "duration": 0.2,
        "agent": "support",
        "ring": "production",
        "release": RELEASE,
        "task": "task-1",
        "server": "docs",
        "tool": "search",
    }
    return ToolCall(id, **(values | changes))


FULL_MODEL_CALL = model_call(
    answered_by="gpt-4o-2024-08-06",
    route="openai-us",
    stream=True,
    first_chunk=0.2,
    status=200,
    ended=Ended.CUT,
    tokens_in=12,
    tokens_cached=3,
    tokens_out=40,
    tokens_reasoning=5,
    estimated=True,
    nanos=123_456,
    prices="sha256:" + "b" * 64,
    attempts=(Attempt("openai-eu", "gpt-4o", 0.1, 503, "overloaded"), Attempt("openai-us", "gpt-4o", 1.4, None)),
    error="the stream broke off",
)
FULL_TOOL_CALL = tool_call(
    task=None,
    ended=Ended.REFUSED,
    failed=True,
    arguments='{"q":"x"}',
    arguments_digest="sha256:" + "c" * 64,
    result='{"found":1}',
    result_digest="sha256:" + "d" * 64,
    schema="e" * 64,
    error="the schema changed",
)
