"""Pointers → proxy. Reads the newest pointers and hands the routes that follow to the router."""

from __future__ import annotations

import logging
import threading

from turnout.domain.captures import capture_size
from turnout.domain.errors import InvalidRequest, RouterUnavailable
from turnout.domain.models import Digest, Pointer, Routes
from turnout.domain.routes import build_routes, ring_weights
from turnout.ports import Router, Runtime, Snapshot, Store

log = logging.getLogger(__name__)


class Publisher:
    """Level-triggered: publishing again what the proxy has already costs one small read."""

    def __init__(self, store: Store, runtime: Runtime, router: Router) -> None:
        self._store = store
        self._runtime = runtime
        self._router = router
        self._lock = threading.Lock()
        self._published: Routes | None = None
        self._captures: dict[tuple[Digest, str], int] = {}  # releases are immutable, so never out of date

    def publish(self) -> bool:
        """Let the proxy route what the pointers say. False when it could not be reached; it then keeps what it had."""
        with self._lock:
            with self._store.snapshot() as snapshot:
                pointers = snapshot.pointers()
                captures = {(item.agent, item.ring): self._capture(snapshot, item) for item in pointers}
            routes = build_routes(pointers, self._runtime.observe(), captures)
            if routes == self._published:
                return True
            try:
                self._router.apply(routes)
            except (RouterUnavailable, InvalidRequest) as error:
                log.error("the proxy did not take the routes: %s", error.message)
                self._published = None
                return False
            self._published = routes
            return True

    def serves(self, pointer: Pointer) -> bool:
        """Whether the proxy has confirmed the split that a pointer asks for. Cheap, callable from any thread."""
        published = self._published
        asked = (pointer.agent, pointer.ring, ring_weights(pointer))
        return published is not None and any(
            (route.agent, route.ring, route.weights) == asked for route in published.rings
        )

    def _capture(self, snapshot: Snapshot, pointer: Pointer) -> int:
        """The most that a release in the traffic of a ring asks for."""
        sizes = [0]
        for digest in (pointer.stable, pointer.candidate, pointer.last_good if pointer.holdback else None):
            if digest is None:
                continue
            if (digest, pointer.ring) not in self._captures:
                release = snapshot.release(digest)
                self._captures[digest, pointer.ring] = capture_size(release.spec, pointer.ring) if release else 0
            sizes.append(self._captures[digest, pointer.ring])
        return max(sizes)
