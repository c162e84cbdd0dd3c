"""Calls of tools in a replay: answered from the recording of their task, so that nothing happens twice.

What may be called is checked as ever. A tool with side effects never reaches its server. One without is asked live where
that is wanted and the recording does not hold the call.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from turnout.domain.calls import Ended
from turnout.domain.grants import Grant, ToolPin
from turnout.domain.recordings import RecordedTool
from turnout.domain.replays import Divergence
from turnout.gateway.seams import Spending
from turnout.gateway.tools.calls import Answer, CallEnds, ToolCalls
from turnout.gateway.tools.recording import Record, arguments_digest, in_order
from turnout.gateway.tools.upstream import Upstreams
from turnout.playback import NO_TASK, Playback

_LONGEST_ASKED = 2_000  # characters


class RecordedToolCalls(ToolCalls):
    """Answers calls as they were answered when the task was recorded. `live_tools`: whether reading tools may be asked."""

    def __init__(
        self,
        playback: Playback,
        upstreams: Upstreams,
        spending: Spending,
        *,
        live_tools: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(upstreams, spending, playback, clock)
        self._playback = playback
        self._live_tools = live_tools

    async def call(self, grant: Grant, task: str | None, name: str, arguments: Mapping[str, Any]) -> Answer:
        """As `ToolCalls.call`. A call that tells no task belongs to the only one under way."""
        known = self._playback.find(task)
        with self._playback.calling(known):
            return await super().call(grant, known or task, name, arguments)

    async def _answered(self, record: Record, pin: ToolPin) -> dict[str, Any]:
        known = self._playback.find(record.task)
        if known is None:
            self._diverge(record, record.task, NO_TASK)
            raise CallEnds(Ended.REFUSED, f"this is a replay: {NO_TASK}")
        found, in_time = self._playback.tool_call(known, pin.name, arguments_digest(record.arguments))
        if found is None and self._live_tools and not pin.side_effects:
            return await super()._answered(record, pin)
        if found is None:
            self._diverge(record, known, "the recording holds no such call")
            raise CallEnds(
                Ended.REFUSED,
                f'not_recorded: this is a replay, and its recording holds no call of "{pin.name}" with these arguments',
            )
        if not in_time:
            self._diverge(
                record, known, "it was called more often than the recording holds; the last result was given again"
            )
        result = _recorded_result(found)
        record.written = in_order(result)
        record.size += len(record.written)
        return result

    def _diverge(self, record: Record, task: str | None, why: str) -> None:
        asked = json.dumps(record.arguments, sort_keys=True, ensure_ascii=False)[:_LONGEST_ASKED]
        self._playback.diverged(task, Divergence("tool", record.tool, why, asked))


def _recorded_result(call: RecordedTool) -> dict[str, Any]:
    if call.ended is not Ended.DONE or call.result is None:
        raise CallEnds(call.ended if call.ended is not Ended.DONE else Ended.FAILED, call.error or "it failed then")
    result = json.loads(call.result)
    if not isinstance(result, dict) or not isinstance(result.get("content"), list):
        raise CallEnds(Ended.FAILED, f'the recorded result of "{call.tool}" is none')
    return result
