"""Chats, pagers and mailboxes, through Apprise. The only home of its client library."""

from __future__ import annotations

from collections.abc import Mapping

from turnout.alerts.attempts import Attempt
from turnout.alerts.page import build_page, clean
from turnout.alerts.progress import Listed
from turnout.alerts.settings import NotifyTarget
from turnout.alerts.topics import INCIDENTS, is_wanted
from turnout.alerts.webhook import Why, explain
from turnout.domain.errors import SetupFailed
from turnout.domain.events import Event, EventType
from turnout.ports import StoredEvent

_LONGEST_VALUE = 200
_SAME_INCIDENT = 60.0  # seconds


class Notification:
    """Implements `deliver.Target`. A rollback is told with its whole page."""

    def __init__(self, target: NotifyTarget, why: Why) -> None:
        """Raises `SetupFailed` for what is no Apprise URL."""
        import apprise

        self.name = target.name
        self._events = target.events
        self._why = why
        self._service = apprise.Apprise(asset=apprise.AppriseAsset(http_redirects=False, async_mode=False))
        if not self._service.add(target.url):
            raise SetupFailed(
                f"the URL of the notification {target.name!r} is none that Apprise knows",
                hint="see https://appriseit.com/services/ for how each service is written",
            )
        for service in self._service:
            service.overflow_mode = apprise.OverflowMode.SPLIT  # a page may be longer than a message of some services
        self._scheme = target.url.partition(":")[0]
        self._told: Event | None = None  # the last alarm

    @property
    def listed(self) -> Listed:
        """See `deliver.Target`."""
        return Listed("notify", f"{self._scheme}://…", self._events)

    def wants(self, event: Event) -> bool:
        """See `deliver.Target`. A breaker that takes a release back is one incident, and wakes people once."""
        if not is_wanted(event, self._events):
            return False
        told = self._told
        return (
            told is None
            or not is_wanted(event, INCIDENTS)
            or (told.deployment, told.type) != (event.deployment, _other_alarm(event))
            or abs(event.at - told.at) >= _SAME_INCIDENT
        )

    def send(self, stored: StoredEvent) -> Attempt:
        """See `deliver.Target`."""
        event = stored.event
        why = explain(event, self._why)
        title, body = (why["headline"], build_page(why)) if why else (_title(event), _body(event))
        attempt = self._notify(title, body, alarm=is_wanted(event, INCIDENTS))
        if attempt.error is None and is_wanted(event, INCIDENTS):
            self._told = event
        return attempt

    def send_test(self, test: str) -> Attempt:
        """See `deliver.Target`."""
        return self._notify("turnout: a test", f"nothing happened (test {test})", alarm=False)

    def close(self) -> None:
        """See `deliver.Target`. Apprise keeps no connection open between two messages."""

    def _notify(self, title: str, body: str, *, alarm: bool) -> Attempt:
        import apprise

        kind = apprise.NotifyType.FAILURE if alarm else apprise.NotifyType.INFO
        try:
            sent = self._service.notify(
                body=body, title=clean(title), notify_type=kind, body_format=apprise.NotifyFormat.TEXT
            )
        except Exception as error:  # noqa: BLE001  (of a library for any service; its words may hold the URL)
            return Attempt(f"{self._scheme} failed: {type(error).__name__}")
        return Attempt() if sent else Attempt(f"{self._scheme} did not take it; the server's log says why")


def _other_alarm(event: Event) -> EventType:
    trip = event.type is EventType.BREAKER_TRIPPED
    return EventType.DEPLOYMENT_TRANSITIONED if trip else EventType.BREAKER_TRIPPED


def _title(event: Event) -> str:
    where = " ".join(part for part in (event.agent, event.ring) if part)
    return f"turnout: {event.type.value}" + (f" in {where}" if where else "")


def _body(event: Event) -> str:
    """Who did it, and the plain values; what is nested is for programs."""
    plain: Mapping[str, object] = {
        name: value for name, value in event.data.items() if isinstance(value, str | int | float) and value != ""
    }
    lines = [f"by {event.actor}", *(f"{name}: {str(value)[:_LONGEST_VALUE]}" for name, value in plain.items())]
    if event.deployment:
        lines.append(f"turnout why {event.deployment}")
    return "\n".join(clean(line) for line in lines)
