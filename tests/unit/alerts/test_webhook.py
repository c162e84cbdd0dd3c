"""Webhooks over real HTTP."""

from __future__ import annotations

import pytest

from tests.live import free_port
from tests.unit.alerts.incident import rolled_back
from tests.unit.alerts.receiver import Receiver, is_signed, receiving
from tests.unit.alerts.world import World
from turnout.alerts.attempts import Fault
from turnout.domain.events import Event, EventType
from turnout.ports import StoredEvent
from turnout.schemas import WhyView

PLAIN = StoredEvent(7, Event(EventType.KEY_TRUSTED, 5.0, "ann", data={"keyid": "k"}))


def transition(to: str, seq: int = 8) -> StoredEvent:
    data = {"from": "validating", "to": to, "reason": "r"}
    return StoredEvent(seq, Event(EventType.DEPLOYMENT_TRANSITIONED, 5.0, "turnout", "a", "r", "dep_1", data))


def test_an_event_arrives_signed(world: World, receiver: Receiver) -> None:
    assert world.webhook(receiver.url).send(PLAIN).error is None
    (got,) = receiver.got
    assert got.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert got.headers["webhook-id"] == got.event["id"] == "cafe-7"
    assert is_signed(got.headers, got.body)
    assert "why" not in got.event["data"]


def test_an_incident_carries_what_there_is_to_know(world: World, receiver: Receiver) -> None:
    webhook = world.webhook(receiver.url, lambda _: rolled_back())
    for to in ("rolling_back", "rolled_back", "deploying"):
        webhook.send(transition(to))
    assert ["why" in got.event["data"] for got in receiver.got] == [True, True, False]
    why = receiver.got[0].event["data"]["why"]
    assert why["headline"] == "support production: v5 was taken back by the judge"
    assert why["evidence"]["metrics"][0]["candidate"]["units"] > 0


def test_an_event_goes_out_even_if_its_page_cannot_be_made(
    world: World, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: str) -> WhyView:
        raise ValueError("a fault of ours")

    assert world.webhook(receiver.url, fail).send(transition("rolled_back")).error is None
    assert "why" not in receiver.got[0].event["data"]
    assert "the page about dep_1 could not be made" in caplog.text


def test_nobody_there_is_an_attempt_that_failed(world: World) -> None:
    attempt = world.webhook(f"http://127.0.0.1:{free_port()}/secret-path").send(PLAIN)
    assert attempt.fault is Fault.UNREACHED
    assert "not reached" in str(attempt.error)
    assert "secret-path" not in str(attempt.error)


def test_redirects_are_not_followed(world: World, receiver: Receiver) -> None:
    with receiving() as elsewhere:
        receiver.status, receiver.headers = lambda _: 307, {"location": elsewhere.url}
        attempt = world.webhook(receiver.url).send(PLAIN)
    assert (elsewhere.got, attempt.fault) == ([], Fault.RECEIVER)
    assert attempt.error == "it answered 307; redirects are not followed"


def test_a_receiver_says_when_it_wants_to_be_asked_again(world: World, receiver: Receiver) -> None:
    receiver.status, receiver.headers = lambda _: 429, {"retry-after": "17"}
    assert world.webhook(receiver.url).send(PLAIN).pause == 17.0
    receiver.headers = {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}
    assert world.webhook(receiver.url).send(PLAIN).pause is None


def test_proxies_of_the_environment_are_not_used(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{free_port()}")
    assert world.webhook(receiver.url).send(PLAIN).error is None


def test_a_test_is_signed_as_an_event_is(world: World, receiver: Receiver) -> None:
    assert world.webhook(receiver.url).send_test("t1").error is None
    assert is_signed(receiver.got[0].headers, receiver.got[0].body)


def test_what_is_shown_of_a_webhook_holds_no_secret(world: World) -> None:
    listed = world.webhook("https://hooks.example.com/services/T0/B0/secret?key=x").listed
    assert listed.to == "https://hooks.example.com/…"
