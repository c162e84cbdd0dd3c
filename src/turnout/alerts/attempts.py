"""What became of a try to reach a target, and when to try again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

LONGEST_PAUSE = 30.0
_FIRST_PAUSE = 1.0
_LATER = frozenset({408, 409, 425, 429})
_ABOUT_THE_EVENT = frozenset({400, 413, 415, 422})
# With pauses of 15 to 30 s the second is a quarter of an hour: a proxy that answers 404 while its receiver is down for ten
# minutes costs no event.
_MOST_TRIES = {"event": 5, "receiver": 45}


class Fault(StrEnum):
    """What a try failed for."""

    UNREACHED = "unreached"  # nobody there, or not just now
    EVENT = "event"  # the receiver will not have this one event
    RECEIVER = "receiver"  # the receiver will have none: it moved, or does not know us


@dataclass(frozen=True, slots=True)
class Attempt:
    """A try. `error`: a sentence without secrets, None when all went well. `pause`: what the receiver asks for, seconds."""

    error: str | None = None
    fault: Fault = Fault.UNREACHED
    pause: float | None = None


def judge_status(status: int, pause: float | None = None) -> Attempt:
    """What an HTTP status says of a try."""
    if 200 <= status < 300:
        return Attempt()
    error = f"it answered {status}"
    if status in _ABOUT_THE_EVENT:
        return Attempt(error, Fault.EVENT)
    if 300 <= status < 500 and status not in _LATER:
        return Attempt(f"{error}; redirects are not followed" if status < 400 else error, Fault.RECEIVER)
    return Attempt(error, Fault.UNREACHED, pause)


def plan_retry(attempt: Attempt, tries: int, jitter: float) -> float | None:
    """Seconds until the next try after `tries` of them; None to give the event up. `jitter` is from 0 to 1.

    What is not reached is tried for ever: exponentially rarer, at least every 30 s.
    """
    if tries >= _MOST_TRIES.get(attempt.fault.value, tries + 1):
        return None
    pause = min(LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(tries - 1, 10))
    asked = min(attempt.pause or 0.0, LONGEST_PAUSE)
    return max(asked, pause * (0.5 + 0.5 * jitter))
