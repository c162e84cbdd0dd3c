"""From a task back to what answered it: the exact release, its parts, how it came there, and how its rollout stood."""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from turnout.domain.calls import Call, ToolCall
from turnout.domain.errors import NotFound, TurnoutError
from turnout.domain.events import Event, EventType
from turnout.domain.margins import average_evidence
from turnout.domain.models import Deployment, Digest, Release, Task
from turnout.domain.outcomes import Known, TaskKey
from turnout.domain.policy import Verb
from turnout.ports import Snapshot, StoredEvent, StoredOutcome, TaskQuery
from turnout.schemas import (
    AdmissionView,
    DecisionView,
    LineageRelease,
    LineageVerdict,
    LineageView,
    OverrideView,
    PayloadView,
    PromptView,
    ReportView,
    RequestView,
)
from turnout.services.calls import view_metered, view_model_calls, view_tool_calls
from turnout.services.office import Actor, Office
from turnout.services.tasks import name_versions, view_known, view_task
from turnout.services.views import view_event, view_release, view_time

MOST_REQUESTS = 100  # of one task, each with what was captured of it
MOST_CALLS = 1_000
_MOST_DEPLOYMENTS = 1_000  # of one ring that are looked through
_STEERING = ("rollout.", "breaker.")


def trace_task(office: Office, actor: Actor, name: str) -> LineageView:
    """Everything that is known of a task, named by its id or by the id of one of its requests.

    Raises `NotFound` for one that was never seen and that nobody reported.
    """
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        requests, more = _find_requests(snapshot, name)
        task = requests[0].task if requests else name
        stored = snapshot.outcomes(task)
        requests, calls = _as_captured(snapshot, requests, snapshot.calls(task, MOST_CALLS + 1))
        if not requests and not stored and not calls:
            raise NotFound(
                f"there is no task or request {name[:80]!r}",
                hint="its id is in the header x-turnout-task of the answer; `turnout tasks list` shows the latest",
            )
        known = snapshot.known([task])
        asked = [(task, item.agent, item.ring) for item in requests[:1]] or list(known)[:1]  # where callers met it
        versions = name_versions(snapshot, requests)
        view: LineageView = {
            "task": task,
            "outcome": view_known(next((known[key] for key in asked if key in known), Known())),
            "requests": [_view_request(item, known, versions) for item in requests],
            "more": more,
            "releases": [],
            "verdicts": [_view_verdict(snapshot, rollout, at) for rollout, at in _rollouts(requests).items()],
            "reports": view_reports(stored),
            "metered": view_metered(calls),
            "model_calls": view_model_calls(calls[:MOST_CALLS]),
            "tool_calls": view_tool_calls(calls[:MOST_CALLS]),
            "more_calls": len(calls) > MOST_CALLS,
        }
        served = list(_served(snapshot, requests))
        admissions = [_view_admission(snapshot, release, request) for release, request in served]
        releases = [view_release(snapshot, release) for release, _ in served]
    # Blobs are read after the snapshot: it must not be held while a registry is asked.
    for (release, request), admission, shown in zip(served, admissions, releases, strict=True):
        problems: list[str] = []
        settings = release.spec.ring(request.ring)
        view["releases"].append(
            LineageRelease(
                agent=release.agent,
                ring=request.ring,
                release=shown,
                model=_read_model(office, release, problems),
                prompts=_read_prompts(office, release, problems),
                start=list(release.spec.start),
                env={**release.spec.env, **(settings.env if settings else {})},
                success=release.spec.success,
                admission=admission,
                problems=problems,
            )
        )
    return view


def view_reports(stored: Sequence[StoredOutcome]) -> list[ReportView]:
    """Every report in the order in which they came, each with which of its values count. Pure."""
    known, shown = defaultdict[tuple[str | None, str | None], Known](Known), list[ReportView]()
    for item in stored:
        outcome, counts = item.outcome, list[str]()
        if item.state == "counted":
            place = outcome.agent, outcome.ring
            known[place], new, _ = known[place].take(outcome)
            named = {"success": new.failed, "intervention": new.intervened, "cost": new.cost}
            counts = [name for name, value in named.items() if value is not None]
        shown.append(
            {
                "at": view_time(outcome.at),
                "agent": outcome.agent,
                "ring": outcome.ring,
                "source": outcome.source.value,
                "reporter": outcome.reporter,
                "success": None if outcome.failed is None else not outcome.failed,
                "intervention": outcome.intervened,
                "cost": outcome.cost,
                "detail": outcome.detail,
                "state": item.state,
                "counts": counts,
            }
        )
    return shown


