"""What the breakers of a ring look at, read for the releases that they watch."""

from __future__ import annotations

from dataclasses import replace

from turnout.domain.breakers import BreakerRecord, Span, Trip, Window, began_at, find_looks, find_trip, find_watched
from turnout.domain.models import Breaker, BreakerScope, Digest
from turnout.domain.view import RingView
from turnout.ports import Snapshot


def find_tripped(snapshot: Snapshot, view: RingView, records: tuple[BreakerRecord, ...], now: float) -> Trip | None:
    """The first breaker that trips in a ring: for its candidate, for stable, or for a release that is on trial.

    `records`: of the breakers of the ring that ever tripped.
    """
    agent, ring = view.pointer.agent, view.pointer.ring
    watched = find_watched(view.pointer, records, now)
    seen: dict[Breaker, Window] = {}
    resets: dict[tuple[Digest, Breaker], Window] = {}
    read: dict[tuple[BreakerScope, Span], Window] = {}  # many look at the same
    for look in find_looks(
        _declared(snapshot, view, watched), watched, records, began_at((view.deployment, view.active)), now
    ):
        key = (look.breaker.scope, look.span)
        window = read[key] = read.get(key) or snapshot.window(agent, ring, watched, look.breaker, look.span)
        if look.digest is None:
            seen[look.breaker] = window
        else:
            resets[look.digest, look.breaker] = replace(window, ignored=look.ignored, trial=look.trial)
    return find_trip(agent, ring, watched, seen, resets)


def _declared(snapshot: Snapshot, view: RingView, watched: list[Digest]) -> set[Breaker]:
    declared: set[Breaker] = set()
    for digest in watched:
        release = view.releases.get(digest) or snapshot.release(digest)
        settings = release.spec.ring(view.pointer.ring) if release is not None else None
        declared.update(settings.breakers if settings is not None else ())
    return declared
