"""How the pointer of a ring changes. Pure: each function returns the pointer that follows.

A release that leaves the traffic is kept in `retired`, running, for the ring's warm time. Last-good is kept without limit.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from turnout.domain.models import Digest, Pointer, Retired

MOST_RETIRED = 3  # more than this many old releases are not kept running beside stable, candidate and last-good


def shift_traffic(pointer: Pointer, candidate: Digest, weight: int, rollout: str, now: float) -> Pointer:
    """Give the candidate of a rollout `weight` basis points beside the stable release. What was baking is done with."""
    return _changed(replace(pointer, candidate=candidate, weight=weight, rollout=rollout, holdback=0), now)


def withdraw_candidate(pointer: Pointer, now: float) -> Pointer:
    """Everything goes to stable again; the candidate stays running for a while, for those who want to look at it."""
    left = pointer.candidate
    return _changed(replace(pointer, candidate=None, weight=0, rollout=None), now, left)


def activate(
    pointer: Pointer, digest: Digest, deployment: str, now: float, holdback: int = 0, *, bakes: bool = False
) -> Pointer:
    """The release becomes stable; what was stable becomes last-good, and keeps `holdback` basis points while it bakes."""
    quiet = replace(pointer, candidate=None, weight=0, active_deployment=deployment, rollout=None, holdback=0)
    if pointer.stable == digest:
        return _changed(quiet, now)
    moved = replace(
        quiet,
        stable=digest,
        last_good=pointer.stable,
        rollout=deployment if bakes else None,
        holdback=holdback if bakes and pointer.stable is not None else 0,
    )
    return _changed(moved, now, pointer.last_good)


def roll_back(pointer: Pointer, target: Digest, deployment: str, now: float) -> Pointer:
    """The target becomes stable. What was stable is retired, never last-good: going back twice never returns to it."""
    kept = pointer.last_good if pointer.last_good != target else None
    moved = replace(
        pointer,
        stable=target,
        candidate=None,
        weight=0,
        last_good=None,
        active_deployment=deployment,
        rollout=None,
        holdback=0,
    )
    return _changed(moved, now, kept, pointer.candidate, pointer.stable)


def end_bake(pointer: Pointer, now: float) -> Pointer:
    """The stable release has proved itself: it gets everything, and is judged no more."""
    return _changed(replace(pointer, rollout=None, holdback=0), now)


def take_back_id(pointer: Pointer) -> str:
    """The id of the rollback that is made by itself for a state of a pointer: it can be made once, by whichever server."""
    seed = f"{pointer.agent}/{pointer.ring}/{pointer.generation}"
    return f"dep_{hashlib.sha256(seed.encode()).hexdigest()[:20]}"


def forget_retired(pointer: Pointer, digest: Digest, now: float) -> Pointer:
    """A retired release is no longer kept running."""
    rest = tuple(retired for retired in pointer.retired if retired.digest != digest)
    return _changed(replace(pointer, retired=rest), now)


def _changed(pointer: Pointer, now: float, *left: Digest | None) -> Pointer:
    """Count the generation, and retire what left the traffic unless the pointer names it elsewhere."""
    retired = {item.digest: item for item in pointer.retired}
    retired.update({digest: Retired(digest, now) for digest in left if digest is not None})
    for named in (pointer.stable, pointer.candidate, pointer.last_good):
        if named is not None:
            retired.pop(named, None)
    newest = sorted(retired.values(), key=lambda item: item.at)[-MOST_RETIRED:]
    return replace(pointer, retired=tuple(newest), generation=pointer.generation + 1, changed_at=now)
