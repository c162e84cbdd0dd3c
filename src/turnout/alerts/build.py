"""Builds the couriers of an instance from its settings, and runs them."""

from __future__ import annotations

import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from turnout.alerts.deliver import Courier, Target
from turnout.alerts.progress import Roster, read_roster, save_roster
from turnout.alerts.settings import AlertSettings, load_alert_settings
from turnout.alerts.webhook import Webhook, Why
from turnout.ports import Clock, Store

_STOP_SECONDS = 5.0


class Alerts:
    """The targets of an instance, each served by a thread of its own."""

    def __init__(self, couriers: Sequence[tuple[str, Courier]], stopping: threading.Event) -> None:
        self._couriers = couriers
        self._stopping = stopping
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to deliver: where each target was left, a new one with what happens from now on."""
        for name, courier in self._couriers:
            courier.prepare()
            thread = threading.Thread(target=courier.run, name=f"alerts-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End the threads, without waiting long for a receiver. What was not sent is sent by the next server."""
        self._stopping.set()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))


def build_alerts(
    settings: AlertSettings | Path,
    store: Store,
    clock: Clock,
    holder: str,
    why: Why,
    *,
    jitter: Callable[[], float] = random.random,
) -> Alerts:
    """The couriers of all targets. A path is read with the environment; `why` explains a deployment by its id.

    Raises `SetupFailed` for settings that are wrong. `holder` names the server in leases.
    """
    if isinstance(settings, Path):
        settings = load_alert_settings(settings, os.environ)
    instance = _instance(store)
    targets = build_targets(settings, store, clock, instance, why)
    roster = Roster(instance, {target.name: target.listed for target in targets})
    with store.transaction() as transaction:
        save_roster(transaction, roster)
    stopping = threading.Event()
    couriers = [(target.name, Courier(store, clock, holder, target, stopping.wait, jitter)) for target in targets]
    return Alerts(couriers, stopping)


def build_targets(settings: AlertSettings, store: Store, clock: Clock, instance: str, why: Why) -> list[Target]:
    """A target for each entry. The libraries of notifications and traces are loaded only where they are used."""
    targets: list[Target] = [Webhook(item, instance, clock, why) for item in settings.webhooks]
    if settings.notify:
        from turnout.alerts.notify import Notification

        targets.extend(Notification(item, why) for item in settings.notify)
    if settings.traces is not None:
        from turnout.alerts.collector import Collector

        targets.append(Collector(settings.traces, store, instance, clock))
    return targets


def _instance(store: Store) -> str:
    """The id in the ids of events: made once, and kept."""
    with store.transaction() as transaction:
        roster = read_roster(transaction)
        if roster is None:
            roster = Roster(secrets.token_hex(8))
            save_roster(transaction, roster)
        return roster.instance
