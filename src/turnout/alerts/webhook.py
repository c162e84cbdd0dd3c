"""A receiver of signed CloudEvents."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from turnout import __version__
from turnout.alerts.attempts import Attempt
from turnout.alerts.cloudevents import CONTENT_TYPE, build_cloudevent, build_test_event, encode_cloudevent
from turnout.alerts.http import HttpSender, shown_url
from turnout.alerts.progress import Listed
from turnout.alerts.settings import WebhookTarget
from turnout.alerts.signature import sign
from turnout.alerts.topics import is_wanted, tells_of_incident
from turnout.domain.events import Event
from turnout.ports import Clock, StoredEvent
from turnout.schemas import WhyView

log = logging.getLogger(__name__)

Why = Callable[[str], WhyView]


class Webhook:
    """Implements `deliver.Target`. An event that tells of an incident carries in `data.why` what there is to know of it."""

    def __init__(self, target: WebhookTarget, instance: str, clock: Clock, why: Why) -> None:
        self.name = target.name
        self._target = target
        self._instance = instance
        self._clock = clock
        self._why = why
        self._sender = HttpSender()

    @property
    def listed(self) -> Listed:
        """See `deliver.Target`."""
        return Listed("webhook", shown_url(self._target.url), self._target.events)

    def wants(self, event: Event) -> bool:
        """See `deliver.Target`."""
        return is_wanted(event, self._target.events)

    def send(self, stored: StoredEvent) -> Attempt:
        """See `deliver.Target`."""
        why = explain(stored.event, self._why)
        return self._post(build_cloudevent(stored, self._instance, {"why": why} if why else None))

    def send_test(self, test: str) -> Attempt:
        """See `deliver.Target`."""
        return self._post(build_test_event(self._instance, self.name, test, self._clock.now()))

    def close(self) -> None:
        """See `deliver.Target`."""
        self._sender.close()

    def _post(self, built: Mapping[str, object]) -> Attempt:
        body = encode_cloudevent(built)
        headers = {"content-type": CONTENT_TYPE, "user-agent": f"turnout/{__version__}"}
        headers |= sign(self._target.keys, str(built["id"]), self._clock.now(), body)
        return self._sender.post(self._target.url, headers, body, self._target.timeout)


def explain(event: Event, why: Why) -> WhyView | None:
    """What there is to know of an incident. An event goes out without it rather than not at all."""
    if event.deployment is None or not tells_of_incident(event):
        return None
    try:
        return why(event.deployment)
    except Exception:
        log.exception("the page about %s could not be made", event.deployment)
        return None
