"""Runs recordings against a release and compares: each task by itself, whatever becomes of the others.

A task that hangs or that the release dies of fails, and the release is started anew for the next. When several tasks were
under way at that moment, nobody can tell whose fault it was: each of them is asked once more, alone. So are those that were
under way when a call came that told no task.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Protocol

from turnout.domain.calls import ModelCall, ToolCall
from turnout.domain.errors import TurnoutError
from turnout.domain.models import Capture, Digest
from turnout.domain.recordings import RecordedRequest, Recording, record_model, record_tool
from turnout.domain.replays import Came, ReplayReport, TaskDiff, Unreadable, what_changed
from turnout.playback import Playback, Played
from turnout.redaction import Redactor
from turnout.replay.asking import LARGEST_ANSWER, Broken, ask_task

CALLS_PATIENCE = 5.0  # seconds that calls under way have after the last answer
_LOG_LINES = 3
_REDACT_SECONDS = 2.0  # nothing waits for it, and a busy machine must not make a difference
_HIDDEN = "(left out: it could not be redacted in time)"
_DEATH_SECONDS = 0.3  # between a connection that broke and the end of the process that broke it

OnProgress = Callable[[int, int, TaskDiff], None]
"""(how many tasks are over, of how many, how the last one came out)."""


class Stage(Protocol):
    """A release that runs apart."""

    @property
    def url(self) -> str:
        """Where it answers."""

    def alive(self) -> bool:
        """Whether its process runs."""

    def restart(self) -> None:
        """End it and start it anew. Raises a `TurnoutError` where it does not become ready."""

    def log_tail(self) -> str:
        """The end of what it wrote."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What is replayed, and how. `rule`: by which the recorded release says that a task succeeded."""

    agent: str
    ring: str  # whose tasks were recorded
    baseline: Digest
    baseline_version: str
    candidate: Digest
    candidate_version: str
    rule: str = "status"
    models: str = "recorded"  # or "live"
    live_tools: bool = False  # whether tools without side effects are asked for what was not recorded
    answers: bool = False  # whether another text counts as changed
    parallel: int = 1
    timeout: float = 60.0  # seconds for all requests of a task
    redact: tuple[str, ...] | None = None  # patterns as they were applied to the recordings; None: those to be hidden
    hide: tuple[str, ...] = ()  # what else must not get into the report; nothing is compared by these


