"""Which port a replica listens on.

Not one that the kernel hands to outgoing connections: between the choice and the moment when an agent listens, which may be
many seconds, a connection of anybody, even a probe of this very port, could take such a port from it.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Collection
from pathlib import Path

from turnout.domain.errors import RuntimeUnavailable
from turnout.runtimes.folder import HOST

FIRST, COUNT = 20_000, 10_000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def choose_port(name: str, taken: Collection[int]) -> int:
    """A port that nobody listens on, `taken` excepted; the same name is given the same where it can.

    Raises `RuntimeUnavailable` when there is none.
    """
    if _ephemeral_start() < FIRST + COUNT:
        return _any_port(taken)
    offset = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    for step in range(COUNT):
        port = FIRST + (offset + step) % COUNT
        if port not in taken and _bind(port) is not None:
            return port
    raise RuntimeUnavailable(f"no port between {FIRST} and {FIRST + COUNT - 1} is free on {HOST}")


def _ephemeral_start() -> int:
    try:
        return int(EPHEMERAL.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def _any_port(taken: Collection[int]) -> int:
    for _ in range(100):
        port = _bind(0)
        if port is not None and port not in taken:
            return port
    raise RuntimeUnavailable(f"no port is free on {HOST}")


def _bind(port: int) -> int | None:
    with socket.socket() as listener:
        try:
            listener.bind((HOST, port))
        except OSError:
            return None
        bound: int = listener.getsockname()[1]
        return bound
