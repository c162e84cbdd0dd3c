"""A listening socket, handed on by the processes that serve on it.

A port of the gateway is bound once, so that nobody else can bind it too: a port that its processes shared by asking for it
(SO_REUSEPORT) would be open to every process of the same user, agents included. A server passes the socket to the processes
that it starts. The next server gets it from one of those, by a Unix socket in the state folder; agents have no access to
that folder, and the one that asks has to show that it can read the secret of the instance.
"""

from __future__ import annotations

import hmac
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 2.0  # seconds, for either side
_WORD_BYTES = 32
_log = logging.getLogger(__name__)


class Offer:
    """Hands a listening socket to whoever asks for it properly, in a thread, from `open()` to `close()`."""

    def __init__(self, path: Path, listener: socket.socket, secret: bytes) -> None:
        """The listener becomes the offer's own."""
        self._path = path
        self._listener = listener
        self._word = _word(secret)
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def open(self) -> None:
        """Take the place of who offered it before. Where that fails, the next server has to end us to get the port."""
        try:
            self._path.unlink(missing_ok=True)
            with _address(self._path) as address:
                self._door.bind(address)
            self._path.chmod(0o600)
            self._door.listen()
        except OSError as error:
            _log.warning("the socket of the gateway cannot be handed on: %s", error)
            return
        threading.Thread(target=self._serve, name="handover", daemon=True).start()

    def close(self) -> None:
        """Offer it no longer, and let go of it."""
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._door.close()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                asking, _ = self._door.accept()
            except OSError:
                return
            with asking, suppress(OSError):
                asking.settimeout(PATIENCE)
                if hmac.compare_digest(asking.recv(_WORD_BYTES, socket.MSG_WAITALL), self._word):
                    socket.send_fds(asking, [b"\0"], [self._listener.fileno()])


def fetch(path: Path, secret: bytes, host: str, port: int) -> socket.socket | None:
    """The socket that listens on an address, from the process that offers it; None where nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking, suppress(OSError):
        asking.settimeout(PATIENCE)
        with _address(path) as address:
            asking.connect(address)
        asking.sendall(_word(secret))
        _, descriptors, _, _ = socket.recv_fds(asking, 1, 1)
        for descriptor in descriptors:
            return _checked(socket.socket(fileno=descriptor), host, port)
    return None


def _checked(found: socket.socket, host: str, port: int) -> socket.socket | None:
    """The socket if it listens where it should: a server may have been told another port."""
    found.set_inheritable(False)
    listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if listens and found.getsockname()[1] == port and _same_host(found, host):
        return found
    found.close()
    return None


def _same_host(found: socket.socket, host: str) -> bool:
    with suppress(OSError):
        infos = socket.getaddrinfo(host, None, family=found.family, type=socket.SOCK_STREAM)
        return any(info[4][0] == found.getsockname()[0] for info in infos)
    return False


def _word(secret: bytes) -> bytes:
    return hmac.digest(secret, b"hand over the listening socket", "sha256")


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """A path to bind or to connect to. Of a socket it has at most 107 bytes, so its folder is named by its descriptor."""
    if len(os.fsencode(path)) < 100 or not Path("/proc/self/fd").exists():
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
