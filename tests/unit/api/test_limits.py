"""Breakers and budgets over HTTP."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.api.service import ONE, URL, Api
from tests.unit.domain.values import AGENT
from turnout.domain.breakers import BreakerRecord, BreakerState, stopped_reasons
from turnout.domain.models import BreakerScope

OPEN = BreakerRecord(
    AGENT, "dev", ONE.digest, BreakerScope.RUN, "cost", BreakerState.OPEN, 1.0, 3.0, 2.0, 300.0, "it cost 3", "turnout"
)


def save(api: Api, record: BreakerRecord = OPEN) -> None:
    with api.stage.store.transaction() as transaction:
        transaction.add_rings(AGENT, ["dev"])
        transaction.save_breaker(record)


def test_an_open_breaker_is_listed_with_why_and_reset(api: Api) -> None:
    save(api)
    (view,) = api.admin.get(f"/v1/breakers?agent={AGENT}").json()["breakers"]
    assert (view["state"], view["version"], view["tripped_with"], view["reason"]) == ("open", "v1", 3.0, "it cost 3")
    api.post("/rings/dev/breakers", {"half_open": True, "metric": "cost", "release": ONE.digest, "reason": "a try"})
    with api.stage.store.snapshot() as snapshot:
        (record,) = snapshot.breakers(AGENT)
        event = snapshot.events(newest_first=True, limit=1)[0].event
    assert (record.state, record.actor, record.reason) == (BreakerState.HALF_OPEN, "admin-1", "a try")
    assert event.type.value == "breaker.reset"
    assert event.data == {"digest": ONE.digest, "state": "half_open", "metrics": ["cost"], "reason": "a try"}
    answer = api.admin.post(f"{URL}/rings/dev/breakers", {"metric": "error_rate"})
    assert (answer.status_code, answer.json()["hint"]) == (409, "see `turnout breakers list`")


def test_an_agent_that_nobody_knows_has_no_breakers(api: Api) -> None:
    assert api.admin.get("/v1/breakers?agent=nobody").status_code == 404


def test_only_open_breakers_stop_calls_and_say_what_to_do() -> None:
    records = [OPEN, replace(OPEN, metric="error_rate", since=0.5, reason="it failed")]
    assert stopped_reasons(records) == {
        (AGENT, "dev", ONE.digest): f"it failed; to let calls through again: turnout breakers reset {AGENT} dev"
    }
    assert stopped_reasons([replace(OPEN, state=state) for state in BreakerState if state != "open"]) == {}


def test_a_budget_is_set_listed_and_forgotten(api: Api) -> None:
    set_ = api.admin.request("PUT", "/v1/budgets", json={"limit": 2.5, "window": 60, "agent": AGENT})
    assert set_.status_code == 200, set_.text
    (view,) = api.admin.get("/v1/budgets").json()["budgets"]
    assert set_.json() == view
    assert (view["scope"], view["agent"], view["unit"], view["limit"]) == ("agent", AGENT, "usd", 2.5)
    path = f"/v1/budgets?window=60&agent={AGENT}"
    assert api.admin.request("DELETE", path).status_code == 204
    assert api.admin.request("DELETE", path).status_code == 404
    assert api.admin.get("/v1/budgets").json() == {"budgets": [], "declared": [], "accounts": [], "more": 0}


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 1},
        {"limit": "much", "window": 60},
        {"limit": 1, "window": 60, "unit": "euro"},
        {"limit": 1, "window": 60, "more": 1},
        {"limit": 0, "window": 60},
    ],
)
def test_a_budget_that_is_none_is_refused(api: Api, body: dict[str, object]) -> None:
    assert api.admin.request("PUT", "/v1/budgets", json=body).status_code == 422
