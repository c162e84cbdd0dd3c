"""Pointers and replicas → what the proxy routes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from turnout.domain.models import (
    FULL_WEIGHT,
    Backend,
    Digest,
    Pointer,
    ReplicaState,
    ReplicaStatus,
    RingRoute,
    Routes,
)


def build_routes(
    pointers: Iterable[Pointer],
    replicas: Iterable[ReplicaStatus],
    captures: Mapping[tuple[str, str], int] = MappingProxyType({}),
) -> Routes:
    """The routes of all rings. Replicas of a release that the pointer does not name are known, yet not pinnable.

    `captures`: (agent, ring) → bytes of requests and answers to log.
    """
    running: dict[tuple[str, str], dict[Digest, list[ReplicaStatus]]] = {}
    for replica in replicas:
        if replica.address is not None and replica.state is not ReplicaState.EXITED:
            running.setdefault((replica.agent, replica.ring), {}).setdefault(replica.digest, []).append(replica)
    return Routes(
        tuple(
            RingRoute(
                pointer.agent,
                pointer.ring,
                ring_weights(pointer),
                _backends(pointer, running.get((pointer.agent, pointer.ring), {})),
                _judged(pointer),
                captures.get((pointer.agent, pointer.ring), 0),
            )
            for pointer in sorted(pointers, key=lambda p: (p.agent, p.ring))
        )
    )


def _judged(pointer: Pointer) -> str | None:
    """The rollout, where callers come to its candidate by chance or all of them do; one that only bakes compares nothing."""
    return pointer.rollout if pointer.candidate is not None or pointer.holdback else None


def ring_weights(pointer: Pointer) -> tuple[tuple[Digest, int], ...]:
    """Candidate first, then stable; nothing for a ring that has no stable release yet.

    While a release bakes it is the candidate still, and last-good is what it is compared with.
    """
    if pointer.stable is None:
        return ()
    if pointer.candidate is None or pointer.weight <= 0:
        if pointer.holdback > 0 and pointer.last_good is not None:
            return ((pointer.stable, FULL_WEIGHT - pointer.holdback), (pointer.last_good, pointer.holdback))
        return ((pointer.stable, FULL_WEIGHT),)
    if pointer.weight >= FULL_WEIGHT:
        return ((pointer.candidate, FULL_WEIGHT),)
    return ((pointer.candidate, pointer.weight), (pointer.stable, FULL_WEIGHT - pointer.weight))


def warm_digests(pointer: Pointer) -> tuple[Digest, ...]:
    """The releases that the pointer keeps running: stable, candidate, last-good, and those that left the traffic."""
    named = (pointer.stable, pointer.candidate, pointer.last_good, *(retired.digest for retired in pointer.retired))
    return tuple(dict.fromkeys(digest for digest in named if digest is not None))


def _backends(pointer: Pointer, running: dict[Digest, list[ReplicaStatus]]) -> tuple[Backend, ...]:
    warm = set(warm_digests(pointer))
    routed = {digest for digest, _ in ring_weights(pointer)}
    return tuple(
        Backend(digest, _endpoints(running.get(digest, [])), pinnable=digest in warm)
        for digest in sorted(routed | set(running))
    )


def _endpoints(replicas: list[ReplicaStatus]) -> tuple[str, ...]:
    """The ready ones; when none is, all that answered once: a struggling replica serves better than none.

    A replica that never was ready never gets a request, and neither does one that is being stopped, unless it is all
    there is.
    """
    for wanted in ({ReplicaState.READY}, {ReplicaState.UNREADY}, {ReplicaState.STOPPING}):
        found = sorted(str(replica.address) for replica in replicas if replica.state in wanted)
        if found:
            return tuple(found)
    return ()
