"""What runs → what it may do at the gateway. Published before a replica starts, and again whenever something changes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType

from turnout.domain.budget import Budget
from turnout.domain.errors import RuntimeUnavailable, TurnoutError
from turnout.domain.grants import Grant, Grants, Pins, build_grant, pins_of
from turnout.domain.models import Digest, Release

log = logging.getLogger(__name__)

Ring = tuple[str, str]


class GrantBook:
    """The grants of every ring, as they were published last.

    `known` is what a server before this one published: it counts until a ring has been looked at. Where that was another
    version (`outdated`), what releases pin is read anew, and the old counts where that fails. `read_pins` may raise any
    `TurnoutError`, `key_of` gives the SHA-256 of a key. Several threads may call.
    """

    def __init__(
        self,
        known: Grants,
        read_pins: Callable[[Release], Pins],
        key_of: Callable[[str, str, Digest], str],
        write: Callable[[Grants], None],
        *,
        outdated: bool = False,
    ) -> None:
        self._read_pins = read_pins
        self._key_of = key_of
        self._write = write
        self._lock = threading.Lock()
        self._published: Grants | None = None
        self._rings: dict[Ring, dict[Digest, Grant]] = {}
        self._pins: dict[Digest, Pins] = {}  # releases are immutable, so never out of date
        self._before = {grant.release: pins_of(grant) for grant in known.grants.values()}
        if not outdated:
            self._pins.update(self._before)
        for grant in known.grants.values():
            self._rings.setdefault((grant.agent, grant.ring), {})[grant.release] = grant

    def keep_only(self, rings: Iterable[Ring]) -> None:
        """Forget rings that are not there any more: their keys open nothing from now on."""
        with self._lock:
            kept = set(rings)
            if self._rings.keys() <= kept:
                return
            self._rings = {ring: grants for ring, grants in self._rings.items() if ring in kept}
            self._publish()

    def set_ring(
        self,
        agent: str,
        ring: str,
        releases: Collection[Release],
        limits: tuple[Budget, ...] = (),
        stopped: Mapping[Digest, str] = MappingProxyType({}),
    ) -> None:
        """These releases run in a ring, or are about to, and no others. `stopped`: those whose calls are not let through,
        and why. Returns once it is published, or could not be.

        A release whose pins cannot be read gets no grant, and keeps nothing else from its own.
        """
        found = {release.digest: self._find_pins(release) for release in releases}
        with self._lock:
            self._rings[agent, ring] = {
                release.digest: build_grant(
                    release,
                    ring,
                    pins,
                    self._key_of(agent, ring, release.digest),
                    limits,
                    stopped.get(release.digest),
                )
                for release in releases
                if (pins := found[release.digest]) is not None
            }
            self._publish()

    def check(self, agent: str, ring: str, digest: Digest) -> None:
        """Raise `RuntimeUnavailable` where no grant of a release was published: it must not start without one."""
        with self._lock:
            grant = self._rings.get((agent, ring), {}).get(digest)
            if grant is None:
                raise RuntimeUnavailable(f"what {digest} pins of models and tools cannot be read")
            if self._published is None or grant.key not in self._published.grants:
                raise RuntimeUnavailable("the grants of the gateway cannot be written")

    def _find_pins(self, release: Release) -> Pins | None:
        pins = self._pins.get(release.digest)
        if pins is not None:
            return pins
        try:
            pins = self._pins[release.digest] = self._read_pins(release)
        except TurnoutError as error:
            log.warning("the pins of %s %s cannot be read: %s", release.agent, release.version, error.message)
            return self._before.get(release.digest)
        return pins

    def _publish(self) -> None:
        grants = Grants({grant.key: grant for ring in self._rings.values() for grant in ring.values()})
        if grants == self._published:
            return
        try:
            self._write(grants)
        except TurnoutError as error:  # a full disk, say, must not keep a ring from what else is to be done
            log.error("%s", error.message)
            return
        self._published = grants
