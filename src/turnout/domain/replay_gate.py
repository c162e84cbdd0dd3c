"""What a ring asks of a release by replay, and whether a replay holds it. Pure."""

from __future__ import annotations

from dataclasses import replace

from turnout.domain.models import Release, ReplaySettings
from turnout.domain.replays import KeptReplay


def replay_asked(candidate: Release, stable: Release | None, ring: str) -> ReplaySettings | None:
    """What the candidate's ring settings say; a release cannot lower the bar that the stable one has set.

    Where the stable release declares a threshold, it also says whose tasks are asked. What a replay costs and how tasks are
    asked is what the stable release says too. The candidate can only make it stricter: with more tasks, a lower threshold,
    or answers that count. None where neither asks for a replay.
    """
    own, other = (
        found.replay if release is not None and (found := release.spec.ring(ring)) is not None else None
        for release in (candidate, stable)
    )
    if own is None or other is None:
        return own or other
    how = replace(own, models=other.models, parallel=other.parallel, timeout=other.timeout)
    if other.changed is None:
        return how
    changed = other.changed if own.changed is None else min(own.changed, other.changed)
    return replace(
        how,
        source=other.source,
        tasks=max(own.tasks, other.tasks),
        changed=changed,
        answers=own.answers or other.answers,
    )


def replay_fault(asked: ReplaySettings, found: KeptReplay | None, ring: str) -> str | None:
    """Why a replay does not open the gate; None: it does. `found` is None where there was nothing to replay."""
    if asked.changed is None:
        return None
    if found is None or found.summary.tasks == found.summary.unusable:
        return (
            f"no recording of {asked.source} can be replayed, and {ring} asks for a replay with at most"
            f" {asked.changed:.0%} of the tasks changed"
        )
    summary = found.summary
    if summary.holds(asked.changed):
        return None
    return (
        f"the replay does not show that at most {asked.changed:.0%} of the tasks change: {summary.describe()}"
        f" (`turnout replay show {found.id}`)"
    )
