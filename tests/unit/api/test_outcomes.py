"""Reports over HTTP: each is taken once, answered with what became of it, and never harms the server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.api.reports import known, report, serve
from tests.unit.api.service import ONE, URL, Api
from tests.unit.domain.values import make_digest
from turnout.api.app import create_app
from turnout.api.rates import ReportRate
from turnout.domain.errors import TooManyRequests
from turnout.domain.outcomes import MOST_REPORTS


def test_a_report_counts_and_a_repeated_one_changes_nothing(api: Api) -> None:
    serve(api, "t1")

    first, second = report(api, "t1", success=False, cost=0.5), report(api, "t1", success=False, cost=0.5)

    assert (first["state"], first["agent"], first["ring"]) == ("counted", "support", "dev")
    assert second["state"] == "repeated"
    assert known(api, "t1") == {"success": False, "intervention": None, "cost": 0.5}
    assert len(api.admin.get("/v1/tasks/t1").json()["reports"]) == 1


def test_time_and_reporter_are_those_of_the_server(api: Api) -> None:
    serve(api, "t1")
    report(api, "t1", success=True)

    (shown,) = api.admin.get("/v1/tasks/t1").json()["reports"]
    assert shown["reporter"] == "reporter-1"
    assert shown["at"].startswith("1970-01-12T13:46:40")
    refused = api.admin.post("/v1/tasks/t1/outcome", {"success": True, "at": 5.0})
    assert refused.status_code == 422


def test_what_is_new_in_a_later_report_counts_beside_the_first(api: Api) -> None:
    serve(api, "t1")
    report(api, "t1", success=True)

    assert report(api, "t1", success=True, intervention=True, cost=0)["state"] == "counted"
    assert known(api, "t1") == {"success": True, "intervention": True, "cost": 0.0}


def test_a_contradiction_is_kept_and_told_what_counted_before(api: Api) -> None:
    serve(api, "t1")
    report(api, "t1", success=True, detail="looks fine")

    taken = report(api, "t1", role="admin", success=False)

    assert taken["state"] == "contradicts"
    assert "the task succeeded, as reporter-1 said: looks fine" in taken["message"]
    assert known(api, "t1")["success"] is True
    reports = api.admin.get("/v1/tasks/t1").json()["reports"]
    assert [(item["success"], item["state"], item["counts"]) for item in reports] == [
        (True, "counted", ["success"]),
        (False, "contradicts", []),
    ]


def test_a_report_against_the_answer_is_told_which_setting_lets_reports_decide(api: Api) -> None:
    serve(api, "t1", request="t1", rule="status")

    taken = report(api, "t1", "developer", success=False)

    assert taken["state"] == "contradicts"
    assert "the task succeeded, by the rule of its release: status 200" in taken["message"]
    assert "The answer itself has decided already" in taken["message"]
    assert 'success = "report"` or `"silence"`' in taken["message"]


def test_a_report_against_an_answer_that_broke_is_told_that_no_rule_allows_it(api: Api) -> None:
    serve(api, "t1", status=503)

    assert "a failure by every rule" in report(api, "t1", "developer", success=True)["message"]


def test_who_only_reports_is_not_told_what_others_said(api: Api) -> None:
    serve(api, "t1", status=503)

    taken = report(api, "t1", success=True)
    assert "503" not in taken["message"]
    assert 'success = "report"` or `"silence"`' in taken["message"]


def test_of_a_report_that_counts_in_part_the_answer_says_which_values_do(api: Api) -> None:
    serve(api, "t1", "t2")
    assert report(api, "t1", success=True, cost=0.5)["message"] == "it counts"

    part = report(api, "t1", intervention=True, cost=0.12)
    assert (part["state"], part["message"]) == (
        "counted",
        "intervention counts; cost does not: another was reported first",
    )
    again = report(api, "t2", "developer", cost=0.5)
    assert again["message"] == "it counts"
    more = report(api, "t2", "developer", success=True, intervention=True, cost=0.5)
    assert more["message"] == "success and intervention count; cost was known already"


def test_who_may_read_is_told_what_counted_before_the_rest_of_a_report(api: Api) -> None:
    serve(api, "t1", request="t1", rule="status")

    message = report(api, "t1", "developer", success=False, cost=0.5)["message"]

    assert message.startswith(
        "cost counts; success does not: what was known first counts (the task succeeded, by the rule"
    )
    assert 'success = "report"` or `"silence"`' in message


def test_what_counted_at_another_agent_is_nothing_to_a_report(api: Api) -> None:
    serve(api, "t1")
    report(api, "t1", cost=0.5, success=True)
    serve(api, "later", task="t1", ring="staging", at=api.stage.clock.at + 1)

    taken = report(api, "t1", success=False, cost=0.12, agent="support", ring="staging")

    assert (taken["state"], taken["ring"], taken["message"]) == ("counted", "staging", "it counts")


def test_an_answer_to_a_batch_does_not_promise_that_every_value_counts(api: Api) -> None:
    serve(api, "t1")
    report(api, "t1", cost=0.5)
    batch = [{"task": "t1", "intervention": True, "cost": 0.12}, {"task": "t1", "success": True}]

    first, second = api.admin.post("/v1/outcomes", {"outcomes": batch}).json()["outcomes"]

    assert (first["state"], first["message"]) == ("counted", "of its values those count that were not known before")
    assert second["message"] == "it counts"


def test_a_report_before_its_task_waits_and_then_counts(api: Api) -> None:
    assert report(api, "t1", success=False)["state"] == "waiting"

    serve(api, "t1")

    assert known(api, "t1")["success"] is False


def test_a_report_of_the_wrong_ring_does_not_count_and_says_where_the_task_was(api: Api) -> None:
    serve(api, "t1", ring="staging")

    taken = report(api, "t1", success=False, agent="support", ring="dev")

    assert taken["state"] == "foreign"
    assert taken["message"] == "it does not count: the task is one of support in staging, not of support in dev"
    assert known(api, "t1")["success"] is None


def test_more_reports_of_one_task_than_anybody_needs_are_refused(api: Api) -> None:
    serve(api, "t1")
    states = [report(api, "t1", cost=number)["state"] for number in range(MOST_REPORTS + 2)]

    assert states == ["counted", *["contradicts"] * (MOST_REPORTS - 1), "refused", "refused"]


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"detail": "only words"}',
        b'{"success": "yes"}',
        b'{"success": 1}',
        b'{"cost": -0.01}',
        b'{"cost": NaN}',
        b'{"cost": Infinity}',
        b'{"cost": 1e400}',
        b'{"cost": 1000001}',
        b'{"cost": "0.5"}',
        b'{"success": true, "cost": true}',
        b'{"success": true, "colour": "red"}',
        b'{"success": true, "detail": "a\\u0000b"}',
        b'{"success": true, "detail": "\\ud800"}',
        b'{"success": true, "agent": "No Agent"}',
        b'{"success": true, "ring": "../x"}',
        b"[]",
        b"{",
    ],
)
def test_what_no_task_can_have_is_refused_and_nothing_is_kept(untouched: Api, body: bytes) -> None:
    answer = untouched.admin.request(
        "POST", "/v1/tasks/t1/outcome", content=body, headers={"content-type": "application/json"}
    )

    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert untouched.admin.get("/v1/tasks/t1").status_code == 404


@pytest.mark.parametrize("task", ["x" * 257, "a%00b"])
def test_what_is_no_id_of_a_task_is_refused(untouched: Api, task: str) -> None:
    assert untouched.admin.post(f"/v1/tasks/{task}/outcome", {"success": True}).status_code == 422


def test_an_id_may_be_what_callers_make_it(api: Api) -> None:
    for task in ("a%2Fb", "ünd%20so", "t%3F1", "a%25b"):
        assert report(api, task, success=True)["state"] == "waiting"
        assert api.admin.get(f"/v1/tasks/{task}").json()["reports"][0]["success"] is True


# --- batches ---------------------------------------------------------------------------------------------------------


def test_a_batch_is_answered_in_its_order_and_the_bad_ones_do_not_hinder_the_good(api: Api) -> None:
    serve(api, "t1", "t2")
    batch: list[dict[str, Any]] = [
        {"task": "t1", "success": True},
        {"task": "t2", "cost": -1},
        {"success": True},
        {"task": "t2"},
        {"task": "t1", "success": False},
        {"task": "t2", "success": False, "colour": "red"},
        {"task": "t2", "success": False},
    ]

    answer = api.clients["reporter"].post("/v1/outcomes", {"outcomes": batch})

    assert answer.status_code == 200
    found = answer.json()["outcomes"]
    states = ["counted", "invalid", "invalid", "invalid", "contradicts", "invalid", "counted"]
    assert [item["state"] for item in found] == states
    assert "cost" in found[1]["message"]
    assert "task" in found[2]["message"]
    assert "says nothing" in found[3]["message"]
    assert "colour" in found[5]["message"]
    assert known(api, "t2")["success"] is False


@pytest.mark.parametrize(
    "bad", [b'"task": "\\ud800"', b'"task": "t1", "\\ud800": 1', b'"task": "t1", "detail": "\\ud800"']
)
def test_half_a_surrogate_pair_in_a_batch_is_the_fault_of_the_caller(api: Api, bad: bytes) -> None:
    content = b'{"outcomes": [{"success": true, %s}]}' % bad

    answer = api.admin.request("POST", "/v1/outcomes", content=content, headers={"content-type": "application/json"})

    assert answer.status_code == 422 or answer.json()["outcomes"][0]["state"] == "invalid"


def test_a_batch_that_is_too_long_is_refused_as_a_whole(api: Api) -> None:
    serve(api, "t0")
    batch = [{"task": f"t{number}", "success": True} for number in range(1_001)]

    assert api.admin.post("/v1/outcomes", {"outcomes": batch}).status_code == 422
    assert known(api, "t0")["success"] is None


def test_the_ring_is_woken_once_for_what_counts_and_not_for_what_does_not(api: Api) -> None:
    woken: list[tuple[str, str]] = []
    app = create_app(replace(api.office, wake=lambda agent, ring: woken.append((agent, ring))))
    api.clients["reporter"] = replace(api.clients["reporter"], app=app)
    serve(api, "t1", "t2")
    for _ in range(2):
        batch = [{"task": name, "success": True} for name in ("t1", "t2", "unseen")]
        api.clients["reporter"].post("/v1/outcomes", {"outcomes": batch})

    assert woken == [("support", "dev")]


# --- floods ----------------------------------------------------------------------------------------------------------


def test_a_flood_of_one_caller_is_refused_and_the_others_are_served(api: Api) -> None:
    app = create_app(api.office)
    app.state.rate = ReportRate(rate=10.0, burst=5.0, clock=lambda: 0.0)
    flooding, other = (replace(api.clients[role], app=app) for role in ("reporter", "developer"))
    batch = {"outcomes": [{"task": "t1", "success": True}] * 4}
    assert flooding.post("/v1/outcomes", batch).status_code == 200

    refused = flooding.post("/v1/outcomes", batch)

    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["type"] == "urn:turnout:problem:too_many_requests"
    assert other.post("/v1/outcomes", batch).status_code == 200
    assert flooding.get(f"{URL}/releases").status_code == 403  # not 429: only reports are counted


def test_a_bucket_fills_again_and_a_refusal_takes_nothing() -> None:
    now = [0.0]
    rate = ReportRate(rate=100.0, burst=50.0, clock=lambda: now[0])
    rate.spend("ann", 50)
    for _ in range(3):
        with pytest.raises(TooManyRequests) as refused:
            rate.spend("ann", 20)
        assert refused.value.retry_after == pytest.approx(0.2)
    now[0] = 0.2
    rate.spend("ann", 20)
    now[0] = 100.0
    rate.spend("ann", 50)
    with pytest.raises(TooManyRequests):
        rate.spend("ann", 1)


def test_more_than_a_bucket_holds_is_let_in_when_it_is_full() -> None:
    rate = ReportRate(rate=100.0, burst=50.0, clock=lambda: 0.0)

    rate.spend("ann", 70)
    with pytest.raises(TooManyRequests):
        rate.spend("ann", 1)


def test_an_unknown_release_of_a_task_is_no_obstacle(api: Api) -> None:
    serve(api, "t1", release=replace(ONE, digest=make_digest("unknown")))

    assert report(api, "t1", success=True)["state"] == "counted"
    assert api.admin.get("/v1/tasks/t1").json()["releases"] == []
