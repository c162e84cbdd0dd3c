"""Long work beside the controller, so that a rollback never waits for a build."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future

from turnout.domain.errors import TurnoutError
from turnout.domain.view import Job

log = logging.getLogger(__name__)


class Jobs:
    """Runs callables by name. A job that returns None went well; one that returns text or raises failed for that reason.

    Each has a thread of its own, which ends with the process: neither a hanging build nor a slow smoke task holds up
    another, or the end of the server. Jobs do not survive a restart: the plan starts them again, and each is idempotent.
    """

    def __init__(self) -> None:
        self._futures: dict[tuple[str, str], Future[str | None]] = {}
        self._messages: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()

    def start(self, kind: str, name: str, work: Callable[[], str | None], on_end: Callable[[], None]) -> None:
        """Start unless a job of this kind and name is known. `on_end` is called once it is over."""
        future: Future[str | None] = Future()
        with self._lock:
            if (kind, name) in self._futures:
                return
            self._futures[kind, name] = future

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001  (whatever it is, it is the job's result)
                future.set_exception(error)
            on_end()

        threading.Thread(target=run, name=f"{kind} {name}", daemon=True).start()

    def look(self, kind: str, name: str) -> Job | None:
        """How a job stands; None if none was started."""
        with self._lock:
            future = self._futures.get((kind, name))
        if future is None:
            return None
        if not future.done():
            return Job(message=self._messages.get((kind, name), ""))
        error = future.exception()
        if error is None:
            return Job(over=True, error=future.result())
        if isinstance(error, TurnoutError):
            return Job(over=True, error=error.message + (f" ({error.hint})" if error.hint else ""))
        log.error("job %s %s failed", kind, name, exc_info=error)
        return Job(over=True, error=f"unexpected {type(error).__name__}: {error}")

    def say(self, kind: str, name: str, message: str) -> None:
        """Note how far a job is, for a person."""
        self._messages[kind, name] = message

    def forget(self, kind: str, name: str) -> None:
        """Drop a job that is over; its name may be used again."""
        with self._lock:
            future = self._futures.get((kind, name))
            if future is not None and future.done():
                del self._futures[kind, name]
                self._messages.pop((kind, name), None)
