"""Long work beside the controller, so that a rollback never waits for a build."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from turnout.domain.errors import TurnoutError
from turnout.domain.plan import Job

log = logging.getLogger(__name__)


class Jobs:
    """Runs callables by name. A job that returns None went well; one that returns text or raises failed for that reason.

    Jobs do not survive a restart: the plan starts them again, and each is idempotent.
    """

    def __init__(self, workers: int = 8) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="job")
        self._futures: dict[tuple[str, str], Future[str | None]] = {}
        self._lock = threading.Lock()

    def start(self, kind: str, name: str, work: Callable[[], str | None], on_end: Callable[[], None]) -> None:
        """Start unless a job of this kind and name is known. `on_end` is called once it is over."""
        with self._lock:
            if (kind, name) in self._futures:
                return
            future = self._pool.submit(work)
            self._futures[kind, name] = future
        future.add_done_callback(lambda _: on_end())

    def look(self, kind: str, name: str) -> Job | None:
        """How a job stands; None if none was started."""
        with self._lock:
            future = self._futures.get((kind, name))
        if future is None:
            return None
        if not future.done():
            return Job()
        error = future.exception()
        if error is None:
            return Job(over=True, error=future.result())
        if isinstance(error, TurnoutError):
            return Job(over=True, error=error.message + (f" ({error.hint})" if error.hint else ""))
        log.error("job %s %s failed", kind, name, exc_info=error)
        return Job(over=True, error=f"unexpected {type(error).__name__}: {error}")

    def forget(self, kind: str, name: str) -> None:
        """Drop a job that is over; its name may be used again."""
        with self._lock:
            future = self._futures.get((kind, name))
            if future is not None and future.done():
                del self._futures[kind, name]

    def close(self) -> None:
        """Start nothing more; what runs is left to end with the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)
