"""What the breakers of a ring look at, read for the releases that they watch."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from turnout.domain.breakers import (
    BreakerRecord,
    Span,
    Trip,
    Window,
    began_at,
    bind,
    find_declared,
    find_looks,
    find_trip,
    find_watched,
    leave_out,
)
from turnout.domain.models import Breaker, BreakerScope, Digest
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
    known = {digest: view.releases.get(digest) or snapshot.release(digest) for digest in watched}
    declared = {digest: find_declared(release, ring) for digest, release in known.items()}
    bound = bind(declared, view.pointer.stable)
    every = set[Breaker]().union(*bound.values())
    everywhere = any(breaker.scope is BreakerScope.WORKSPACE for breaker in every)
    others = snapshot.breakers() if everywhere else ()
    for look in find_looks(every, watched, records, began_at((view.deployment, view.active)), now):
        key = (look.breaker.scope, look.span)
        window = read[key] = read.get(key) or snapshot.window(agent, ring, watched, look.breaker, look.span)
        window = leave_out(look, window, others)
        if look.digest is None:
            seen[look.breaker] = window
        else:
            resets[look.digest, look.breaker] = replace(window, ignored=look.ignored, trial=look.trial)
    in_reach = partial(_is_in_reach, snapshot, now)
    return find_trip(agent, ring, watched, seen, resets, in_reach, lambda breaker, digest: breaker in bound[digest])


def _is_in_reach(snapshot: Snapshot, now: float, breaker: Breaker, key: TallyKey) -> bool:
    """Whether a release runs in a ring that looks at the same breaker, and so will stop it there."""
    pointer = snapshot.pointer(key.agent, key.ring)
    watched = find_watched(pointer, snapshot.breakers(key.agent, key.ring), now)
    declared = {digest: find_declared(snapshot.release(digest), key.ring) for digest in watched}
    return breaker in bind(declared, pointer.stable).get(key.release, ())
