"""What is stored of a task → its recording, and which tasks are recorded. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from turnout.domain.calls import Call, ModelCall, ToolCall
from turnout.domain.captures import kept_capture
from turnout.domain.models import Arm, Capture, Digest, Record, Release, RingSettings, Task
from turnout.domain.outcomes import Known
from turnout.domain.recordings import RecordedModel, RecordedRequest, RecordedTool, Recording, record_model, record_tool

MOST_REQUESTS = 200  # of a task that is recorded
MOST_CALLS = 2_000
_REDACTED = b"[redacted]"


def is_sampled(task: str, share: float) -> bool:
    """Whether a task is among those that are recorded. The same answer each time, and for any larger share."""
    drawn = int.from_bytes(hashlib.sha256(task.encode(errors="replace")).digest()[:6])
    return drawn < share * (1 << 48)


def record_of(release: Release, ring: str) -> Record | None:
    """What a release says of recordings in a ring."""
    settings = release.spec.ring(ring)
    return settings.record if settings is not None else None


def is_over(requests: Iterable[Task], until: float) -> bool:
    """Whether all requests of a task had ended at a time."""
    return all(request.duration is not None and request.at + request.duration <= until for request in requests)


def is_of_stable(requests: Sequence[Task], stable: Digest | None) -> bool:
    """Whether a task was answered by the stable release alone, as it came: callers who pin a release are left out."""
    releases = {request.release for request in requests}
    chosen = all(not item.pinned and (item.arm is not Arm.CANDIDATE or item.release == stable) for item in requests)
    return chosen and len(releases) == 1 and None not in releases


def build_recording(release: Release, requests: Sequence[Task], calls: Iterable[Call], known: Known) -> Recording:
    """The recording of a task. `requests`: those of one ring, at least one, with what was captured; `calls`: of the task."""
    first = requests[0]
    capture = kept_capture(release.spec.ring(first.ring) or RingSettings(first.ring))
    mine = sorted(
        (call for call in calls if (call.agent, call.ring, call.release) == (first.agent, first.ring, release.digest)),
        key=lambda call: (call.at, call.id),
    )
    return Recording(
        agent=first.agent,
        ring=first.ring,
        release=release.digest,
        version=release.version,
        task=first.task,
        at=first.at,
        requests=tuple(_request(item, capture) for item in sorted(requests, key=lambda item: (item.at, item.request))),
        tools=tuple(_tool(call, capture) for call in mine if isinstance(call, ToolCall)),
        models=tuple(_model(call, capture) for call in mine if isinstance(call, ModelCall)),
        failed=known.failed,
        intervened=known.intervened,
        cost=known.cost,
    )


@dataclass(frozen=True, slots=True)
class _Payload:
    kept: bytes | None
    whole: bool
    redacted: bool


def _request(item: Task, capture: Capture) -> RecordedRequest:
    body, answer = _payload(item.question, item.bytes_in, capture), _payload(item.answer, item.bytes_out, capture)
    return RecordedRequest(
        method=item.method,
        path=item.path,
        body=body.kept,
        status=item.status,
        answer=answer.kept,
        at=item.at,
        duration=item.duration or 0.0,
        content_type=_content_type(body.kept or b""),
        whole=body.whole,
        answer_whole=answer.whole,
        redacted=body.redacted or answer.redacted,
    )


def _payload(kept: bytes | None, size: int, capture: Capture) -> _Payload:
    """What the proxy kept of `size` bytes. It cuts first and redacts then: only the size tells what was cut."""
    if size == 0:
        return _Payload(b"", whole=True, redacted=False)
    if kept is None:
        return _Payload(None, whole=False, redacted=False)
    whole = size <= capture.size and (len(kept) == size or len(kept) < capture.size)
    return _Payload(kept, whole, redacted=bool(capture.redact) and _REDACTED in kept)


def _tool(call: ToolCall, capture: Capture) -> RecordedTool:
    whole, altered = _compare(call.result, call.result_digest, capture)
    _, arguments_altered = _compare(call.arguments, call.arguments_digest, capture)
    return record_tool(call, whole=whole, redacted=altered or arguments_altered)


def _model(call: ModelCall, capture: Capture) -> RecordedModel:
    whole, altered = _compare(call.answer, call.answer_digest, capture)
    return record_model(call, whole=whole, redacted=altered)


def _compare(kept: str | None, digest: str, capture: Capture) -> tuple[bool, bool]:
    """Whether a payload is whole, and whether it was altered. The gateway redacts all of it and cuts then."""
    if kept is None:
        return False, False
    content = kept.encode(errors="replace")
    if hashlib.sha256(content).hexdigest() == digest:
        return True, False
    whole = len(content) < capture.size
    return whole, whole


def _content_type(body: bytes) -> str:
    """What the caller will have said of it: the proxy does not log it."""
    if not body:
        return ""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        is_form = b"=" in body and not any(sign in body for sign in b" \n\t<{")
        return "application/x-www-form-urlencoded" if is_form else "application/octet-stream"
    return "application/json"
