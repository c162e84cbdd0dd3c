"""An event log with a target that is served from it, on a clock that moves only when somebody sleeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import event

from tests.contract.store_support import open_empty
from tests.unit.alerts.receiver import SECRET
from tests.unit.controller.stage import FakeClock
from turnout.alerts.attempts import Attempt
from turnout.alerts.deliver import Courier, Target
from turnout.alerts.progress import Listed, Progress, Roster, Wishes, read_progress, save_roster, save_wishes
from turnout.alerts.settings import WebhookTarget
from turnout.alerts.signature import read_keys
from turnout.alerts.webhook import Webhook
from turnout.db.store import SqlStore
from turnout.domain.events import Event, EventType
from turnout.ports import StoredEvent
from turnout.schemas import WhyView

INSTANCE = "cafe"


@dataclass
class FakeTarget:
    """Takes what `answers` lets it take."""

    name: str = "ops"
    answers: Callable[[StoredEvent], Attempt] = lambda _: Attempt()
    tried: list[int] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)
    test_answer: Attempt = field(default_factory=Attempt)

    @property
    def listed(self) -> Listed:
        return Listed("webhook", "https://ops/…", ("*",))

    def wants(self, event: Event) -> bool:
        return event.type is not EventType.TOKEN_CREATED

    def send(self, stored: StoredEvent) -> Attempt:
        self.tried.append(stored.seq)
        return self.answers(stored)

    def send_test(self, test: str) -> Attempt:
        self.tests.append(test)
        return self.test_answer

    def close(self) -> None:
        pass


@dataclass
class World:
    """A store, a clock, and one courier."""

    store: SqlStore
    clock: FakeClock = field(default_factory=FakeClock)
    slept: list[float] = field(default_factory=list)
    webhooks: list[Webhook] = field(default_factory=list)

    def emit(self, count: int = 1, type_: EventType = EventType.KEY_TRUSTED) -> list[int]:
        """Something happens, now."""
        with self.store.transaction() as transaction:
            return [
                transaction.emit(Event(type_, self.clock.at, "ann", data={"number": number})) for number in range(count)
            ]

    def courier(self, target: Target, holder: str = "one") -> Courier:
        """A courier of a server; nobody runs it."""
        return Courier(self.store, self.clock, holder, target, self._sleep, lambda: 1.0)

    def visit(self, courier: Courier, seconds: float = 0.0) -> None:
        """Let a courier come by as often as it wants to, for so long."""
        until = self.clock.at + seconds
        while True:
            pause = courier.visit()
            if pause and self.clock.at + pause > until:
                self.clock.at = until
                return
            self._sleep(pause)

    def progress(self, name: str = "ops") -> Progress:
        """How far a target is, as it is stored."""
        with self.store.snapshot() as snapshot:
            found = read_progress(snapshot, name)
        assert found is not None
        return found

    def wish(self, wishes: Wishes, name: str = "ops") -> None:
        """Somebody asks for something."""
        with self.store.transaction() as transaction:
            save_wishes(transaction, name, wishes)

    def list(self, *targets: Target) -> None:
        """These are configured."""
        with self.store.transaction() as transaction:
            save_roster(transaction, Roster(INSTANCE, {target.name: target.listed for target in targets}))

    def webhook(self, url: str, why: Callable[[str], WhyView] | None = None, **fields: object) -> Webhook:
        """A real webhook."""
        given = {"name": "ops", "url": url, "keys": read_keys(SECRET), "events": ("*",), "timeout": 5.0, **fields}
        made = Webhook(WebhookTarget(**given), INSTANCE, self.clock, why or _no_page)  # type: ignore[arg-type]
        self.webhooks.append(made)
        return made

    def _sleep(self, seconds: float) -> bool:
        self.slept.append(seconds)
        self.clock.at += seconds
        return False


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """An empty instance."""
    engine = open_empty(folder / "turnout.db")
    event.listen(engine, "connect", _write_lazily)
    made = World(SqlStore(engine))
    yield made
    for webhook in made.webhooks:
        webhook.close()
    engine.dispose()


def _write_lazily(connection: Any, _record: object) -> None:
    """These tests need no flushed disk."""
    connection.execute("PRAGMA synchronous=OFF")


def _no_page(deployment: str) -> WhyView:
    raise AssertionError(f"nobody asks about {deployment}")
