"""Where providers are: one look for all who ask at once, remembered for a while."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

KNOWN = 30.0  # seconds
AddressInfo = Any  # as getaddrinfo gives it


class Addresses:
    """A look cannot be cancelled, and a process makes few at a time: a name whose server is silent must not take all."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], tuple[float, Sequence[AddressInfo]]] = {}
        self._looks: dict[tuple[str, int], asyncio.Future[list[AddressInfo]]] = {}

    async def find(self, name: str, port: int) -> Sequence[AddressInfo]:
        """As `loop.getaddrinfo`. Raises `OSError`."""
        key, loop = (name, port), asyncio.get_running_loop()
        until, found = self._found.get(key, (0.0, ()))
        if loop.time() < until:
            return found
        look = self._looks.get(key)
        if look is None:
            look = self._looks[key] = asyncio.ensure_future(loop.getaddrinfo(name, port, type=socket.SOCK_STREAM))
            look.add_done_callback(lambda done: self._keep(key, done))
        return await asyncio.shield(look)  # whoever gives up does so alone

    def forget(self, name: str, port: int) -> None:
        """Look again next time."""
        self._found.pop((name, port), None)

    def _keep(self, key: tuple[str, int], look: asyncio.Future[list[AddressInfo]]) -> None:
        del self._looks[key]
        if not look.cancelled() and look.exception() is None:
            self._found[key] = (look.get_loop().time() + KNOWN, look.result())
