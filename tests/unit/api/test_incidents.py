"""Why, alerts and metrics over HTTP."""

from __future__ import annotations

import pytest

from tests.unit.alerts.world import FakeTarget
from tests.unit.api.service import Api
from turnout.alerts.progress import Roster, read_wishes, save_roster


def configure(api: Api) -> None:
    """One target of alerts, which nobody serves."""
    with api.stage.store.transaction() as transaction:
        save_roster(transaction, Roster("cafe", {"ops": FakeTarget().listed}))


def test_why_is_json_text_or_html(canary: Api) -> None:
    place = "/v1/deployments/dep_6/why"
    answers = {page: canary.clients["viewer"].get(f"{place}?page={page}") for page in ("json", "text", "html")}
    assert [answer.status_code for answer in answers.values()] == [200, 200, 200]
    assert answers["json"].json()["headline"] == "support production: v2 is validating"
    assert answers["text"].headers["content-type"] == "text/plain; charset=utf-8"
    assert answers["text"].text.startswith("support production: v2 is validating\n====")
    assert answers["html"].headers["content-security-policy"].startswith("default-src 'none'")
    assert "<h1>support production: v2 is validating</h1>" in answers["html"].text
    assert canary.admin.get(f"{place}?page=pdf").status_code == 422


def test_why_of_nothing_is_not_found(untouched: Api) -> None:
    answer = untouched.admin.get("/v1/deployments/dep_999/why")
    assert (answer.status_code, answer.json()["hint"]) == (404, "`turnout deployments list` shows them")


def test_targets_are_listed_tested_and_sent_again(api: Api) -> None:
    assert api.admin.get("/v1/alerts").json() == {"alerts": []}
    configure(api)
    (shown,) = api.admin.get("/v1/alerts").json()["alerts"]
    assert (shown["name"], shown["state"], shown["to"]) == ("ops", "idle", "https://ops/…")
    test = api.admin.post("/v1/alerts/ops/test").json()["id"]
    replay = api.admin.post("/v1/alerts/ops/replay", {"after": 1}).json()["id"]
    with api.stage.store.snapshot() as snapshot:
        wishes = read_wishes(snapshot, "ops")
    assert (wishes.test, wishes.replay, wishes.after) == (test, replay, 1)


def test_a_wish_that_is_sent_again_is_one_wish(api: Api) -> None:
    configure(api)
    key = {"Idempotency-Key": "a-key-of-tests"}
    one, two = (api.admin.post("/v1/alerts/ops/replay", {"after": 1}, headers=key) for _ in range(2))
    assert one.json() == two.json()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/alerts/nobody/test", None, 404),
        ("/v1/alerts/nobody/replay", {"after": 0}, 404),
        ("/v1/alerts/ops/replay", {"after": 10_000_000}, 422),
        ("/v1/alerts/ops/replay", {"after": -1}, 422),
        ("/v1/alerts/ops/replay", {}, 422),
    ],
)
def test_what_cannot_be_asked_is_a_problem_that_teaches(
    api: Api, path: str, body: dict[str, int] | None, status: int
) -> None:
    configure(api)
    answer = api.admin.post(path, body)
    assert answer.status_code == status
    problem = answer.json()
    assert problem.get("hint") or problem.get("problems")


def test_metrics_are_scraped_with_a_token_of_a_viewer(untouched: Api) -> None:
    answer = untouched.clients["viewer"].get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE turnout_requests_total counter" in answer.text
    assert untouched.anonymous.get("/metrics").status_code == 401
    assert untouched.clients["reporter"].get("/metrics").status_code == 403
