"""Why a deployment is where it is: what decided, on what evidence, what was done about it and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote

from turnout.domain.errors import NotFound, TurnoutError
from turnout.domain.events import Event, EventType
from turnout.domain.models import FULL_WEIGHT, Approval, Deployment, Digest, Kind, Pointer, Release, short_digest
from turnout.domain.outcomes import TALLY_SECONDS, Tally, TallyKey
from turnout.domain.phases import IN_PROGRESS, Phase
from turnout.domain.policy import Verb
from turnout.ports import Snapshot, StoredEvent, StoredJudgement
from turnout.schemas import (
    ChangeView,
    ComponentDiff,
    WhyApproval,
    WhyDiff,
    WhyNext,
    WhyOverride,
    WhyPoint,
    WhyServing,
    WhyView,
)
from turnout.services.decision import find_decision
from turnout.services.evidence import build_course, read_breaker, read_evidence, read_series
from turnout.services.office import Actor, Office, find_way_back
from turnout.services.releases import summarize
from turnout.services.timeline import list_done
from turnout.services.views import view_deployment, view_release, view_time

_MOST_EVENTS = 500
_MOST_LINES = 12
_LINES_A_CHANGE = 4
_LONGEST_LINE = 160
_COURSE_POINTS = 30
# What people look at first when an agent behaves otherwise.
_TELLING = ("prompts", "model", "tools", "config", "code", "data")
_TAKEN_BACK = (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
_LEAVING = (Phase.ROLLING_BACK.value, Phase.FAILED.value)
_SELF = "turnout"


@dataclass(frozen=True, slots=True)
class _Cause:
    """What decided. `kind` as in `WhyCause`."""

    kind: str
    text: str
    by: str
    at: float
    metric: str | None = None


@dataclass(frozen=True, slots=True)
class _Case:
    """All that was found about a deployment."""

    deployment: Deployment
    pointer: Pointer
    events: Sequence[Event]  # of the deployment, in order
    ring: Sequence[Event]  # of its ring, from when it was asked for
    release: Release | None
    other: Release | None  # what it is compared with
    judgement: StoredJudgement | None
    versions: Mapping[Digest, str]
    left: str | None  # of a rollback: the deployment that it took out of the traffic
    way_back: bool  # whether `turnout rollback` finds a release to go back to

    def name(self, digest: object) -> str:
        """The version of a release, for people."""
        return self.versions.get(Digest(str(digest)), short_digest(str(digest))) if digest else "nothing"

    def last(self, type_: EventType) -> Event | None:
        """The newest event of a type that belongs to the deployment."""
        return next((event for event in reversed(self.events) if event.type is type_), None)


def why(office: Office, actor: Actor, deployment_id: str) -> WhyView:
    """A deployment on one page, whatever its state. Raises `NotFound`."""
    actor.check(Verb.READ)
    now = office.clock.now()
    with office.store.snapshot() as snapshot:
        deployment = snapshot.deployment(deployment_id)
        if deployment is None:
            raise NotFound(f"there is no deployment {deployment_id!r}", hint="`turnout deployments list` shows them")
        case = _gather(snapshot, deployment)
        cause = _find_cause(case)
        verdict = case.judgement.verdict if case.judgement is not None else None
        tripped = case.last(EventType.BREAKER_TRIPPED)
        series = read_series(verdict) if verdict is not None else []
        if tripped is not None and cause.kind == "breaker":
            series = _read_course(snapshot, case, tripped) or series
        view: WhyView = {
            "at": view_time(now),
            "headline": _headline(case, cause),
            "deployment": view_deployment(snapshot, deployment, transitions=True),
            "release": view_release(snapshot, case.release) if case.release else None,
            "cause": {
                "kind": cause.kind,
                "text": cause.text,
                "by": cause.by,
                "at": view_time(cause.at),
                "metric": cause.metric,
            },
            "decision": None
            if cause.kind == "waiting"
            else find_decision(
                snapshot, deployment, case.events, case.judgement, cause.at, judged=cause.kind == "judge"
            ),
            "evidence": read_evidence(verdict) if verdict is not None else None,
            "breaker": read_breaker(tripped.data) if tripped is not None else None,
            "series": series,
            "diff": None,
            "approvals": _list_approvals(snapshot.approvals(deployment.agent, deployment.ring, deployment.digest)),
            "overrides": _list_overrides(case),
            "done": list_done(deployment, case.ring, case.name),
            "serving": _view_serving(case),
            "next": _list_next(case, cause),
        }
    if case.release is not None and case.other is not None:
        view["diff"] = _compare(office, case.other, case.release)  # reads blobs, so it comes after the snapshot
    return view


# --- gathering -------------------------------------------------------------------------------------------------------


def _gather(snapshot: Snapshot, deployment: Deployment) -> _Case:
    pointer = snapshot.pointer(deployment.agent, deployment.ring)
    early = snapshot.events(deployment=deployment.id, limit=_MOST_EVENTS)
    late = snapshot.events(deployment=deployment.id, newest_first=True, limit=_MOST_EVENTS)
    own = _merge(early, late)
    first = own[0].seq - 1 if own else 0
    agent, ring = deployment.agent, deployment.ring
    early = snapshot.events(first, agent=agent, ring=ring, limit=_MOST_EVENTS)
    late = snapshot.events(first, agent=agent, ring=ring, newest_first=True, limit=_MOST_EVENTS)
    other = _find_other(snapshot, deployment, pointer)
    around = [stored.event for stored in _merge(early, late)]
    return _Case(
        deployment=deployment,
        pointer=pointer,
        events=[stored.event for stored in own],
        ring=around,
        release=snapshot.release(deployment.digest),
        other=snapshot.release(other) if other else None,
        judgement=snapshot.judgement(deployment.id),
        versions={release.digest: release.version for release in snapshot.releases(deployment.agent)},
        left=_find_left(deployment, around),
        way_back=find_way_back(snapshot, pointer) is not None,
    )


def _merge(some: Sequence[StoredEvent], more: Sequence[StoredEvent]) -> list[StoredEvent]:
    """Of a long story the beginning and the end."""
    found = {stored.seq: stored for stored in (*some, *more)}
    return [found[seq] for seq in sorted(found)]


def _find_other(snapshot: Snapshot, deployment: Deployment, pointer: Pointer) -> Digest | None:
    """The release that serves now; for the one that serves, the one that served before it."""
    if pointer.stable is not None and pointer.stable != deployment.digest:
        return pointer.stable
    history = dict.fromkeys(snapshot.activations(deployment.agent, deployment.ring))
    return pointer.last_good or next((digest for digest in history if digest != deployment.digest), None)


def _find_left(deployment: Deployment, ring: Sequence[Event]) -> str | None:
    """What went when a rollback came: both are moved in one transaction."""
    if deployment.kind is not Kind.ROLLBACK:
        return None
    went = (Phase.ACTIVE.value, Phase.ROLLING_BACK.value, deployment.active_at)
    moves = (event for event in ring if event.type is EventType.DEPLOYMENT_TRANSITIONED)
    return next(
        (event.deployment for event in moves if (event.data.get("from"), event.data.get("to"), event.at) == went), None
    )


# --- what decided ----------------------------------------------------------------------------------------------------


def _find_cause(case: _Case) -> _Cause:
    deployment = case.deployment
    ended = case.last(EventType.DEPLOYMENT_TRANSITIONED)
    reason = str(ended.data.get("reason", "")) if ended is not None else ""
    if deployment.phase in IN_PROGRESS:
        held = _find_decider(case)
        if held is not None and deployment.rollout.tripped:
            return held
        condition = deployment.condition
        text = condition.message if condition is not None else f"it is {deployment.phase.value}"
        at = condition.since if condition is not None else deployment.phase_at
        return _Cause("waiting", text, _SELF, at)
    if deployment.phase in (Phase.ACTIVE, Phase.SUPERSEDED):
        actor = deployment.actor if deployment.kind is Kind.ROLLBACK else _SELF
        kind = "person" if deployment.kind is Kind.ROLLBACK and deployment.actor != _SELF else "none"
        text = deployment.reason if deployment.kind is Kind.ROLLBACK and deployment.reason else reason
        return _Cause(kind, text, actor, deployment.phase_at)
    decided = _find_decider(case)
    if decided is not None:
        return decided
    left = next((event for event in reversed(case.events) if event.data.get("to") in _LEAVING), ended)
    text = str(left.data.get("reason", "")) if left is not None else reason
    by, at = (left.actor, left.at) if left is not None else (_SELF, deployment.phase_at)
    return _Cause("check" if by == _SELF else "person", text, by, at)


def _find_decider(case: _Case) -> _Cause | None:
    """The judge, a breaker or a person, whoever spoke first: what comes later finds the release on its way out."""
    for event in case.events:
        metric = str(event.data["metric"]) if event.data.get("metric") else None
        message = str(event.data.get("message") or event.data.get("reason") or "")
        if event.type is EventType.ROLLOUT_JUDGED:
            return _Cause("judge", message or f"the judge: {metric}", event.actor, event.at, metric)
        if event.type is EventType.BREAKER_TRIPPED:
            return _Cause("breaker", message or f"breaker: {metric}", event.actor, event.at, metric)
        if event.type is EventType.DEPLOYMENT_ABORT_REQUESTED:
            return _Cause("person", message, event.actor, event.at)
    return None


def _headline(case: _Case, cause: _Cause) -> str:
    deployment = case.deployment
    version = case.name(deployment.digest)
    where = f"{deployment.agent} {deployment.ring}"
    if deployment.phase in IN_PROGRESS:
        return f"{where}: {version} is {deployment.phase.value}"
    said = {
        Phase.ACTIVE: f"{version} is active",
        Phase.SUPERSEDED: f"{version} was followed by {case.name(case.pointer.stable)}",
        Phase.FAILED: f"{version} failed before it got any traffic",
        Phase.ROLLING_BACK: f"{version} is being taken back",
        Phase.ROLLED_BACK: f"{version} was taken back",
    }[deployment.phase]
    if cause.kind == "check" and not deployment.rollout.began_at and deployment.phase in _TAKEN_BACK:
        return f"{where}: {version} did not pass its checks"
    by = {"judge": " by the judge", "breaker": " by a breaker", "person": f" by {cause.by}"}.get(cause.kind, "")
    return f"{where}: {said}{by if deployment.phase in _TAKEN_BACK else ''}"


def _read_course(snapshot: Snapshot, case: _Case, tripped: Event) -> list[WhyPoint]:
    """What the breaker saw in its window. The tasks may be forgotten by now."""
    deployment = case.deployment
    key = TallyKey(deployment.agent, deployment.ring, deployment.digest)
    sums = []
    for step in range(_COURSE_POINTS, -2, -1):
        since = tripped.at - step * TALLY_SECONDS
        sums.append(snapshot.tallies(since, deployment.agent, deployment.ring).get(key, Tally()))
    points = build_course(str(tripped.data.get("metric", "")), sums)
    return points if any(value for point in points for value in point["against"].values()) else []


# --- what differs ----------------------------------------------------------------------------------------------------


def _compare(office: Office, before: Release, after: Release) -> WhyDiff:
    view: WhyDiff = {
        "a_version": before.version,
        "b_version": after.version,
        "text": "",
        "lines": [],
        "left_out": 0,
        "problem": None,
    }
    try:
        components = office.diff(before, after)
    except TurnoutError as error:
        return {**view, "problem": error.message}
    lines = _telling_lines(components)
    text = summarize(components)["text"]
    return {**view, "text": text, "lines": lines[:_MOST_LINES], "left_out": max(len(lines) - _MOST_LINES, 0)}


def _telling_lines(components: Sequence[ComponentDiff]) -> list[str]:
    """Every change in a line or a few: of text what went and what came, of values both."""
    order = {name: index for index, name in enumerate(_TELLING)}
    lines = []
    for component in sorted(components, key=lambda item: order.get(item["component"], len(order))):
        for change in component["changes"]:
            lines.append(f"{component['component']}: {_describe(change)}")
            diff = change.get("diff", "").splitlines()
            heads = ("+++", "---")
            changed = [line for line in diff if line[:1] in ("+", "-") and line[1:].strip() and line[:3] not in heads]
            lines += [f"  {line[:_LONGEST_LINE]}" for line in changed[:_LINES_A_CHANGE]]
    return lines


def _describe(change: ChangeView) -> str:
    values = [change.get(side) for side in ("before", "after") if isinstance(change.get(side), str | int | float)]
    shown = f": {' → '.join(str(value)[:_LONGEST_LINE] for value in values)}" if values and "diff" not in change else ""
    return f"{change['change']} {change['kind']} {change['path']}{shown}"


# --- who, what, and then ---------------------------------------------------------------------------------------------


def _list_approvals(approvals: Sequence[Approval]) -> list[WhyApproval]:
    return [
        {"by": item.approver, "approved": item.approved, "at": view_time(item.at), "comment": item.comment}
        for item in approvals
    ]


def _list_overrides(case: _Case) -> list[WhyOverride]:
    found: list[WhyOverride] = []
    for event in case.events:
        if event.type is EventType.POLICY_OVERRIDDEN:
            over = event.data.get("overridden")
            items = [str(item) for item in over] if isinstance(over, list | tuple) else []
            reason = str(event.data.get("reason", ""))
            found.append({"by": event.actor, "at": view_time(event.at), "reason": reason, "overridden": items})
    return found


def _view_serving(case: _Case) -> WhyServing:
    pointer = case.pointer
    return {
        "stable": pointer.stable,
        "stable_version": case.name(pointer.stable) if pointer.stable else None,
        "candidate": pointer.candidate,
        "candidate_version": case.name(pointer.candidate) if pointer.candidate else None,
        "weight": pointer.weight * 100 / FULL_WEIGHT,
    }


def _list_next(case: _Case, cause: _Cause) -> list[WhyNext]:
    """The commands that help now, the most likely first."""
    deployment = case.deployment
    agent, ring, version = deployment.agent, deployment.ring, case.name(deployment.digest)
    look: list[WhyNext] = []
    if case.judgement is not None and (tasks := read_evidence(case.judgement.verdict)["tasks"]):
        task = tasks[0]["task"]
        name = f"{'-- ' if task.startswith('-') else ''}{quote(task)}"  # else it would be taken for an option
        look.append({"what": "look at the task that weighed most", "command": f"turnout lineage {name}"})
    if case.other is not None:
        command = f"turnout diff {quote(case.other.version)} {quote(version)} --agent {agent}"
        look.append({"what": "read the whole difference", "command": command})
    logs: WhyNext = {"what": "read what it printed", "command": f"turnout logs {agent} --ring {ring}"}
    if deployment.phase in IN_PROGRESS:
        return _next_in_progress(deployment, cause, look)
    if case.left is not None:
        look.insert(0, {"what": "see why the release before it was left", "command": f"turnout why {case.left}"})
    if deployment.phase is Phase.ACTIVE:
        return _next_of_active(case, look)
    if deployment.phase is Phase.SUPERSEDED:
        return [{"what": "see what serves now", "command": f"turnout status {agent}"}, *look]
    mended: WhyNext = {"what": "deploy a mended release", "command": "turnout deploy"}
    if deployment.phase is Phase.FAILED:
        return [logs, mended, *look]
    sure: WhyNext = {"what": "see that it is out of the traffic", "command": f"turnout status {agent}"}
    return [sure, *look, logs, mended]


def _next_of_active(case: _Case, look: Sequence[WhyNext]) -> list[WhyNext]:
    """Undoing comes first, but for what is itself the way back from something worse."""
    deployment = case.deployment
    where = f"{deployment.agent} --ring {deployment.ring}"
    if not case.way_back:
        return [*look, {"what": "if it does something wrong, deploy a mended release", "command": "turnout deploy"}]
    if deployment.kind is not Kind.ROLLBACK:
        undo = f"turnout rollback {where} --reason TEXT"
        return [{"what": "if it does something wrong, undo it", "command": undo}, *look]
    undo = f"turnout rollback {where} --leaving {quote(case.name(deployment.digest))} --reason TEXT"
    return [*look, {"what": "if it does something wrong too, go back further", "command": undo}]


def _next_in_progress(deployment: Deployment, cause: _Cause, look: Sequence[WhyNext]) -> list[WhyNext]:
    where = f"{deployment.agent} --ring {deployment.ring}"
    found: list[WhyNext] = []
    if deployment.condition is not None and deployment.condition.type == "awaiting_approval":
        found.append({"what": "approve it", "command": f"turnout approve {where}"})
        found.append({"what": "or reject it", "command": f"turnout reject {where}"})
    elif deployment.rollout.step >= 0:
        if deployment.rollout.paused:
            found.append({"what": "go on", "command": f"turnout rollout resume {where}"})
        elif cause.kind == "waiting":
            found.append({"what": "go on without waiting", "command": f"turnout rollout advance {where}"})
        found.append({"what": "take it back", "command": f"turnout rollback {where} --reason TEXT"})
    if not found:
        found.append({"what": "end it", "command": f"turnout rollout abort {where}"})
    return [*found, *look]
