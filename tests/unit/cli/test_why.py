"""`turnout why` and `turnout alerts`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.alerts.incident import rolled_back
from tests.unit.cli.command import CommandLine
from turnout.alerts.page import build_page
from turnout.cli import alerts
from turnout.schemas import AlertAsked, AlertList, AlertView, WhyView

OPS: AlertView = {
    "name": "ops", "kind": "webhook", "to": "https://hooks.example.com/…", "events": ["*"], "state": "failing",
    "cursor": 41, "lag": 3, "lag_seconds": 12.0, "sent": 7, "sent_at": None, "error": "it answered 503",
    "failing_since": "2026-05-04T12:00:00.000000Z", "skipped": 0, "skipped_note": "", "test": "", "test_error": None,
}  # fmt: skip


class FakeClient:
    """An instance with one deployment and one target, which takes a test or does not."""

    def __init__(self, error: str | None = None, *, served: bool = True) -> None:
        self.asked: list[object] = []
        self._test = ""
        self._error = error
        self._served = served

    def why(self, deployment: str) -> WhyView:
        self.asked.append(deployment)
        return rolled_back()

    def deployments(self, agent: str, ring: str, limit: int) -> dict[str, Any]:
        return {"deployments": [{"id": "dep_7"}] if ring == "production" else []}

    def alerts(self) -> AlertList:
        return {"alerts": [{**OPS, "test": self._test if self._served else "", "test_error": self._error}]}

    def test_alerts(self, name: str) -> AlertAsked:
        self._test = "t1"
        return {"name": name, "id": "t1"}

    def replay_alerts(self, name: str, after: int) -> AlertAsked:
        self.asked.append((name, after))
        return {"name": name, "id": "r1"}


def test_why_prints_the_page(turnout: CommandLine) -> None:
    turnout.speaks_to(FakeClient())
    done = turnout("why", "dep_1")
    assert (done.code, done.out) == (0, build_page(rolled_back()))


def test_why_of_a_ring_is_that_of_its_newest_deployment(turnout: CommandLine) -> None:
    client = FakeClient()
    turnout.speaks_to(client)
    assert turnout("why", "support", "--ring", "production", "--json").json()["cause"]["kind"] == "judge"
    assert client.asked == ["dep_7"]
    nothing = turnout("why", "support", "--ring", "dev")
    assert (nothing.code, "nothing was ever deployed to dev of support" in nothing.err) == (4, True)


def test_why_writes_a_page_of_html(turnout: CommandLine, tmp_path: Path) -> None:
    turnout.speaks_to(FakeClient())
    done = turnout("why", "dep_1", "--html", str(tmp_path / "page.html"))
    assert (done.code, done.out) == (0, "")
    assert "</html>" in (tmp_path / "page.html").read_text()
    refused = turnout("why", "dep_1", "--html", str(tmp_path / "nowhere" / "page.html"))
    assert (refused.code, "cannot be written" in refused.err) == (3, True)


def test_targets_are_shown_with_what_went_wrong(turnout: CommandLine) -> None:
    turnout.speaks_to(FakeClient())
    shown = turnout("alerts", "list").out
    for part in ("ops", "failing", "41", "3 (12 s)", "since 2026-05-04 12:00:00: it answered 503"):
        assert part in shown
    assert turnout("alerts", "list", "--json").json()["alerts"][0]["cursor"] == 41


def test_a_test_says_whether_it_arrived(turnout: CommandLine) -> None:
    turnout.speaks_to(FakeClient())
    assert turnout("alerts", "test", "ops").out == "ops took the test\n"
    turnout.speaks_to(FakeClient("it answered 401"))
    failed = turnout("alerts", "test", "ops")
    assert (failed.code, "ops did not get the test: it answered 401" in failed.err) == (7, True)


def test_a_test_that_nobody_sends_ends_too(turnout: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "_TEST_SECONDS", 0.0)
    turnout.speaks_to(FakeClient(served=False))
    failed = turnout("alerts", "test", "ops")
    assert (failed.code, "nobody serves ops just now" in failed.err) == (7, True)


def test_a_target_is_sent_again_what_followed(turnout: CommandLine) -> None:
    client = FakeClient()
    turnout.speaks_to(client)
    assert turnout("alerts", "replay", "ops", "--after", "12").out == "ops is sent again what followed event 12\n"
    assert client.asked == [("ops", 12)]
    assert turnout("alerts", "replay", "ops", "--after", "-1").code == 2
