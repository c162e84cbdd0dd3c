"""Where a recording and its replay part: decisions task by task, and what they add up to. Pure.

Decisions are the calls of tools (which, in which order, with which arguments) and the outcome. Results of tools and texts of
answers are shown beside them; an answer counts only where that was asked for. Times in seconds, costs in dollars.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from turnout.domain.alignment import Moved, Pair, align_calls, find_moves
from turnout.domain.calls import Ended
from turnout.domain.intervals import share_bounds
from turnout.domain.models import Digest
from turnout.domain.recordings import RecordedRequest, RecordedTool, Recording, outcome_of

CONFIDENCE = 0.95  # of each bound of a share
LONGEST_SIDE = 8_000  # characters of one side of a step
_NOT_REDACTED = "(it could not be redacted in time)"
_ANSWERS_DIFFER = "they differ, and one was not kept whole"


class ChangeKind(StrEnum):
    """How one step of a task differs."""

    SAME = "same"
    ORDER = "order"  # the same call, at another place
    MISSING = "missing"  # a recorded call that was not made
    EXTRA = "extra"  # a call that the recording does not have
    ARGUMENTS = "arguments"  # the same tool, asked for something else
    DIVERGENCE = "divergence"  # a call of a model that the recording cannot answer
    RESULT = "result"  # the same call, another result
    OUTCOME = "outcome"
    ANSWER = "answer"  # the text that the caller got


DECISIONS = frozenset(
    {
        *(ChangeKind.ORDER, ChangeKind.MISSING, ChangeKind.EXTRA, ChangeKind.ARGUMENTS),
        *(ChangeKind.DIVERGENCE, ChangeKind.OUTCOME),
    }
)


class Came(StrEnum):
    """How a task came out."""

    SAME = "same"
    CHANGED = "changed"
    FAILED = "failed"  # the candidate did not answer
    UNUSABLE = "unusable"  # the recording cannot be replayed


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a task, on both sides. `after` is "" for what is missing, `before` for what came in addition."""

    kind: ChangeKind
    where: str  # such as "call 3: refund"
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Divergence:
    """A call that the recording does not hold. It never reached what it was meant for."""

    kind: str  # "tool" or "model"
    name: str
    why: str
    asked: str = ""  # arguments, or the digest of the request


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A recording that cannot be read, such as one whose file is missing."""

    task: str
    why: str


@dataclass(frozen=True, slots=True)
class TaskDiff:
    """How one task came out. `steps`: all of it in order, the same and the changed; `why`: it failed or is unusable."""

    task: str
    verdict: Came
    steps: tuple[Change, ...] = ()
    divergences: int = 0
    cost_before: float | None = None  # of calls of models
    cost_after: float | None = None
    seconds_before: float | None = None  # of the requests
    seconds_after: float | None = None
    why: str = ""

    @property
    def changes(self) -> tuple[Change, ...]:
        """The steps that are not the same."""
        return tuple(step for step in self.steps if step.kind is not ChangeKind.SAME)


@dataclass(frozen=True, slots=True)
class ReplaySummary:
    """What tasks add up to. `share`: of those that did not come out the same, with bounds of 95 % each.

    A task that failed or has no usable recording did not come out the same. Ratios: after over before, over the tasks that
    have both.
    """

    tasks: int
    same: int
    changed: int
    failed: int
    unusable: int
    divergences: int
    share: float
    low: float
    high: float
    cost_ratio: float | None
    latency_ratio: float | None
    strays: int = 0  # calls that belong to no task

    def holds(self, most: float) -> bool:
        """Whether the share is proven to be at most `most`. Never without a usable recording.

        Nor with calls that belong to no task: nobody knows what they would have done.
        """
        return self.tasks > self.unusable and not self.strays and self.high <= most

    def describe(self) -> str:
        """One line, for people."""
        if not self.tasks:
            return "no task was replayed"
        parts = [f"{self.same} of {self.tasks} tasks came out the same"]
        counted = (("changed", self.changed), ("failed", self.failed), ("unusable", self.unusable))
        parts += [f"{count} {name}" for name, count in counted if count]
        parts.append(f"share that did not {self.share:.1%} [{self.low:.1%}, {self.high:.1%}]")
        parts.append(f"{self.divergences} divergences")
        if self.strays:
            parts.append(f"{self.strays} calls that belong to no task")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """A replay: which release against the recordings of which, and how each task came out."""

    agent: str
    ring: str  # whose tasks were recorded
    baseline: Digest  # that answered then
    baseline_version: str
    candidate: Digest
    candidate_version: str
    models: str  # "live" or "recorded"
    answers: bool  # whether another text counts as changed
    at: float
    duration: float
    strays: int  # calls that belong to no task
    tasks: tuple[TaskDiff, ...]

    @property
    def summary(self) -> ReplaySummary:
        """What the tasks add up to."""
        return summarise(self.tasks, self.strays)


@dataclass(frozen=True, slots=True)
class KeptReplay:
    """A replay that an instance keeps. `report`: the digest of its document; `deployment`: whose gate it was."""

    id: str
    agent: str
    ring: str  # whose tasks were recorded
    baseline: Digest
    candidate: Digest
    at: float
    actor: str
    deployment: str | None
    summary: ReplaySummary
    report: Digest


def what_changed(
    before: Recording,
    after: Recording,
    divergences: Sequence[Divergence] = (),
    *,
    answers: bool = False,
    rule: str = "status",
    judged: Recording | None = None,
) -> TaskDiff:
    """Compare a recording with what the candidate did. `rule`: by which both are judged (see `outcomes.read_task`).

    `judged`: what the candidate did before anything was taken out of it; None: nothing was.
    """
    steps = (
        *_tool_steps(before, after),
        *(
            Change(ChangeKind.DIVERGENCE, f"model {item.name}", "", _cut(f"{item.why} {item.asked}".strip()))
            for item in divergences
            if item.kind == "model"
        ),
        *_request_steps(before, after, rule, judged or after),
    )
    counts = DECISIONS | {ChangeKind.ANSWER} if answers else DECISIONS
    verdict = Came.CHANGED if divergences or any(step.kind in counts for step in steps) else Came.SAME
    return TaskDiff(
        task=before.task,
        verdict=verdict,
        steps=steps,
        divergences=len(divergences),
        cost_before=_cost(before),
        cost_after=_cost(after),
        seconds_before=sum(request.duration for request in before.requests),
        seconds_after=sum(request.duration for request in after.requests),
    )


def summarise(tasks: Sequence[TaskDiff], strays: int = 0) -> ReplaySummary:
    """Add up how tasks came out. `strays`: calls that belong to none of them."""
    came = Counter(task.verdict for task in tasks)
    other = len(tasks) - came[Came.SAME]
    low, high = share_bounds(other, len(tasks), CONFIDENCE)
    usable = [task for task in tasks if task.verdict in (Came.SAME, Came.CHANGED)]
    return ReplaySummary(
        tasks=len(tasks),
        same=came[Came.SAME],
        changed=came[Came.CHANGED],
        failed=came[Came.FAILED],
        unusable=came[Came.UNUSABLE],
        divergences=sum(task.divergences for task in tasks),
        share=other / len(tasks) if tasks else 0.0,
        low=low,
        high=high,
        cost_ratio=_ratio((task.cost_before, task.cost_after) for task in usable),
        latency_ratio=_ratio((task.seconds_before, task.seconds_after) for task in usable),
        strays=strays,
    )


def call_digests(call: RecordedTool) -> tuple[str, ...]:
    """By which arguments a recorded call is found: as they were sent and, where patterns took something out, as kept.

    A candidate that gets a request without what was taken out passes it on like that.
    """
    if not call.redacted or call.arguments is None:
        return (call.arguments_digest,)
    return (call.arguments_digest, hashlib.sha256(call.arguments.encode(errors="replace")).hexdigest())


# --- calls of tools ---------------------------------------------------------------------------------------------------


def _tool_steps(before: Recording, after: Recording) -> Iterator[Change]:
    known_as = {(call.tool, digest): call.arguments_digest for call in before.tools for digest in call_digests(call)}
    old = [(call.tool, call.arguments_digest) for call in before.tools]
    new = [(call.tool, known_as.get((call.tool, call.arguments_digest), call.arguments_digest)) for call in after.tools]
    pairs = align_calls(old, new)
    moves = find_moves(pairs, old, new)
    moved_to = {move.after: move for move in moves}
    moved_from = {move.before for move in moves}
    for number, pair in enumerate(pairs, start=1):
        if pair.after is None and pair.before in moved_from:
            continue  # it is shown where it came to
        move = moved_to.get(pair.after) if pair.before is None and pair.after is not None else None
        first = before.tools[pair.before] if pair.before is not None else None
        second = after.tools[pair.after] if pair.after is not None else None
        if move is not None and second is not None:
            yield _moved_step(before, move, pairs, second, number)
        else:
            yield _tool_step(first, second, number, same=_is_same(pair, old, new))


def _is_same(pair: Pair, old: Sequence[tuple[str, str]], new: Sequence[tuple[str, str]]) -> bool:
    return pair.before is not None and pair.after is not None and old[pair.before] == new[pair.after]


def _tool_step(first: RecordedTool | None, second: RecordedTool | None, number: int, *, same: bool) -> Change:
    call = second or first
    where = f"call {number}: {call.tool if call else ''}"
    if first is None or call is None:
        return Change(ChangeKind.EXTRA, where, "", _arguments(second))
    if second is None:
        return Change(ChangeKind.MISSING, where, _arguments(first), "")
    if not same:
        return Change(ChangeKind.ARGUMENTS, where, _arguments(first), _arguments(second))
    kept = first.result is not None and not (second.ended is Ended.DONE and second.result is None)
    if kept and _result(first) != _result(second):  # what was left out is no other result
        return Change(ChangeKind.RESULT, where, _cut(_result(first)), _cut(_result(second)))
    return Change(ChangeKind.SAME, where, _arguments(first), _arguments(second))


def _moved_step(before: Recording, move: Moved, pairs: Sequence[Pair], second: RecordedTool, number: int) -> Change:
    """Calls that were under way at the same time have no order among them."""
    first = before.tools[move.before]
    passed = (
        before.tools[pair.before]
        for pair in pairs
        if pair.before is not None
        and pair.after is not None
        and (pair.before < move.before) != (pair.after < move.after)
    )
    kind = ChangeKind.SAME if all(_overlap(first, other) for other in passed) else ChangeKind.ORDER
    place = f" (was call {move.before + 1})" if kind is ChangeKind.ORDER else ""
    return Change(kind, f"call {number}: {first.tool}{place}", _arguments(first), _arguments(second))


def _overlap(one: RecordedTool, other: RecordedTool) -> bool:
    return one.at < other.at + other.duration and other.at < one.at + one.duration


def _arguments(call: RecordedTool | None) -> str:
    if call is None or call.arguments is None:
        return "" if call is None else f"(not kept, sha256 {call.arguments_digest[:12]})"
    return _cut(call.arguments)


def _result(call: RecordedTool) -> str:
    """In one form whoever wrote it; what went wrong, where there is no result."""
    if call.result is None:
        return call.error or call.ended.value
    return _canonical(call.result)


# --- requests ---------------------------------------------------------------------------------------------------------


def _request_steps(before: Recording, after: Recording, rule: str, judged: Recording) -> Iterator[Change]:
    statuses_differ = False
    for number, (old, new) in enumerate(zip(before.requests, after.requests, strict=False), start=1):
        where = f"request {number}"
        if old.status != new.status:
            statuses_differ = True
            yield Change(ChangeKind.OUTCOME, where, f"status {old.status}", f"status {new.status}")
        yield from _answer_step(where, old, new)
    was, became = outcome_of(before, rule), outcome_of(judged, rule)
    if not statuses_differ and was is not None and became is not None and was != became:
        yield Change(ChangeKind.OUTCOME, "task", _outcome_text(was), _outcome_text(became))


def _answer_step(where: str, old: RecordedRequest, new: RecordedRequest) -> Iterator[Change]:
    if old.answer is None:
        return
    if new.answer is None:  # that a pattern takes long must not hide another answer
        yield Change(ChangeKind.ANSWER, where, _cut(_canonical(old.answer.decode(errors="replace"))), _NOT_REDACTED)
        return
    first, second = (_canonical(answer.decode(errors="replace")) for answer in (old.answer, new.answer))
    if old.answer_whole and new.answer_whole:
        if first != second:
            yield Change(ChangeKind.ANSWER, where, _cut(first), _cut(second))
        else:
            yield Change(ChangeKind.SAME, where, _cut(first), _cut(second))
        return
    shorter = min(len(old.answer), len(new.answer))
    if old.answer[:shorter] != new.answer[:shorter]:
        yield Change(ChangeKind.ANSWER, f"{where} ({_ANSWERS_DIFFER})", _cut(first), _cut(second))


def _outcome_text(failed: bool) -> str:
    return "failed" if failed else "succeeded"


# --- numbers and texts ------------------------------------------------------------------------------------------------


def _cost(recording: Recording) -> float | None:
    return sum(call.cost for call in recording.models) if recording.models else None


def _ratio(pairs: Iterable[tuple[float | None, float | None]]) -> float | None:
    known = [(before, after) for before, after in pairs if before is not None and after is not None]
    whole = sum(before for before, _ in known)
    return sum(after for _, after in known) / whole if whole > 0 else None


def _canonical(text: str) -> str:
    """JSON with its keys in order, so that only what it says counts; any other text as it is."""
    try:
        return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _cut(text: str) -> str:
    if len(text) <= LONGEST_SIDE:
        return text
    return f"{text[:LONGEST_SIDE]}… ({len(text) - LONGEST_SIDE:,} more characters)"
