"""Recordings for tests, as short as they can be said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import rfc8785

from turnout.domain.calls import Ended
from turnout.domain.models import Digest
from turnout.domain.recordings import RecordedModel, RecordedRequest, RecordedTool, Recording

RELEASE = Digest("sha256:" + "a" * 64)


def recorded_tool(tool: str, arguments: Mapping[str, Any] | None = None, **changes: Any) -> RecordedTool:
    """A call that was answered with its own arguments."""
    text = rfc8785.dumps(dict(arguments or {})).decode()
    result = json.dumps({"content": [{"type": "text", "text": f"{tool} {text}"}]}, separators=(",", ":"))
    values: dict[str, Any] = {
        "server": "shop",
        "tool": tool,
        "arguments": text,
        "arguments_digest": hashlib.sha256(text.encode()).hexdigest(),
        "result": result,
        "ended": Ended.DONE,
        "failed": False,
        "error": "",
        "at": 100.0,
        "duration": 0.1,
        "whole": True,
    }
    return RecordedTool(**{**values, **changes})


def recorded_model(answer: str | None = "{}", digest: str = "d1", **changes: Any) -> RecordedModel:
    values: dict[str, Any] = {
        "endpoint": "chat/completions",
        "provider": "openai",
        "model": "gpt-4o",
        "request_digest": digest,
        "answer": answer,
        "content_type": "application/json",
        "status": 200,
        "ended": Ended.DONE,
        "cost": 0.01,
        "tokens_in": 10,
        "tokens_out": 5,
        "at": 100.0,
        "duration": 0.2,
        "whole": True,
    }
    return RecordedModel(**{**values, **changes})


def recorded_request(
    body: bytes = b'{"ask": 1}', answer: bytes | None = b'{"ok": true}', **changes: Any
) -> RecordedRequest:
    values: dict[str, Any] = {
        "method": "POST",
        "path": "/invocations",
        "body": body,
        "status": 200,
        "answer": answer,
        "at": 100.0,
        "duration": 0.5,
    }
    return RecordedRequest(**{**values, **changes})


def recording(
    tools: Sequence[RecordedTool] = (), models: Sequence[RecordedModel] = (), task: str = "t1", **changes: Any
) -> Recording:
    """One task with one request; the calls of tools are a second apart."""
    values: dict[str, Any] = {
        "agent": "shop",
        "ring": "production",
        "release": RELEASE,
        "version": "v1",
        "task": task,
        "at": 100.0,
        "requests": (recorded_request(),),
        "tools": tuple(tools),
        "models": tuple(models),
        "failed": False,
        "intervened": None,
        "cost": None,
    }
    return Recording(**{**values, **changes})
