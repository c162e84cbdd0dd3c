"""Who may do what over HTTP: no endpoint without a token, no verb without its role."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.unit.api.service import ONE, TWO, URL, Api
from turnout.domain.policy import Role

READS = {"admin", "operator", "developer", "approver", "viewer"}
BUILDS = {"admin", "operator", "developer"}
OPERATES = {"admin", "operator"}
REPORTS = {"admin", "operator", "developer", "reporter"}
BLOB = "sha256:" + "0" * 64

# (method, path, body) → the roles that may
MATRIX: list[tuple[str, str, dict[str, Any] | None, set[str]]] = [
    ("GET", "/v1/instance", None, {*READS, "reporter"}),
    ("GET", "/v1/openapi.json", None, {*READS, "reporter"}),
    ("GET", "/v1/agents", None, READS),
    ("GET", URL, None, READS),
    ("GET", "/v1/events", None, READS),
    ("GET", "/v1/deployments", None, READS),
    ("GET", "/v1/deployments/dep_1", None, READS),
    ("GET", "/v1/deployments/dep_1/events", None, READS),
    ("GET", f"{URL}/releases", None, READS),
    ("GET", f"{URL}/releases/v1", None, READS),
    ("GET", f"{URL}/rings/dev/logs", None, READS),
    ("GET", f"{URL}/rings/production/approvals", None, READS),
    ("GET", f"{URL}/releases/v1/tools", None, READS),
    ("GET", f"{URL}/releases/v1/verification", None, READS),
    ("GET", f"{URL}/releases/v1/verification?ring=production", None, READS),
    ("GET", f"{URL}/releases/v1/attestations", None, READS),
    ("GET", f"{URL}/releases/v1/archive", None, READS),
    ("PUT", f"{URL}/releases/{BLOB}", {}, BUILDS),
    ("POST", f"{URL}/releases/v1/attestations", {"envelope": ""}, BUILDS),
    ("PUT", f"{URL}/releases/v1/wheels", {"wheels": {}}, BUILDS),
    ("PUT", f"{URL}/blobs/{BLOB}", {}, BUILDS),
    ("POST", f"{URL}/blobs/missing", {"digests": []}, BUILDS),
    ("POST", f"{URL}/chunks/missing", {"index": BLOB}, BUILDS),
    ("POST", f"{URL}/rings/dev/deployments", {"release": "v1"}, BUILDS),
    ("POST", f"{URL}/rings/dev/deployments", {"release": "v1", "dry_run": True}, BUILDS),
    ("POST", f"{URL}/rings/staging/promotions", {"source": "dev"}, BUILDS),
    ("POST", f"{URL}/rings/production/promotions", {"source": "staging", "release": "v2"}, OPERATES),
    ("POST", f"{URL}/rings/production/promotions", {"source": "staging", "release": "v2", "dry_run": True}, OPERATES),
    ("POST", f"{URL}/rings/dev/deployments", {"release": "v1", "override": "must"}, {"admin"}),
    ("POST", f"{URL}/rings/staging/promotions", {"source": "dev", "override": "must"}, {"admin"}),
    ("GET", f"{URL}/rings/production/rollout", None, READS),
    ("GET", f"{URL}/rings/production/rollout/plan", None, READS),
    ("POST", f"{URL}/rings/production/rollout", {"action": "advance"}, OPERATES),
    ("POST", f"{URL}/rings/production/rollout", {"action": "pause"}, OPERATES),
    ("POST", f"{URL}/rings/production/rollout", {"action": "resume"}, OPERATES),
    ("POST", f"{URL}/rings/production/rollout", {"action": "abort"}, OPERATES),
    ("POST", f"{URL}/rings/dev/rollbacks", {}, OPERATES),
    ("POST", f"{URL}/rings/dev/rollbacks", {"dry_run": True}, OPERATES),
    ("POST", f"{URL}/rings/dev/rollbacks", {"version": "v1", "override": "must"}, {"admin"}),
    ("POST", f"{URL}/rings/production/approvals", {"approved": True}, {"admin", "operator", "approver"}),
    ("GET", f"{URL}/recordings", None, READS),
    ("POST", f"{URL}/releases/v1/evals", {"document": "{}"}, BUILDS),
    ("GET", f"{URL}/evals", None, READS),
    ("GET", f"{URL}/evals/eval_1", None, BUILDS),
    ("POST", f"{URL}/recordings", {"task": "t"}, BUILDS),
    ("GET", f"{URL}/recordings/{BLOB}", None, BUILDS),
    ("DELETE", f"{URL}/recordings/{BLOB}", None, BUILDS),
    ("GET", f"{URL}/replays", None, READS),
    ("GET", f"{URL}/replays/replay_1", None, BUILDS),
    ("POST", f"{URL}/replays", {"document": "{}"}, BUILDS),
    ("GET", "/v1/breakers", None, READS),
    ("POST", f"{URL}/rings/production/breakers", {}, OPERATES),
    ("GET", "/v1/budgets", None, READS),
    ("PUT", "/v1/budgets", {"limit": 1, "window": 60}, OPERATES),
    ("DELETE", "/v1/budgets?window=60", None, OPERATES),
    ("GET", "/v1/tasks", None, READS),
    ("GET", "/v1/tasks/t1", None, READS),
    ("POST", "/v1/tasks/t1/outcome", {"success": True}, REPORTS),
    ("POST", "/v1/outcomes", {"outcomes": []}, REPORTS),
    ("POST", "/v1/otlp/v1/logs", {}, REPORTS),
    ("POST", "/v1/otlp/v1/traces", {}, REPORTS),
    ("GET", "/v1/deployments/dep_1/why", None, READS),
    ("GET", "/metrics", None, READS),
    ("GET", "/v1/alerts", None, {"admin"}),
    ("POST", "/v1/alerts/ops/test", None, {"admin"}),
    ("POST", "/v1/alerts/ops/replay", {"after": 0}, {"admin"}),
    ("GET", "/v1/tokens", None, {"admin"}),
    ("POST", "/v1/tokens", {"name": "eve", "role": "viewer"}, {"admin"}),
    ("DELETE", "/v1/tokens/nobody", None, {"admin"}),
    ("GET", "/v1/keys", None, READS),
    ("POST", "/v1/keys", {"public_key": "{}"}, {"admin"}),
    ("POST", "/v1/keys", {"public_key": "{}", "instance": True}, {"admin"}),
    ("DELETE", "/v1/keys/nobody", None, {"admin"}),
    ("DELETE", f"{URL}/tags/none", None, {"admin"}),
    ("POST", "/v1/garbage", {"dry_run": True}, {"admin"}),
]


def endpoints(api: Api) -> list[tuple[str, str]]:
    document = api.admin.get("/v1/openapi.json").json()
    return [(method, path) for path, methods in document["paths"].items() for method in methods]


def test_no_endpoint_but_health_answers_without_a_token(untouched: Api) -> None:
    found = endpoints(untouched)
    assert len(found) > 20
    for method, path in found:
        place = re.sub(r"\{\w+\}", "x", path)
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic c2VjcmV0"}):
            answer = untouched.anonymous.request(method, place, json={}, headers=headers)
            assert answer.status_code == (200 if path == "/healthz" else 401), (method, path, headers)
            if path != "/healthz":
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.json()["hint"]


def test_who_has_no_token_learns_nothing_of_what_is_wrong_with_a_request(untouched: Api) -> None:
    for content in (b"{not json", b'{"action": "fly"}', b""):
        answer = untouched.anonymous.request("POST", f"{URL}/rings/production/rollout", content=content)
        assert answer.status_code == 401, content


def test_health_tells_nothing_but_that_it_answers(untouched: Api) -> None:
    assert untouched.anonymous.get("/healthz").json() == {"status": "ok"}


def test_there_are_no_pages_that_need_no_token(untouched: Api) -> None:
    for path in ("/docs", "/redoc", "/openapi.json", "/"):
        assert untouched.anonymous.get(path).status_code == 404


def test_the_matrix_names_every_endpoint(untouched: Api) -> None:
    """So that a new one cannot be forgotten here."""
    tested = {(method.lower(), path.partition("?")[0]) for method, path, _, _ in MATRIX}
    missed = [
        (method, path)
        for method, path in endpoints(untouched)
        if not any(
            method == tried and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), place) for tried, place in tested
        )
    ]
    assert missed == [("get", "/healthz"), ("get", "/v1/agents/{agent}/diff")]


@pytest.mark.parametrize(("method", "path", "body", "may"), MATRIX)
def test_a_role_that_may_not_is_refused_and_told_so(
    untouched: Api, method: str, path: str, body: dict[str, Any] | None, may: set[str]
) -> None:
    for role in (role.value for role in Role if role.value not in may):
        answer = untouched.clients[role].request(method, path, json=body)
        assert answer.status_code == 403, (role, answer.text)
        assert answer.json()["type"] == "urn:turnout:problem:forbidden"
        assert f"{role}-1 has the role {role} and may not" in answer.json()["detail"]


def test_nothing_was_changed_by_those_who_were_refused(untouched: Api) -> None:
    pointer = untouched.stage.pointer("production")
    assert (pointer.stable, pointer.candidate) == (ONE.digest, TWO.digest)
    assert untouched.stage.deployment("dep_6").abort is None
    with untouched.stage.store.snapshot() as snapshot:
        assert "eve" not in {token.name for token in snapshot.tokens()}


def test_a_role_that_may_is_not_refused(canary: Api) -> None:
    for method, path, body, may in MATRIX:
        for role in sorted(may):
            answer = canary.clients[role].request(method, path, json=body)
            assert answer.status_code not in (401, 403), (role, method, path, answer.text)


def test_a_revoked_token_is_refused_from_now_on(api: Api) -> None:
    assert api.clients["viewer"].get("/v1/instance").status_code == 200
    assert api.admin.request("DELETE", "/v1/tokens/viewer-1").status_code == 204
    assert api.clients["viewer"].get("/v1/instance").status_code == 401


def test_the_last_admin_stays(api: Api) -> None:
    answer = api.admin.request("DELETE", "/v1/tokens/admin-1")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:turnout:problem:conflict")


def test_a_token_is_shown_once_and_stored_nowhere(api: Api) -> None:
    made = api.admin.post("/v1/tokens", {"name": "zoe", "role": "viewer"}).json()
    assert made["token"].startswith("tt_")
    assert "token" not in api.admin.get("/v1/tokens").json()["tokens"][-1]
    assert made["token"] not in api.admin.get("/v1/events?limit=1000").text
    with api.stage.store.snapshot() as snapshot:
        assert made["token"] not in str(snapshot.tokens())
    again = api.admin.post("/v1/tokens", {"name": "zoe", "role": "viewer"})
    assert again.status_code == 409


def test_an_answer_says_who_asks(untouched: Api) -> None:
    answer = untouched.clients["approver"].get("/v1/instance").json()
    assert (answer["actor"], answer["role"]) == ("approver-1", "approver")
