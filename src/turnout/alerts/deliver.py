"""Brings events to one target: in their order, one after the other, until each has arrived.

Level-triggered like the controller: a visit looks at how far the target has come, sends what follows, and writes how far it
came. A crash between sending and writing sends again: at least once, and the id of an event never changes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from turnout.alerts.attempts import LONGEST_PAUSE, Attempt, plan_retry
from turnout.alerts.progress import Listed, Progress, Wishes, read_progress, read_wishes, save_progress
from turnout.domain.errors import LeaseLost, TurnoutError
from turnout.domain.events import Event
from turnout.ports import Clock, Lease, Store, StoredEvent

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
_BATCH = 100
_SAVE_SECONDS = 1.0  # a burst of events costs one write a second, not one an event
_LEASE_SECONDS = 60.0
_RENEW_SECONDS = 20.0
_TROUBLE_SECONDS = 5.0
_GAP_SECONDS = 10.0


class Target(Protocol):
    """Somebody who is told."""

    name: str

    @property
    def listed(self) -> Listed:
        """What may be shown of it."""

    def wants(self, event: Event) -> bool:
        """Whether it is told of an event."""

    def send(self, stored: StoredEvent) -> Attempt:
        """Tell it of an event. Blocking, at most as long as a lease holds."""

    def send_test(self, test: str) -> Attempt:
        """Tell it that nothing happened."""

    def close(self) -> None:
        """Nothing more is sent."""


class Courier:
    """Serves one target. `sleep(seconds)` waits, and is true once the server ends; `jitter()` is from 0 to 1."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        holder: str,
        target: Target,
        sleep: Callable[[float], bool],
        jitter: Callable[[], float],
    ) -> None:
        self._store = store
        self._clock = clock
        self._holder = holder
        self._target = target
        self._sleep = sleep
        self._jitter = jitter
        self._lease_name = f"alerts/{target.name}"
        self._lease: Lease | None = None
        self._progress = Progress(0)
        self._saved_at = 0.0
        self._retry_at = 0.0

    def prepare(self) -> None:
        """A target that was never served begins with what happens from now on."""
        with self._store.transaction() as transaction:
            if read_progress(transaction, self._target.name) is None:
                newest = transaction.events(newest_first=True, limit=1)
                save_progress(transaction, self._target.name, Progress(newest[0].seq if newest else 0))

    def run(self) -> None:
        """Visit the target until the server ends."""
        pause = 0.0
        while not self._sleep(pause):
            try:
                pause = self.visit()
            except TurnoutError as error:
                log.warning("alerts to %s: %s", self._target.name, error.message)
                self._lease, pause = None, _TROUBLE_SECONDS
            except Exception:  # a fault of ours in one target must not silence it for ever
                log.exception("alerts to %s failed", self._target.name)
                self._lease, pause = None, _TROUBLE_SECONDS
        self._target.close()

    def visit(self) -> float:
        """Send what is due. Returns the seconds until the next visit. Raises `LeaseLost`, and what the store raises."""
        now = self._clock.now()
        if not self._hold(now):
            return _TROUBLE_SECONDS
        with self._store.snapshot() as snapshot:
            wishes = read_wishes(snapshot, self._target.name)
            batch = snapshot.events(self._after(wishes), limit=_BATCH)
        self._see_to(wishes)
        wait = self._retry_at - self._clock.now()
        if 0 < wait <= LONGEST_PAUSE:  # longer: the clock was set back
            return min(wait, POLL_SECONDS)
        settled = _settled(batch, self._progress.seq, now)
        for stored in settled:
            if not self._bring(stored):
                return min(max(self._retry_at - self._clock.now(), 0.0), POLL_SECONDS)
            if self._clock.now() - self._saved_at >= _SAVE_SECONDS:
                self._save()
                if self._sleep(0.0):
                    return 0.0
        if settled:
            self._save()
        return 0.0 if len(settled) == _BATCH else POLL_SECONDS

    def _hold(self, now: float) -> bool:
        """Of several servers one serves a target. It takes up where the last one wrote that it was."""
        if self._lease is not None and self._lease.expires_at - now > _LEASE_SECONDS - _RENEW_SECONDS:
            return True
        with self._store.transaction() as transaction:
            before = self._lease
            self._lease = transaction.acquire_lease(self._lease_name, self._holder, now, _LEASE_SECONDS)
            if self._lease is None:
                return False
            if before is None or before.token != self._lease.token:
                self._progress = read_progress(transaction, self._target.name) or Progress(0)
                self._retry_at = 0.0
        return True

    def _after(self, wishes: Wishes) -> int:
        return self._progress.seq if wishes.replay == self._progress.replay else wishes.after

    def _see_to(self, wishes: Wishes) -> None:
        """What people ask for comes before everything else, and does not wait for the end of a pause."""
        if wishes.replay != self._progress.replay:
            self._progress = replace(self._progress, seq=wishes.after, replay=wishes.replay, tries=0)
            self._retry_at = 0.0
            self._save()
        if wishes.test != self._progress.test:
            error = self._target.send_test(wishes.test).error
            self._progress = replace(self._progress, test=wishes.test, test_error=error)
            if error is None:
                self._retry_at = 0.0
            self._save()

    def _bring(self, stored: StoredEvent) -> bool:
        """Send one event, if it is wanted. False: it has to be tried again."""
        progress = self._progress
        if not self._target.wants(stored.event):
            self._progress = replace(progress, seq=stored.seq)
            return True
        attempt = self._target.send(stored)
        now = self._clock.now()
        if attempt.error is None:
            self._retry_at = 0.0
            self._progress = replace(
                progress, seq=stored.seq, sent=progress.sent + 1, sent_at=now, tries=0, error="", failing_since=None
            )
            return True
        return self._put_off(stored, attempt, now)

    def _put_off(self, stored: StoredEvent, attempt: Attempt, now: float) -> bool:
        tries = self._progress.tries + 1
        since = self._progress.failing_since if self._progress.failing_since is not None else now
        self._progress = replace(self._progress, tries=tries, error=attempt.error or "", failing_since=since)
        pause = plan_retry(attempt, tries, self._jitter())
        what = f"event {stored.seq} ({stored.event.type.value})"
        if pause is None:
            note = f"{what} was given up after {tries} tries: {attempt.error}"
            log.error("alerts to %s: %s", self._target.name, note)
            skipped = self._progress.skipped + 1
            self._progress = replace(self._progress, seq=stored.seq, tries=0, skipped=skipped, skipped_note=note)
            self._retry_at = 0.0
        else:
            self._retry_at = now + pause
            if tries == 1:
                log.warning("alerts to %s: %s is tried again: %s", self._target.name, what, attempt.error)
        self._save()
        return pause is None

    def _save(self) -> None:
        """Raises `LeaseLost` when another server serves the target now; it will send again what was not written.

        A try may have taken longer than the lease: it is renewed, unless somebody took it meanwhile.
        """
        now = self._clock.now()
        with self._store.transaction() as transaction:
            lease = transaction.acquire_lease(self._lease_name, self._holder, now, _LEASE_SECONDS)
            if lease is None or self._lease is None or lease.token != self._lease.token:
                raise LeaseLost(f"another server serves {self._target.name} now")
            save_progress(transaction, self._target.name, self._progress)
        self._lease, self._saved_at = lease, now


def _settled(batch: Sequence[StoredEvent], after: int, now: float) -> list[StoredEvent]:
    """The events before the first fresh gap: several servers may commit in another order than they counted."""
    found: list[StoredEvent] = []
    for stored in batch:
        if stored.seq != after + 1 and abs(now - stored.event.at) < _GAP_SECONDS:
            break
        found.append(stored)
        after = stored.seq
    return found