def view_payload(content: bytes | None, whole_size: int) -> PayloadView | None:
    """What was captured of a request or an answer that had `whole_size` bytes. Pure."""
    if content is None:
        return None
    text = _decode(content, cut=len(content) < whole_size)
    return {
        "text": text,
        "base64": None if text is not None else base64.b64encode(content).decode(),
        "bytes": len(content),
        "whole": len(content) == whole_size,
    }


def _decode(content: bytes, *, cut: bool) -> str | None:
    """As text, also when the cut went through a character."""
    for end in range(len(content), len(content) - (4 if cut else 1), -1):
        try:
            return content[: max(end, 0)].decode()
        except UnicodeDecodeError:
            continue
    return None


# --- requests ---------------------------------------------------------------------------------------------------------


def _find_requests(snapshot: Snapshot, name: str) -> tuple[list[Task], bool]:
    """Oldest first, the newest of a long conversation; and whether there are more."""
    found = snapshot.tasks(TaskQuery(task=name, limit=MOST_REQUESTS + 1, payloads=True))
    if found and all(item.task != name for item in found):  # the name of a request
        found = snapshot.tasks(TaskQuery(task=found[0].task, limit=MOST_REQUESTS + 1, payloads=True))
    task = name if any(item.task == name for item in found) else found[0].task if found else name
    mine = [item for item in found if item.task == task]
    return mine[:MOST_REQUESTS][::-1], len(found) > MOST_REQUESTS


def _as_captured(snapshot: Snapshot, requests: Sequence[Task], calls: Sequence[Call]) -> tuple[list[Task], list[Call]]:
    """Where a ring records: as much of each payload as it captures. What is kept beyond that is for other eyes."""
    digests = {item.release for item in (*requests, *calls) if item.release is not None}
    releases = {release.digest: release for digest in digests if (release := snapshot.release(digest)) is not None}

    def first(content: bytes | None, item: Task | Call) -> bytes | None:
        release = releases.get(item.release) if item.release is not None else None
        settings = release.spec.ring(item.ring) if release is not None else None
        if content is None or settings is None or settings.record is None:
            return content
        return content[: settings.capture.size] if settings.capture.size else None

    def first_text(text: str | None, call: ToolCall) -> str | None:
        content = first(text.encode() if text is not None else None, call)
        return None if content is None else content.decode(errors="ignore")

    shown_requests = [replace(it, question=first(it.question, it), answer=first(it.answer, it)) for it in requests]
    shown_calls = [
        replace(call, arguments=first_text(call.arguments, call), result=first_text(call.result, call))
        if isinstance(call, ToolCall)
        else call
        for call in calls
    ]
    return shown_requests, shown_calls


def _view_request(task: Task, known: Mapping[TaskKey, Known], versions: Mapping[str, str]) -> RequestView:
    return RequestView(
        **view_task(task, known, versions),
        question=view_payload(task.question, task.bytes_in),
        answer=view_payload(task.answer, task.bytes_out),
    )


def _served(snapshot: Snapshot, requests: Sequence[Task]) -> Iterator[tuple[Release, Task]]:
    """Each release that served the task in a ring, with the first request that it served."""
    seen: set[tuple[str, Digest]] = set()
    for request in requests:
        if request.release is None or (request.ring, request.release) in seen:
            continue
        seen.add((request.ring, request.release))
        release = snapshot.release(request.release)
        if release is not None:
            yield release, request


# --- how the release came there ---------------------------------------------------------------------------------------


