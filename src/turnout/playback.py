"""Recordings that are being played: which answer comes next, and what was asked that they do not hold. In memory.

The applications that answer in the place of a gateway ask here, from threads of their own; whoever replays tasks says which
are under way. It is a journal too: what was called is kept by task.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from turnout.domain.calls import Call
from turnout.domain.recordings import RecordedModel, RecordedTool, Recording
from turnout.domain.replays import Divergence, call_digests

NO_TASK = "the call tells no task, and it is not clear which of those under way it belongs to"
_MOST_STRAYS = 1_000


@dataclass(frozen=True, slots=True)
class Played:
    """What a task did: its calls in the order in which they ended, and those that the recording does not hold."""

    calls: tuple[Call, ...] = ()
    divergences: tuple[Divergence, ...] = ()
    unclear: bool = False  # whether a call came that may have been of this task or of another one under way


@dataclass(slots=True)
class _Tape:
    tools: dict[tuple[str, str], list[RecordedTool]] = field(default_factory=lambda: defaultdict(list))
    models: dict[tuple[str, str, bool], list[RecordedModel]] = field(default_factory=lambda: defaultdict(list))
    asked: Counter[tuple[str, ...] | tuple[str, str, bool]] = field(default_factory=Counter)
    calls: list[Call] = field(default_factory=list)
    divergences: list[Divergence] = field(default_factory=list)
    in_flight: int = 0
    unclear: bool = False


class Playback:
    """The recordings of all tasks that are under way. Safe for several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._tapes: dict[str, _Tape] = {}
        self._strays: list[Divergence] = []

    def begin(self, recording: Recording) -> None:
        """A task is under way from now on, from the beginning of its recording."""
        tape = _Tape()
        for call in recording.tools:
            for digest in dict.fromkeys(call_digests(call)):
                tape.tools[call.tool, digest].append(call)
        for model in recording.models:
            tape.models[model.endpoint, model.request_digest, is_stream(model)].append(model)
        with self._changed:
            self._tapes[recording.task] = tape

    def end(self, task: str, patience: float = 0.0) -> Played:
        """A task is over; waits so many seconds for calls that are not."""
        until = time.monotonic() + patience
        with self._changed:
            tape = self._tapes.get(task)
            if tape is None:
                return Played()
            while tape.in_flight and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            del self._tapes[task]
            return Played(tuple(tape.calls), tuple(tape.divergences), tape.unclear)

    def find(self, task: str | None) -> str | None:
        """The task of a call: the one it tells if that is under way; without one the only one that is."""
        with self._changed:
            if task is not None:
                return task if task in self._tapes else None
            return next(iter(self._tapes)) if len(self._tapes) == 1 else None

    @contextmanager
    def calling(self, task: str | None) -> Iterator[None]:
        """While a call is made, `end` waits for it."""
        with self._changed:
            tape = self._tapes.get(task) if task is not None else None
            if tape is not None:
                tape.in_flight += 1
        try:
            yield
        finally:
            with self._changed:
                if tape is not None:
                    tape.in_flight -= 1
                self._changed.notify_all()

    def tool_call(self, task: str, tool: str, digest: str) -> tuple[RecordedTool | None, bool]:
        """(what was recorded of the next equal call, whether it is the next): the last one again when they ran out."""
        with self._changed:
            tape = self._tapes.get(task)
            found = tape.tools.get((tool, digest)) if tape is not None else None
            if tape is None or not found:
                return None, False
            place = tape.asked[tool, digest]
            tape.asked[tool, digest] += 1
            return found[min(place, len(found) - 1)], place < len(found)

    def model_call(self, task: str, endpoint: str, digest: str, *, stream: bool) -> RecordedModel | None:
        """What was recorded of the next equal call; None for none, and when they ran out."""
        key = (endpoint, digest, stream)
        with self._changed:
            tape = self._tapes.get(task)
            found = tape.models.get(key) if tape is not None else None
            if tape is None or not found or tape.asked[key] >= len(found):
                return None
            tape.asked[key] += 1
            return found[tape.asked[key] - 1]

    def diverged(self, task: str | None, divergence: Divergence) -> None:
        """Note a call that the recording does not hold.

        One that tells no task makes those under way unclear. One that belongs to none of them is a stray.
        """
        with self._changed:
            tape = self._tapes.get(task) if task is not None else None
            if tape is not None:
                tape.divergences.append(divergence)
            elif task is None and self._tapes:
                for other in self._tapes.values():
                    other.unclear = True
            elif len(self._strays) < _MOST_STRAYS:
                self._strays.append(divergence)

    def write(self, call: Call) -> None:
        """Keep a call of a task that is under way. See `seams.CallJournal`."""
        with self._changed:
            tape = self._tapes.get(call.task) if call.task is not None else None
            if tape is not None:
                tape.calls.append(call)

    @property
    def strays(self) -> tuple[Divergence, ...]:
        """Calls that belong to no task that was under way."""
        with self._changed:
            return tuple(self._strays)


def is_stream(call: RecordedModel) -> bool:
    """Whether an answer was streamed."""
    return call.content_type.startswith("text/event-stream")
