"""What the breakers of a ring look at, read for the releases that they watch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from turnout.domain.breakers import (
    BreakerRecord,
    Span,
    Trip,
    Window,
    began_at,
    find_looks,
    find_trip,
    find_watched,
    leave_out,
)
from turnout.domain.models import Breaker, BreakerScope, Digest, Release
from turnout.domain.outcomes import TallyKey
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
    known = {digest: view.releases.get(digest) for digest in watched}
    declared = _declared(snapshot, ring, known)
    everywhere = any(breaker.scope is BreakerScope.WORKSPACE for breaker in declared)
    others = snapshot.breakers() if everywhere else ()
    for look in find_looks(declared, watched, records, began_at((view.deployment, view.active)), now):
        key = (look.breaker.scope, look.span)
        window = read[key] = read.get(key) or snapshot.window(agent, ring, watched, look.breaker, look.span)
        window = leave_out(look, window, others)
        if look.digest is None:
            seen[look.breaker] = window
        else:
            resets[look.digest, look.breaker] = replace(window, ignored=look.ignored, trial=look.trial)
    own = _declared(snapshot, ring, {digest: known[digest] for digest in watched if digest == view.pointer.stable})

    def binds(breaker: Breaker, digest: Digest) -> bool:
        """A candidate is held to what stable declares too, but brings no rules for the release that serves."""
        return digest != view.pointer.stable or breaker in own

    return find_trip(agent, ring, watched, seen, resets, partial(_is_in_reach, snapshot, now), binds)


def _is_in_reach(snapshot: Snapshot, now: float, breaker: Breaker, key: TallyKey) -> bool:
    """Whether a release runs in a ring that looks at the same breaker, and so will stop it there."""
    pointer = snapshot.pointer(key.agent, key.ring)
    watched = find_watched(pointer, snapshot.breakers(key.agent, key.ring), now)
    bound = [key.release] if key.release == pointer.stable else watched
    return key.release in watched and breaker in _declared(snapshot, key.ring, dict.fromkeys(bound))


def _declared(snapshot: Snapshot, ring: str, watched: Mapping[Digest, Release | None]) -> set[Breaker]:
    """What the watched releases of a ring declare; those that are not known yet are read."""
    declared: set[Breaker] = set()
    for digest, known in watched.items():
        release = known or snapshot.release(digest)
        settings = release.spec.ring(ring) if release is not None else None
        declared.update(settings.breakers if settings is not None else ())
    return declared
