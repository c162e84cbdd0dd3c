"""`turnout why` and `turnout alerts`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.alerts.incident import rolled_back
from tests.unit.cli.command import CommandLine
from turnout.alerts.page import build_page
from turnout.cli import alerts
from turnout.client import Problem
from turnout.schemas import AlertAsked, AlertList, AlertView, WhyView

OPS: AlertView = {
    "name": "ops", "kind": "webhook", "to": "https://hooks.example.com/…", "events": ["*"], "state": "failing",
    "cursor": 41, "lag": 3, "lag_seconds": 12.0, "sent": 7, "sent_at": None, "error": "it answered 503",
    "failing_since": "2026-05-04T12:00:00.000000Z", "skipped": 0, "skipped_note": "", "test": "", "test_error": None,
}  # fmt: skip


def deployed(name: str, kind: str, state: str, minute: int, created: int | None = None) -> dict[str, Any]:
    """A deployment that came to its state at a minute."""
    at, made = (f"2026-05-04T12:{number:02}:00.000000Z" for number in (minute, minute if created is None else created))
    return {"id": name, "kind": kind, "state": state, "version": "v1", "created_at": made, "state_since": at}


class FakeClient:
    """An instance with one deployment and one target, which takes a test or does not."""

    def __init__(self, error: str | None = None, *, served: bool = True) -> None:
        self.asked: list[object] = []
        self._test = ""
        self._error = error
        self._served = served
        self.found = [deployed("dep_7", "promote", "active", 7)]

    def why(self, deployment: str) -> WhyView:
        if not deployment.startswith("dep_"):
            raise Problem({"type": "urn:turnout:problem:not_found", "detail": f"no deployment {deployment!r}"}, 404)
        self.asked.append(deployment)
        return rolled_back()

    def agents(self) -> dict[str, Any]:
        return {"agents": [{"agent": "support", "rings": [{"ring": "dev"}, {"ring": "production"}]}]}

    def deployments(self, agent: str, ring: str, limit: int) -> dict[str, Any]:
        return {"deployments": self.found if ring == "production" else []}

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


def test_why_of_a_ring_after_a_rollback_is_that_of_what_it_left(turnout: CommandLine) -> None:
    client = FakeClient()
    turnout.speaks_to(client)
    before = [deployed("dep_5", "promote", "rolled_back", 31, 5), deployed("dep_4", "deploy", "rolled_back", 4)]
    client.found = [
        deployed("dep_7", "rollback", "active", 30),
        deployed("dep_6", "deploy", "rolled_back", 31),
        *before,
    ]
    done = turnout("why", "support", "--ring", "production")
    assert (done.code, client.asked) == (0, ["dep_5"])
    assert done.out == build_page(rolled_back())
    assert "v1 is back in production by dep_7" in done.err
    client.found = [deployed("dep_7", "rollback", "deploying", 30), *before]
    turnout("why", "support", "--ring", "production")
    client.found = [deployed("dep_7", "rollback", "active", 40), *before]
    turnout("why", "support", "--ring", "production")
    assert client.asked[1:] == ["dep_7", "dep_7"], "nothing has left yet, or it is not among the newest"


def test_why_of_an_agent_asks_for_a_ring_and_a_deployment_needs_none(turnout: CommandLine) -> None:
    turnout.speaks_to(FakeClient())
    done = turnout("why", "support")
    assert (done.code, "support is an agent" in done.err) == (4, True)
    assert "`turnout why support --ring NAME`; its rings are dev, production" in done.err
    nobody = turnout("why", "nobody")
    assert (nobody.code, "no deployment 'nobody'" in nobody.err) == (4, True)
    twice = turnout("why", "dep_1", "--ring", "dev")
    assert (twice.code, "a deployment is in one ring and needs no --ring: `turnout why dep_1`" in twice.err) == (
        2,
        True,
    )


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