def run_replay(
    stage: Stage,
    playback: Playback,
    recordings: Sequence[Recording | Unreadable],
    replay: Replay,
    on_progress: OnProgress | None = None,
) -> ReplayReport:
    """Replay recordings, in the thread that started the stage. `playback` answers the calls of the release.

    Never raises for what a recording or the release does; each task says how it came out.
    """
    at, began = time.time(), time.monotonic()
    run = _Run(stage, playback, replay, len(recordings), on_progress)
    run.run(recordings)
    found = [run.diffs[place] for place in range(len(recordings))]
    return ReplayReport(
        agent=replay.agent,
        ring=replay.ring,
        baseline=replay.baseline,
        baseline_version=replay.baseline_version,
        candidate=replay.candidate,
        candidate_version=replay.candidate_version,
        models=replay.models,
        answers=replay.answers,
        at=at,
        duration=time.monotonic() - began,
        strays=len(playback.strays),
        tasks=tuple(found),
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What became of a task. `broken`: how the release failed to answer, None if it did answer."""

    played: Played
    requests: tuple[RecordedRequest, ...]
    broken: str | None = None
    refused: bool = False  # it was gone before it heard of the task


class _Run:
    """One replay under way. Only `_ask` runs in other threads."""

    def __init__(
        self, stage: Stage, playback: Playback, replay: Replay, total: int, on_progress: OnProgress | None
    ) -> None:
        self._stage = stage
        self._playback = playback
        self._replay = replay
        self._total = total
        self._on_progress = on_progress
        self._redactor = Redactor(limit=_REDACT_SECONDS)
        self._gone: str | None = None  # why the release cannot be started any more
        self.diffs: dict[int, TaskDiff] = {}

    def run(self, recordings: Sequence[Recording | Unreadable]) -> None:
        """All of them; what cannot be replayed is said first."""
        usable: dict[int, Recording] = {}
        for place, item in enumerate(recordings):
            fault = find_fault(item, self._replay, (found.task for found in usable.values()))
            if isinstance(item, Recording) and fault is None:
                usable[place] = item
            else:
                self._note(place, TaskDiff(item.task, Came.UNUSABLE, why=fault or ""))
        alone = self._together(usable) if self._replay.parallel > 1 else list(usable)
        for place in alone:
            self._one(place, usable[place])

    def _one(self, place: int, recording: Recording) -> None:
        """One task with nothing beside it."""
        if self._gone is not None:
            self._note(place, TaskDiff(recording.task, Came.FAILED, why=self._gone))
            return
        asked = self._ask(recording)
        if asked.refused and self._restart():
            asked = self._ask(recording)
        self._conclude(place, recording, asked)
        if asked.broken is not None:
            self._restart()

    def _together(self, usable: dict[int, Recording]) -> list[int]:
        """Several at once. Returns those that have to be asked alone."""
        left, alone = deque(usable), list[int]()
        running: dict[Future[_Asked], int] = {}
        with ThreadPoolExecutor(self._replay.parallel, thread_name_prefix="replay") as pool:
            while running or (left and self._gone is None):
                while left and len(running) < self._replay.parallel:
                    place = left.popleft()
                    running[pool.submit(self._ask, usable[place])] = place
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                if any(future.result().broken is not None for future in done):
                    done, _ = wait(running)  # the release is of no more use to any of them
                beside = len(running) > 1
                for future in done:
                    place, asked = running.pop(future), future.result()
                    if asked.refused or asked.played.unclear or (asked.broken is not None and beside):
                        alone.append(place)
                    else:
                        self._conclude(place, usable[place], asked)
                if any(future.result().broken is not None for future in done):
                    self._restart()
        return [*alone, *left]

    def _ask(self, recording: Recording) -> _Asked:
        self._playback.begin(recording)
        answered: list[RecordedRequest] = []
        broken, refused = None, False
        try:
            for request in ask_task(self._stage.url, recording, self._replay.timeout):
                answered.append(request)
        except Broken as error:
            broken, refused = str(error), error.refused and not answered
        played = self._playback.end(recording.task, 0.0 if broken else CALLS_PATIENCE)
        return _Asked(played, tuple(answered), broken, refused)

    def _conclude(self, place: int, recording: Recording, asked: _Asked) -> None:
        replay, judged = self._replay, _after(recording, asked, self._replay)
        capture = Capture(LARGEST_ANSWER, replay.hide if replay.redact is None else replay.redact)
        answers = (replace(item, answer=self._redactor.redact(item.answer, capture)) for item in asked.requests)
        after = replace(judged, requests=tuple(answers))
        diff = what_changed(
            recording, after, asked.played.divergences, answers=replay.answers, rule=replay.rule, judged=judged
        )
        if asked.broken is not None:
            diff = replace(diff, verdict=Came.FAILED, why=self._how_it_broke(asked.broken))
        self._note(place, self._hidden(diff))

    def _hidden(self, diff: TaskDiff) -> TaskDiff:
        """Without what either release calls secret, wherever it came from, such as the log."""
        patterns = tuple(dict.fromkeys((*(self._replay.redact or ()), *self._replay.hide)))
        if not patterns:
            return diff

        def hidden(text: str) -> str:
            kept = self._redactor.redact(text.encode(errors="replace"), Capture(LARGEST_ANSWER, patterns))
            return _HIDDEN if kept is None else kept.decode(errors="replace")

        steps = tuple(replace(step, before=hidden(step.before), after=hidden(step.after)) for step in diff.steps)
        return replace(diff, steps=steps, why=hidden(diff.why))

    def _how_it_broke(self, broken: str) -> str:
        until = time.monotonic() + _DEATH_SECONDS
        while self._stage.alive():
            if time.monotonic() > until:
                return broken
            time.sleep(0.02)
        said = " / ".join(line.strip() for line in self._stage.log_tail().splitlines()[-_LOG_LINES:] if line.strip())
        return f"{broken}; the release ended{f': {said}' if said else ''}"

    def _restart(self) -> bool:
        try:
            self._stage.restart()
        except TurnoutError as error:
            self._gone = f"the release could not be started again: {error.message}"
        return self._gone is None

    def _note(self, place: int, diff: TaskDiff) -> None:
        self.diffs[place] = diff
        if self._on_progress is not None:
            self._on_progress(len(self.diffs), self._total, diff)


def find_fault(item: Recording | Unreadable, replay: Replay, known: Iterable[str] = ()) -> str | None:
    """Why a recording cannot be replayed; None: it can. `known`: tasks that are replayed already."""
    if isinstance(item, Unreadable):
        return item.why
    if item.agent != replay.agent:
        return f"it is a recording of the agent {item.agent}, not of {replay.agent}"
    if item.release != replay.baseline:
        return f"it was answered by release {item.version}, not by {replay.baseline_version}"
    if item.task in known:
        return "the task is in the list twice"
    return "; ".join(item.faults(models=replay.models == "recorded")) or None


def _after(recording: Recording, asked: _Asked, replay: Replay) -> Recording:
    """What the release did, as a recording of it."""
    calls = sorted(asked.played.calls, key=lambda call: call.at)
    return Recording(
        agent=recording.agent,
        ring=recording.ring,
        release=replay.candidate,
        version=replay.candidate_version,
        task=recording.task,
        at=asked.requests[0].at if asked.requests else recording.at,
        requests=asked.requests,
        tools=tuple(record_tool(call, whole=call.result is not None) for call in calls if isinstance(call, ToolCall)),
        models=tuple(
            record_model(call, whole=call.answer is not None) for call in calls if isinstance(call, ModelCall)
        ),
        failed=None,
        intervened=None,
        cost=None,
    )