def _view_admission(snapshot: Snapshot, release: Release, request: Task) -> AdmissionView | None:
    deployment = _find_admission(snapshot, release, request)
    if deployment is None:
        return None
    decisions: list[DecisionView] = [
        {"approver": item.approver, "approved": item.approved, "at": view_time(item.at), "comment": item.comment}
        for item in snapshot.approvals(release.agent, request.ring, release.digest)
        if item.at <= request.at
    ]
    events = snapshot.events(deployment=deployment.id, limit=1_000)
    return {
        "deployment": deployment.id,
        "kind": deployment.kind.value,
        "actor": deployment.actor,
        "reason": deployment.reason,
        "at": view_time(deployment.created_at),
        "source_ring": deployment.source_ring,
        "approvals": decisions,
        "overrides": [_view_override(item.event) for item in events if item.event.type is EventType.POLICY_OVERRIDDEN],
    }


def _find_admission(snapshot: Snapshot, release: Release, request: Task) -> Deployment | None:
    """The last deployment of the release into the ring that began before the request."""
    for deployment in snapshot.deployments(release.agent, request.ring, _MOST_DEPLOYMENTS):
        if deployment.digest == release.digest and deployment.created_at <= request.at:
            return deployment
    return None


def _view_override(event: Event) -> OverrideView:
    overridden = event.data.get("overridden", ())
    return {
        "actor": event.actor,
        "at": view_time(event.at),
        "overridden": [str(item) for item in overridden] if isinstance(overridden, list | tuple) else [],
        "reason": str(event.data.get("reason", "")),
    }


# --- how its rollout stood --------------------------------------------------------------------------------------------


def _rollouts(requests: Sequence[Task]) -> dict[str, float]:
    """Rollout → when the task first came to it."""
    found: dict[str, float] = {}
    for request in requests:
        if request.rollout:
            found.setdefault(request.rollout, request.at)
    return found


def _view_verdict(snapshot: Snapshot, rollout: str, at: float) -> LineageVerdict:
    events = snapshot.events(deployment=rollout, limit=1_000)
    step = _last(events, EventType.ROLLOUT_STEPPED, at)
    judgement = snapshot.judgement(rollout)
    verdict = judgement.verdict if judgement else {}
    against = _against_at(verdict, at)
    return {
        "rollout": rollout,
        "at": view_time(at),
        "step": _number(step.data.get("step"), int) if step else None,
        "weight": _number(step.data.get("weight"), float) if step else None,
        "kind": _kind_of(verdict, against) if judgement else None,
        "against": against,
        "latest": str(verdict["kind"]) if "kind" in verdict else None,
        "latest_at": view_time(judgement.at) if judgement else None,
        "decided": judgement.decided if judgement else None,
        "events": [view_event(item) for item in events if item.event.type.value.startswith(_STEERING)],
    }


def _last(events: Sequence[StoredEvent], kind: EventType, at: float) -> Event | None:
    return next((item.event for item in reversed(events) if item.event.type is kind and item.event.at <= at), None)


def _against_at(verdict: Mapping[str, Any], at: float) -> dict[str, float]:
    """The evidence by metric as it stood at a time; empty where the judge had said nothing yet."""
    points = [point for point in verdict.get("history", ()) if point["at"] <= at]
    return {str(name): float(value) for name, value in points[-1]["against"].items()} if points else {}


def _kind_of(verdict: Mapping[str, Any], against: Mapping[str, float]) -> str:
    """What evidence against the candidate meant: fail, hold, or that nothing was decided by it."""
    together = average_evidence(against)
    if together >= verdict.get("abort_at", float("inf")):
        return "fail"
    return "hold" if together >= verdict.get("hold_at", float("inf")) else "inconclusive"


def _number(value: object, kind: type[int] | type[float]) -> Any:
    return kind(value) if isinstance(value, int | float) else None


# --- what the release holds -------------------------------------------------------------------------------------------


def _read_model(office: Office, release: Release, problems: list[str]) -> dict[str, Any] | None:
    ref = release.components.get("model")
    if ref is None:
        return None
    try:
        model = json.loads(office.artifacts.read_all(ref.digest))
    except (TurnoutError, ValueError) as error:
        problems.append(f"the model pin cannot be read: {error}")
        return None
    return model if isinstance(model, dict) else None


def _read_prompts(office: Office, release: Release, problems: list[str]) -> list[PromptView]:
    ref = release.components.get("prompts")
    if ref is None:
        return []
    try:
        return office.read_texts(ref)
    except TurnoutError as error:
        problems.append(f"the prompts cannot be read: {error.message}")
        return []
