"""Calls of models and tools → what the wire shows of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from turnout.domain.budget import NANOS
from turnout.domain.calls import Attempt, Call, ModelCall, ToolCall
from turnout.schemas import AttemptView, MeteredView, ModelCallView, ToolCallView
from turnout.services.views import view_time


def view_metered(calls: Sequence[Call]) -> MeteredView:
    """What the calls of models took together."""
    made = [call for call in calls if isinstance(call, ModelCall)]
    priced = [call for call in made if call.prices]
    return {
        "calls": len(made),
        "tokens_in": sum(call.tokens_in for call in made),
        "tokens_out": sum(call.tokens_out for call in made),
        "cost": sum(call.nanos for call in priced) / NANOS if priced else None,
        "estimated": any(call.estimated for call in made),
    }


def view_model_calls(calls: Iterable[Call]) -> list[ModelCallView]:
    """The calls of models among some calls."""
    return [_view_model_call(call) for call in calls if isinstance(call, ModelCall)]


def view_tool_calls(calls: Iterable[Call]) -> list[ToolCallView]:
    """The calls of tools among some calls."""
    return [_view_tool_call(call) for call in calls if isinstance(call, ToolCall)]


def _view_model_call(call: ModelCall) -> ModelCallView:
    return {
        "id": call.id,
        "at": view_time(call.at),
        "duration": call.duration,
        "agent": call.agent,
        "ring": call.ring,
        "digest": call.release,
        "endpoint": call.endpoint,
        "provider": call.provider,
        "model": call.model,
        "answered_by": call.answered_by or None,
        "route": call.route or None,
        "stream": call.stream,
        "first_chunk": call.first_chunk,
        "status": call.status,
        "ended": call.ended.value,
        "tokens_in": call.tokens_in,
        "tokens_cached": call.tokens_cached,
        "tokens_out": call.tokens_out,
        "tokens_reasoning": call.tokens_reasoning,
        "estimated": call.estimated,
        "cost": call.nanos / NANOS if call.prices else None,
        "prices": call.prices or None,
        "attempts": [_view_attempt(attempt) for attempt in call.attempts],
        "error": call.error,
    }


def _view_attempt(attempt: Attempt) -> AttemptView:
    return {
        "route": attempt.route,
        "model": attempt.model,
        "seconds": attempt.seconds,
        "status": attempt.status,
        "error": attempt.error,
    }


def _view_tool_call(call: ToolCall) -> ToolCallView:
    return {
        "id": call.id,
        "at": view_time(call.at),
        "duration": call.duration,
        "agent": call.agent,
        "ring": call.ring,
        "digest": call.release,
        "server": call.server,
        "tool": call.tool,
        "ended": call.ended.value,
        "failed": call.failed,
        "arguments": call.arguments,
        "arguments_digest": call.arguments_digest or None,
        "result": call.result,
        "result_digest": call.result_digest or None,
        "pinned": call.schema or None,
        "found": call.found or None,
        "error": call.error,
    }
