"""Counts the bytes that clients send to a port of this machine, by standing in between."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_BLOCK = 256 << 10


class CountingProxy:
    """Passes on connections to a port; `sent` is the number of bytes that clients sent, `port` where it listens."""

    def __init__(self, listener: socket.socket, target: int) -> None:
        self.port: int = listener.getsockname()[1]
        self.sent = 0
        self._listener = listener
        self._target = target
        self._lock = threading.Lock()

    def serve(self) -> None:
        """Until the listener is shut down."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            for source, target, counts in ((client, server, True), (server, client, False)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pass_on, args=(source, target, counts), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        with suppress(OSError):
            while block := source.recv(_BLOCK):
                if counts:
                    with self._lock:
                        self.sent += len(block)
                target.sendall(block)
        for end, how in ((target, socket.SHUT_WR), (source, socket.SHUT_RD)):
            with suppress(OSError):
                end.shutdown(how)


@contextmanager
def counting_proxy(target: int) -> Iterator[CountingProxy]:
    """A proxy before a loopback port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = CountingProxy(listener, target)
        serving = threading.Thread(target=proxy.serve, daemon=True)
        serving.start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()
