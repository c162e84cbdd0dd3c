"""What is kept of one task, so that it can be asked of another release: requests, calls of tools and of models. Pure.

Times in seconds since the epoch, durations in seconds, costs in dollars. Digests of arguments, results and requests are
SHA-256 in hexadecimal digits. `whole` is False for what was cut or left out; `redacted` is True where patterns of the ring
took something out, which leaves a payload usable but not as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from turnout.domain.budget import NANOS
from turnout.domain.calls import Ended, ModelCall, ToolCall
from turnout.domain.models import Digest, Task
from turnout.domain.outcomes import read_task


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request of a caller, and the answer of the release. None: nothing is kept of it."""

    method: str
    path: str
    body: bytes | None
    status: int
    answer: bytes | None
    at: float
    duration: float
    content_type: str = "application/json"  # of the body
    whole: bool = True  # the body
    answer_whole: bool = True
    redacted: bool = False  # either of them


@dataclass(frozen=True, slots=True)
class RecordedTool:
    """A call of a tool. `arguments` is canonical JSON, `result` the JSON of the MCP result; None: not kept, or none came."""

    server: str
    tool: str
    arguments: str | None
    arguments_digest: str  # of the canonical arguments as they were sent
    result: str | None
    ended: Ended
    failed: bool  # the tool itself said so
    error: str
    at: float
    duration: float
    whole: bool  # the result
    redacted: bool = False  # arguments or result


@dataclass(frozen=True, slots=True)
class RecordedModel:
    """A call of a model. `answer` is the body as the agent got it: a JSON document or server-sent events."""

    endpoint: str
    provider: str
    model: str
    request_digest: str  # of the canonical request without what changes nothing of its answer
    answer: str | None
    content_type: str  # of the answer
    status: int
    ended: Ended
    cost: float
    tokens_in: int
    tokens_out: int
    at: float
    duration: float
    whole: bool  # the answer
    redacted: bool = False


def record_tool(call: ToolCall, *, whole: bool, redacted: bool = False) -> RecordedTool:
    """A call of a tool as a recording holds it."""
    return RecordedTool(
        server=call.server,
        tool=call.tool,
        arguments=call.arguments,
        arguments_digest=call.arguments_digest,
        result=call.result,
        ended=call.ended,
        failed=call.failed,
        error=call.error,
        at=call.at,
        duration=call.duration,
        whole=whole,
        redacted=redacted,
    )


def record_model(call: ModelCall, *, whole: bool, redacted: bool = False) -> RecordedModel:
    """A call of a model as a recording holds it."""
    return RecordedModel(
        endpoint=call.endpoint,
        provider=call.provider,
        model=call.model,
        request_digest=call.request_digest,
        answer=call.answer,
        content_type=call.content_type,
        status=call.status,
        ended=call.ended,
        cost=call.nanos / NANOS,
        tokens_in=call.tokens_in,
        tokens_out=call.tokens_out,
        at=call.at,
        duration=call.duration,
        whole=whole,
        redacted=redacted,
    )


@dataclass(frozen=True, slots=True)
class Recording:
    """One task of one release, in the order in which things began. `failed`, `intervened`, `cost`: None is not known."""

    agent: str
    ring: str
    release: Digest
    version: str
    task: str
    at: float
    requests: tuple[RecordedRequest, ...]
    tools: tuple[RecordedTool, ...]
    models: tuple[RecordedModel, ...]
    failed: bool | None
    intervened: bool | None
    cost: float | None

    def faults(self, *, models: bool) -> tuple[str, ...]:
        """Why it cannot be replayed, a sentence each; empty: it can. `models`: whether models answer from it too."""
        found = [*self._request_faults(), *self._tool_faults(), *(self._model_faults() if models else ())]
        return tuple(dict.fromkeys(found))

    def _request_faults(self) -> Iterator[str]:
        if not self.requests:
            yield "no request was recorded"
        for request in self.requests:
            if not request.method or not request.path.startswith("/"):
                yield "a request has no method or no path"
            elif request.body is None:
                yield f"the body of {request.method} {request.path} was left out"
            elif not request.whole:
                yield f"the body of {request.method} {request.path} was cut at {len(request.body):,} bytes"

    def _tool_faults(self) -> Iterator[str]:
        for call in self.tools:
            if not call.arguments_digest:
                yield f"the arguments of a call of tool {call.tool} were left out"
            if call.ended is Ended.DONE:
                yield from _payload_faults(f"a result of tool {call.tool}", call.result, call.whole)

    def _model_faults(self) -> Iterator[str]:
        for call in self.models:
            if not call.request_digest:
                yield f"the request of a call of model {call.model} was left out"
            if call.ended is Ended.DONE:
                yield from _payload_faults(f"an answer of model {call.model}", call.answer, call.whole)


def outcome_of(recording: Recording, rule: str) -> bool | None:
    """Whether the task failed, as its answers alone tell by a rule. What people said later is left out."""
    said = [read_task(_as_task(recording, request), rule) for request in recording.requests]
    failed = [outcome.failed for outcome in said if outcome is not None and outcome.failed is not None]
    return any(failed) if failed else None


def _as_task(recording: Recording, request: RecordedRequest) -> Task:
    answer = request.answer or b""
    whole = request.answer_whole and request.answer is not None
    return Task(
        request=recording.task,  # all answers of the task are there, so each is read as one of its own
        task=recording.task,
        agent=recording.agent,
        ring=recording.ring,
        release=recording.release,
        at=request.at,
        duration=request.duration,
        status=request.status,
        bytes_out=len(answer) if whole else len(answer) + 1,
        answer=request.answer,
    )


def _payload_faults(name: str, kept: str | None, whole: bool) -> Iterator[str]:
    if kept is None:
        yield f"{name} was left out"
    elif not whole:
        yield f"{name} was cut at {len(kept.encode(errors='replace')):,} bytes"
