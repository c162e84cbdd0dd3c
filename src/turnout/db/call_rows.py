"""Rows ↔ calls of models and tools. Pure."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sqlalchemy import RowMapping

from turnout.domain.calls import Attempt, Call, Ended, ModelCall, ToolCall

_NAMES = {kind: tuple(field.name for field in fields(kind)) for kind in (ModelCall, ToolCall)}


def call_to_row(call: Call) -> dict[str, Any]:
    """The columns have the names of the fields; when a call of a model ended is beside them, to find it by."""
    row = {name: getattr(call, name) for name in _NAMES[type(call)]} | {"ended": call.ended.value}
    if isinstance(call, ModelCall):
        row["ended_at"] = call.at + call.duration
        row["attempts"] = [
            [attempt.route, attempt.model, attempt.seconds, attempt.status, attempt.error] for attempt in call.attempts
        ]
    return row


def model_call_from_row(row: RowMapping) -> ModelCall:
    """The inverse of `call_to_row`."""
    attempts = tuple(Attempt(*attempt) for attempt in row["attempts"])
    values = {name: row[name] for name in _NAMES[ModelCall]}
    return ModelCall(**{**values, "ended": Ended(row["ended"]), "attempts": attempts})


def tool_call_from_row(row: RowMapping) -> ToolCall:
    """The inverse of `call_to_row`."""
    return ToolCall(**{**row, "ended": Ended(row["ended"])})
