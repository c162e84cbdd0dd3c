"""The controller's threads: rings that are due are reconciled, rings that are woken at once."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from functools import partial

from turnout.controller.calls import CallIngest
from turnout.controller.ingest import Ingest
from turnout.controller.jobs import Jobs
from turnout.controller.publish import Publisher
from turnout.controller.reconcile import BUSY_SECONDS, CALM_SECONDS, Parts, Reconciler
from turnout.controller.recording import Recorder
from turnout.domain.errors import LeaseLost, TurnoutError

log = logging.getLogger(__name__)

INGEST_SECONDS = 0.2
RECORD_SECONDS = 2.0
SWEEP_SECONDS = 600.0
PRUNE_SECONDS = 20.0
PRUNE_PART = 2_000  # requests
Ring = tuple[str, str]


class Controller:
    """Start it once; `wake` it whenever something of a ring may have changed."""

    def __init__(
        self,
        parts: Parts,
        ingest: Ingest,
        workers: int = 3,
        keep_tasks: float = math.inf,
        calls: CallIngest | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._parts = parts
        self._keep_tasks = keep_tasks
        self._jobs = Jobs()
        publisher = Publisher(parts.store, parts.runtime, parts.router)
        self._reconciler = Reconciler(parts, self._jobs, publisher, self.wake)
        self.serves = publisher.serves  # a pointer → whether the proxy has its routes
        self._schedule = Schedule()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"controller-{number}", daemon=True) for number in range(workers)
        ]
        # Each in a thread of its own: a backlog of one holds up no other.
        for name, take_in in (("ingest", ingest.take_in), ("calls", calls.take_in if calls else None)):
            if take_in is not None:
                repeat = partial(self._take_in_repeatedly, take_in)
                self._threads.append(threading.Thread(target=repeat, name=name, daemon=True))
        self._threads.append(threading.Thread(target=self._prune_repeatedly, name="prune", daemon=True))
        if recorder is not None:
            record = partial(self._record_repeatedly, recorder)
            self._threads.append(threading.Thread(target=record, name="recording", daemon=True))

    def start(self) -> None:
        """Start the threads; every ring that exists is looked at."""
        rings = self._known_rings()
        if self._parts.grants is not None:
            self._parts.grants.keep_only(rings)
        for ring in rings:
            self._schedule.wake(ring)
        for thread in self._threads:
            thread.start()

    def wake(self, agent: str, ring: str) -> None:
        """Look at a ring now. Cheap, callable from any thread."""
        self._schedule.wake((agent, ring))

    def stop(self) -> None:
        """End the threads. Agents and proxy go on."""
        self._stopping.set()
        self._schedule.close()
        for thread in self._threads:
            if thread.ident is not None:  # it was started
                thread.join(timeout=10)

    def _known_rings(self) -> set[Ring]:
        with self._parts.store.snapshot() as snapshot:
            pointed = {(pointer.agent, pointer.ring) for pointer in snapshot.pointers()}
            deployed = {(item.agent, item.ring) for item in snapshot.deployments(limit=10_000)}
            recorded = {(replica.agent, replica.ring) for replica in snapshot.replicas()}
        running = {(replica.agent, replica.ring) for replica in self._parts.runtime.observe()}
        return pointed | deployed | recorded | running

    def _work(self) -> None:
        while (ring := self._schedule.take()) is not None:
            delay = BUSY_SECONDS
            try:
                delay = self._reconciler.reconcile(*ring)
            except LeaseLost as error:
                log.info("%s", error.message)
            except TurnoutError as error:
                log.warning("ring %s of %s: %s", ring[1], ring[0], error.message)
                delay = CALM_SECONDS
            except Exception:  # a fault of ours in one ring must not stop the others
                log.exception("reconciling ring %s of %s failed", ring[1], ring[0])
                delay = CALM_SECONDS
            self._schedule.put_back(ring, delay)

    def _take_in_repeatedly(self, take_in: Callable[[], set[Ring]]) -> None:
        while not self._stopping.wait(INGEST_SECONDS):
            try:
                for ring in take_in():
                    self._schedule.wake(ring)
            except TurnoutError as error:
                log.warning("%s", error.message)
            except Exception:  # as above: tried again in a moment
                log.exception("taking in what was served failed")

    def _record_repeatedly(self, recorder: Recorder) -> None:
        swept = -math.inf
        while not self._stopping.wait(RECORD_SECONDS):
            try:
                recorder.look()
                if time.monotonic() - swept >= SWEEP_SECONDS:
                    recorder.sweep()
                    swept = time.monotonic()
            except TurnoutError as error:
                log.warning("%s", error.message)
            except Exception:  # as above
                log.exception("recording tasks failed")

    def _prune_repeatedly(self) -> None:
        """A small part at a time, with pauses: nobody waits long for the database because of what is old."""
        pause = PRUNE_SECONDS
        while not self._stopping.wait(pause):
            try:
                with self._parts.store.transaction() as transaction:
                    forgotten = transaction.prune(self._parts.clock.now() - self._keep_tasks, PRUNE_PART)
                pause = PRUNE_SECONDS if forgotten < PRUNE_PART else PRUNE_SECONDS / 100
            except TurnoutError as error:
                log.warning("%s", error.message)
            except Exception:  # as above
                log.exception("forgetting old tasks failed")


class Schedule:
    """Which ring is due when. A ring is never given to two workers at once; one woken meanwhile comes again."""

    def __init__(self) -> None:
        self._due: dict[Ring, float] = {}
        self._taken: set[Ring] = set()
        self._woken: set[Ring] = set()
        self._changed = threading.Condition()
        self._closed = False

    def wake(self, ring: Ring) -> None:
        """Make a ring due now."""
        with self._changed:
            if ring in self._taken:
                self._woken.add(ring)
            else:
                self._due[ring] = 0.0
                self._changed.notify_all()

    def take(self) -> Ring | None:
        """Wait for a ring that is due; None once closed."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                ring = min(self._due, key=lambda item: self._due[item], default=None)
                if ring is not None and self._due[ring] <= now:
                    del self._due[ring]
                    self._taken.add(ring)
                    return ring
                self._changed.wait(None if ring is None else self._due[ring] - now)
            return None

    def put_back(self, ring: Ring, delay: float) -> None:
        """A worker is done with a ring for now."""
        with self._changed:
            self._taken.discard(ring)
            self._due[ring] = 0.0 if ring in self._woken else time.monotonic() + delay
            self._woken.discard(ring)
            self._changed.notify_all()

    def close(self) -> None:
        """Let every waiting worker end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
