"""Streaming calls that race for a budget, and what ends them: drawn from a seed, driven by the caller of this module.

A race knows nothing of how a call is made: it is given `open_stream`, which yields the chunks of one call, or raises
`Refused`. `gateway_budget.py` gives it calls that reserve at the ledger themselves; calls over HTTP fit as well.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import count


class End(StrEnum):
    """How a call ends."""

    DONE = "done"
    CANCELLED = "cancelled"  # its task is, at any moment: also while it reserves
    DISCONNECTED = "disconnected"  # the agent stops reading
    EARLY = "error before the first chunk"
    CUT = "cut in mid-stream"


@dataclass(frozen=True, slots=True)
class Plan:
    """One call. Times in seconds."""

    call: str
    begins: float  # after the start of the race
    first_chunk: float
    gap: float  # between chunks
    chunks: int
    share: float  # of its worst case that it takes in the end
    end: End
    ends_after: int  # chunks that the caller sees, where it does not see all
    cancelled_after: float = 0.0


class Refused(Exception):
    """A budget is in the way. `falsely`: although the call would fit; `lasting`: also when all holds are released."""

    def __init__(self, *, falsely: bool, lasting: bool) -> None:
        super().__init__()
        self.falsely, self.lasting = falsely, lasting


class CutOff(Exception):
    """The provider's stream broke off, or did not begin."""


@dataclass
class Tally:
    """What became of the calls of a race."""

    ends: Counter[str] = field(default_factory=Counter)
    refusals: int = 0
    false_refusals: int = 0

    def add(self, other: Tally) -> None:
        """Count those of another process too."""
        self.ends.update(other.ends)
        self.refusals += other.refusals
        self.false_refusals += other.false_refusals


OpenStream = Callable[[Plan], AsyncGenerator[int, None]]
_ENDS = (*[End.DONE] * 4, *[End.CANCELLED] * 2, End.DISCONNECTED, End.EARLY, End.CUT)


def plan_calls(seed: int, number: int) -> list[Plan]:
    """The calls of a race, the same for the same seed. In every third race most spend little: all come in at last."""
    draw = random.Random(seed)
    dear = draw.uniform(0.3, 1.0) if seed % 3 else 0.1
    return [
        Plan(
            call=f"{seed}-{index}",
            begins=draw.uniform(0, 0.2),
            first_chunk=draw.uniform(0, 0.05),
            gap=draw.uniform(0, 0.02),
            chunks=(chunks := draw.randint(1, 8)),
            share=draw.choice([0.0, 1.0, draw.random(), draw.random()]) * dear,
            end=draw.choice(_ENDS),
            ends_after=draw.randint(0, chunks),
            cancelled_after=draw.expovariate(1 / 0.08),
        )
        for index in range(number)
    ]


async def race(plans: Sequence[Plan], open_stream: OpenStream, patience: float) -> Tally:
    """Make all calls at once; who is refused tries again until it comes in, or for so many seconds."""
    tally = Tally()
    until = time.monotonic() + patience
    await asyncio.gather(*(_run(plan, open_stream, tally, until) for plan in plans))
    return tally


async def _run(plan: Plan, open_stream: OpenStream, tally: Tally, until: float) -> None:
    draw = random.Random(plan.call)
    await asyncio.sleep(plan.begins)
    for attempt in count():
        try:
            # A call of its own each time, as an SDK makes it.
            ended = await _call(plan, open_stream(replace(plan, call=f"{plan.call}-{attempt}")))
        except Refused as refused:
            tally.refusals += 1
            tally.false_refusals += refused.falsely
            if refused.lasting or time.monotonic() > until:
                tally.ends["refused"] += 1
                return
            await asyncio.sleep(draw.uniform(0.1, 0.4))
        else:
            tally.ends[ended] += 1
            return


async def _call(plan: Plan, stream: AsyncGenerator[int, None]) -> End:
    reading = asyncio.ensure_future(_read(plan, stream))
    if plan.end is End.CANCELLED:
        await asyncio.wait([reading], timeout=plan.cancelled_after)
        reading.cancel()
    try:
        await reading
    except (asyncio.CancelledError, CutOff):
        return plan.end
    return End.DONE if plan.end is End.CANCELLED else plan.end


async def _read(plan: Plan, stream: AsyncGenerator[int, None]) -> None:
    async with aclosing(stream):
        seen = 0
        async for _ in stream:
            seen += 1
            if plan.end is End.DISCONNECTED and seen > plan.ends_after:
                return
