"""Events on the wire are CloudEvents 1.0, the same bytes whenever they are sent, signed as Standard Webhooks says."""

from __future__ import annotations

import json
import math

import pytest

from tests.unit.alerts.receiver import SECRET, is_signed
from turnout.alerts.cloudevents import build_cloudevent, build_test_event, encode_cloudevent
from turnout.alerts.signature import read_keys, sign
from turnout.domain.events import Event, EventType
from turnout.ports import StoredEvent

EVENT = Event(
    EventType.DEPLOYMENT_TRANSITIONED,
    1_700_000_000.25,
    "ann",
    "support",
    "production",
    "dep_1",
    {"from": "validating", "to": "rolling_back", "reason": "it lied"},
)


def test_an_event_has_all_that_cloudevents_demand() -> None:
    built = build_cloudevent(StoredEvent(41, EVENT), "cafe")
    assert built == {
        "specversion": "1.0",
        "id": "cafe-41",
        "source": "/agents/support/rings/production",
        "type": "turnout.deployment.transitioned.v1",
        "subject": "dep_1",
        "time": "2023-11-14T22:13:20.250000Z",
        "sequence": "00000000000000000041",
        "datacontenttype": "application/json",
        "data": {
            "actor": "ann",
            "agent": "support",
            "ring": "production",
            "deployment": "dep_1",
            "details": {"from": "validating", "to": "rolling_back", "reason": "it lied"},
        },
    }


@pytest.mark.parametrize(
    ("event", "source", "subject"),
    [
        (
            Event(EventType.RELEASE_PUSHED, 1.0, "a", "support", data={"digest": "sha256:1"}),
            "/agents/support",
            "sha256:1",
        ),
        (Event(EventType.TOKEN_CREATED, 1.0, "a", data={"name": "eve"}), "/instance", None),
    ],
)
def test_source_and_subject_follow_from_what_it_is_about(event: Event, source: str, subject: str | None) -> None:
    built = build_cloudevent(StoredEvent(1, event), "cafe")
    assert (built["source"], built.get("subject")) == (source, subject)


def test_sequences_order_as_text() -> None:
    texts = [str(build_cloudevent(StoredEvent(seq, EVENT), "i")["sequence"]) for seq in (9, 10, 99_999, 10**12)]
    assert texts == sorted(texts)


def test_more_goes_into_the_data() -> None:
    built = build_cloudevent(StoredEvent(1, EVENT), "i", {"why": {"headline": "x"}})
    assert built["data"]["why"] == {"headline": "x"}  # type: ignore[index]


def test_whatever_an_event_holds_becomes_json() -> None:
    odd = {"value": math.inf, "no": math.nan, "deep": [(1, math.inf)], 5: "key", "text": "\ud800 ü\x00"}
    event = Event(EventType.BREAKER_TRIPPED, 1.0, "a", data=odd)  # type: ignore[arg-type]
    details = json.loads(encode_cloudevent(build_cloudevent(StoredEvent(1, event), "i")))["data"]["details"]
    assert details == {"value": None, "no": None, "deep": [[1, None]], "5": "key", "text": "? ü\x00"}


def test_the_same_event_is_the_same_bytes() -> None:
    one, two = (encode_cloudevent(build_cloudevent(StoredEvent(1, EVENT), "i")) for _ in range(2))
    assert one == two


def test_a_test_has_no_place_in_the_order() -> None:
    built = build_test_event("cafe", "ops", "t1", 5.0)
    assert (built["id"], built["type"], "sequence" in built) == ("cafe-test-t1", "turnout.alert.test.v1", False)


def test_signatures_are_those_of_the_specification() -> None:
    """The example of the reference implementations of Standard Webhooks."""
    keys = read_keys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = sign(keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330.9, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_while_a_secret_is_changed_both_sign() -> None:
    headers = sign(read_keys(f"{SECRET}\nan older secret of tests\n"), "id", 1.0, b"body")
    assert headers["webhook-signature"].count("v1,") == 2
    assert is_signed(headers, b"body")
    assert not is_signed(headers, b"another body")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        (" \n ", "empty"),
        ("hunter2", "too short"),
        ("whsec_???", "not base64"),
        ("whsec_YWJj", "too short"),
    ],
)
def test_what_is_no_secret_is_refused_without_being_repeated(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        read_keys(text)
    assert not text.strip() or text not in str(refused.value)
