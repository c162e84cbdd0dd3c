"""A gateway process that hangs is found: each touches a file of its own every second, and the server ends one that stopped.

What ended is started again by its supervision. A process hangs when its event loop is blocked, or somebody stopped it; its
callers would wait for ever, as it still holds the port.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from turnout.gateway.asgi import Application, Message, Receive, Scope, Send
from turnout.processes import KnownProcess, start_mark

BEAT_SECONDS = 1.0
MISSED = 20  # beats in a row, after which a process hangs: a machine that is very busy must not look like one

log = logging.getLogger(__name__)


def beat_path(folder: Path, pid: int) -> Path:
    """The file that a process touches, in the folder of the gateway."""
    return folder / f"{pid}.beat"


def with_heartbeat(app: Application, folder: Path, pause: float = BEAT_SECONDS) -> Application:
    """The application, whose event loop touches the file of this process from its start to its end."""
    path = beat_path(folder, os.getpid())

    async def live(scope: Scope, receive: Receive, send: Send) -> None:
        beating: list[asyncio.Task[None]] = []

        async def tell(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                beating.append(asyncio.create_task(_beat(path, pause)))
            await send(message)

        try:
            await app(scope, receive, tell)
        finally:
            for task in beating:
                task.cancel()
            path.unlink(missing_ok=True)

    def answer(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return (live if scope["type"] == "lifespan" else app)(scope, receive, send)

    return answer


class HeartbeatWatch:
    """Looks after the processes that `running` names, in a thread. `start()`, then `close()`."""

    def __init__(
        self,
        folder: Path,
        running: Callable[[], Iterable[int]],
        *,
        pause: float = BEAT_SECONDS,
        missed: int = MISSED,
    ) -> None:
        self._folder = folder
        self._running = running
        self._pause = pause
        self._missed = missed
        self._seen: dict[int, tuple[int, int]] = {}  # by pid: when it was touched, and how many looks ago that was new
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heartbeats", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Watch no longer. Idempotent."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> list[int]:
        """Look once, and end what hangs; returns its pids. Looks count, not seconds: the server may have stood still."""
        seen: dict[int, tuple[int, int]] = {}
        for pid in self._running():
            with contextlib.suppress(OSError):  # it does not beat yet, or has ended
                touched = beat_path(self._folder, pid).stat().st_mtime_ns
                before, looks = self._seen.get(pid, (0, 0))
                seen[pid] = (touched, looks + 1 if touched == before else 0)
        hung = [pid for pid, (_, looks) in seen.items() if looks >= self._missed]
        for pid in hung:
            log.error("the gateway process %d hangs: it is ended, and another one started", pid)
            KnownProcess(pid, start_mark(pid) or "").send(signal.SIGKILL)
            beat_path(self._folder, pid).unlink(missing_ok=True)
        self._seen = seen
        return hung

    def _watch(self) -> None:
        self._remove_old()
        while not self._closed.wait(self._pause):
            self.look()

    def _remove_old(self) -> None:
        """Files of processes that could not remove them."""
        for path in self._folder.glob("*.beat"):
            if not path.stem.isdecimal() or start_mark(int(path.stem)) is None:
                path.unlink(missing_ok=True)


async def _beat(path: Path, pause: float) -> None:
    while True:
        with contextlib.suppress(OSError):  # on a disk that is full nobody beats, and nobody is ended for it
            path.touch(mode=0o600)
        await asyncio.sleep(pause)
