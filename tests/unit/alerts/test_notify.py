"""Notifications through the real Apprise, to a receiver that speaks one of its protocols."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.live import free_port
from tests.unit.alerts.incident import rolled_back
from tests.unit.alerts.receiver import Receiver, receiving
from turnout.alerts.notify import Notification
from turnout.alerts.settings import NotifyTarget
from turnout.alerts.topics import INCIDENTS
from turnout.domain.errors import SetupFailed
from turnout.domain.events import Event, EventType
from turnout.ports import StoredEvent

# Of a library that Apprise looks for on its own.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def notification(receiver: Receiver, **fields: Any) -> Notification:
    url = f"json://user:hunter2@127.0.0.1:{receiver.port}/hidden"
    return Notification(
        NotifyTarget(**{"name": "chat", "url": url, "events": INCIDENTS, **fields}), lambda _: rolled_back()
    )


def stored(type_: EventType, at: float = 5.0, deployment: str | None = "dep_1", **data: object) -> StoredEvent:
    return StoredEvent(8, Event(type_, at, "turnout", "support", "production", deployment, data))


BACK = stored(EventType.DEPLOYMENT_TRANSITIONED, to="rolling_back", reason="r")
TRIPPED = stored(EventType.BREAKER_TRIPPED, metric="cost", value=3.0)


def test_a_rollback_is_told_with_its_whole_page(receiver: Receiver) -> None:
    assert notification(receiver).send(BACK).error is None
    told = receiver.got[0].event
    assert told["title"] == "support production: v5 was taken back by the judge"
    assert told["type"] == "failure"
    for part in ("EVIDENCE", "WHAT DIFFERS from v4 to v5", "approved by bob", "WHAT TO DO NEXT"):
        assert part in told["message"]


def test_without_being_asked_people_hear_of_rollbacks_and_breakers_alone(receiver: Receiver) -> None:
    target = notification(receiver)
    assert target.wants(BACK.event)
    assert target.wants(TRIPPED.event)
    for to in ("active", "failed", "rolled_back"):
        assert not target.wants(stored(EventType.DEPLOYMENT_TRANSITIONED, to=to).event)


def test_one_incident_wakes_people_once(receiver: Receiver) -> None:
    target = notification(receiver)
    target.send(TRIPPED)
    assert not target.wants(BACK.event)
    assert target.wants(TRIPPED.event), "a replay is not the same as another alarm of the same incident"
    assert target.wants(stored(EventType.DEPLOYMENT_TRANSITIONED, deployment="dep_2", to="rolling_back").event)
    assert target.wants(stored(EventType.DEPLOYMENT_TRANSITIONED, at=90.0, to="rolling_back").event)


def test_an_alarm_that_was_not_heard_does_not_silence_the_next() -> None:
    with receiving() as receiver:
        target = notification(receiver)
        receiver.status = lambda _: 500
        assert target.send(TRIPPED).error is not None
    assert target.wants(BACK.event)


def test_other_events_are_told_in_a_few_lines(receiver: Receiver) -> None:
    event = stored(EventType.APPROVAL_GIVEN, None, digest="sha256:1", comment="fine", nested={"a": 1}, empty="")  # type: ignore[arg-type]
    notification(receiver, events=("*",)).send(event)
    told = receiver.got[0].event
    assert told["title"] == "turnout: approval.given in support production"
    assert told["message"].splitlines() == ["by turnout", "digest: sha256:1", "comment: fine", "turnout why dep_1"]


def test_what_fails_tells_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    target = notification(Receiver(free_port()))
    attempt = target.send(BACK)
    assert attempt.error == "json did not take it; the server's log says why"
    assert "hunter2" not in caplog.text
    assert "hidden" not in f"{caplog.text} {target.listed}"


def test_redirects_are_not_followed(receiver: Receiver) -> None:
    with receiving() as elsewhere:
        receiver.status, receiver.headers = lambda _: 307, {"location": elsewhere.url}
        assert notification(receiver).send(BACK).error is not None
    assert elsewhere.got == []


def test_a_test_says_that_nothing_happened(receiver: Receiver) -> None:
    assert notification(receiver).send_test("t1").error is None
    assert receiver.got[0].event["message"] == "nothing happened (test t1)"


@pytest.mark.parametrize("url", ["nonsense", "nowhere://hunter2", ""])
def test_a_url_that_apprise_does_not_know_is_refused_without_being_repeated(receiver: Receiver, url: str) -> None:
    with pytest.raises(SetupFailed, match="'chat'") as refused:
        notification(receiver, url=url)
    assert "hunter2" not in refused.value.message
