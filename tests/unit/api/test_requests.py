"""What the API answers: problems that teach, writes that happen once, releases that are taken in, streams that end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.api.service import ONE, TWO, URL, Api, Caller, key
from tests.unit.artifacts.agents import MANIFEST, build, write_agent
from turnout.api.app import create_app
from turnout.artifacts.document import read_image
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.ports import Transaction

UNKNOWN = "sha256:" + "f" * 64


# --- problems --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("GET", "/v1/agents/nobody", None, "no agent 'nobody'"),
        ("GET", "/v1/agents/nobody/releases", None, "no agent 'nobody'"),
        ("GET", "/v1/deployments?agent=nobody", None, "no agent 'nobody'"),
        ("GET", "/v1/events?agent=nobody", None, "no agent 'nobody'"),
        ("GET", f"/v1/events?agent={ONE.agent}&ring=moon", None, "no ring 'moon'"),
        ("GET", "/v1/deployments/dep_999", None, "no deployment 'dep_999'"),
        ("GET", "/v1/deployments/dep_999/events", None, "no deployment 'dep_999'"),
        ("GET", f"{URL}/releases/v99", None, "no release 'v99'"),
        ("GET", f"{URL}/releases/{UNKNOWN}", None, "no release"),
        ("GET", f"{URL}/releases/ring:moon", None, "has no ring 'moon'"),
        ("GET", f"{URL}/diff?a=v1&b=v99", None, "no release 'v99'"),
        ("GET", f"{URL}/rings/moon/logs", None, "no ring 'moon'"),
        ("POST", f"{URL}/rings/moon/deployments", {"release": "v1"}, "no ring 'moon'"),
        ("POST", f"{URL}/rings/dev/deployments", {"release": UNKNOWN}, "no release"),
        ("POST", f"{URL}/rings/dev/deployments", {}, "no release was named"),
        ("POST", f"{URL}/rings/staging/promotions", {"source": "moon"}, "no ring 'moon'"),
        ("POST", f"{URL}/rings/moon/promotions", {"source": "dev"}, "no ring 'moon'"),
        ("POST", f"{URL}/rings/moon/rollbacks", {}, "no ring 'moon'"),
        ("POST", f"{URL}/rings/dev/rollbacks", {"version": "v99"}, "no release 'v99'"),
        ("POST", f"{URL}/rings/moon/rollout", {"action": "abort"}, "no ring 'moon'"),
        ("POST", f"{URL}/rings/moon/approvals", {"approved": True}, "no ring 'moon'"),
        ("POST", "/v1/agents/nobody/rings/dev/deployments", {"release": "v1"}, "no agent 'nobody'"),
        ("DELETE", "/v1/tokens/nobody", None, "no token named nobody"),
    ],
)
def test_what_is_not_known_is_not_found_and_the_hint_says_where_to_look(
    untouched: Api, method: str, path: str, body: dict[str, Any] | None, says: str
) -> None:
    answer = untouched.admin.request(method, path, json=body)
    assert answer.status_code == 404, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["type"], problem["status"]) == ("urn:turnout:problem:not_found", 404)
    assert says in problem["detail"]
    assert problem["hint"]


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        ("/rings/dev/deployments", {"release": "v1", "relaese": "v2"}, "body.relaese"),
        ("/rings/dev/deployments", {"release": 7}, "body.release"),
        ("/rings/dev/deployments", {"release": "v1", "override": ""}, "body.override"),
        ("/rings/dev/promotions", {}, "body.source"),
        ("/rings/dev/rollout", {"action": "fly"}, "body.action"),
        ("/rings/dev/approvals", {"approved": "perhaps"}, "body.approved"),
        ("/rings/dev/rollbacks", {"reason": "x" * 1_001}, "body.reason"),
    ],
)
def test_a_request_that_is_not_understood_names_the_place(
    untouched: Api, path: str, body: dict[str, Any], where: str
) -> None:
    answer = untouched.admin.post(f"{URL}{path}", body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:turnout:problem:invalid_request"
    assert any(problem.startswith(f"{where}:") for problem in answer.json()["problems"])


def test_a_body_that_is_no_json_is_a_problem_too(untouched: Api) -> None:
    answer = untouched.admin.request("POST", f"{URL}/rings/dev/rollout", content=b"{not json")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_unknown_place_and_a_wrong_method_are_problems(untouched: Api) -> None:
    missing = untouched.admin.get("/v1/nonsense")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
    wrong = untouched.admin.request("PATCH", "/v1/agents")
    assert (wrong.status_code, wrong.headers["content-type"]) == (405, "application/problem+json")
    assert wrong.headers["allow"] == "GET"


def test_a_fault_of_ours_tells_nothing_of_the_inside(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> AbstractContextManager[Transaction]:
        raise ZeroDivisionError("the secret is 42")

    monkeypatch.setattr(api.stage.store, "snapshot", fail)
    answer = api.admin.get("/v1/agents")
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:turnout:problem:internal"
    assert "42" not in answer.text


def test_a_body_that_is_too_large_is_refused_before_anybody_is_known(untouched: Api) -> None:
    answer = untouched.anonymous.request("POST", f"{URL}/rings/dev/rollout", content=b" " * (5 << 20))
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/v1/outcomes", "/v1/otlp/v1/logs", f"{URL}/rings/dev/rollout"])
def test_a_body_that_does_not_say_how_large_it_is_is_refused_in_the_same_way(untouched: Api, path: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * (1 << 20)

    answer = untouched.admin.request("POST", path, content=chunks(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert "larger than" in answer.json()["detail"]


def test_a_policy_that_refuses_says_what_would_pass(untouched: Api) -> None:
    answer = untouched.admin.post(f"{URL}/rings/staging/deployments", {"release": "v3"})
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:turnout:problem:policy_refused")
    assert "promote" in answer.json()["hint"]


def test_a_ring_where_something_is_in_progress_says_what(untouched: Api) -> None:
    answer = untouched.admin.post(f"{URL}/rings/production/promotions", {"source": "staging", "force": True})
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:turnout:problem:conflict")
    assert "dep_6" in answer.json()["detail"]


# --- once ------------------------------------------------------------------------------------------------------------


def test_a_write_that_is_sent_again_under_its_key_happens_once(api: Api) -> None:
    headers = key()
    first = api.admin.post(f"{URL}/rings/dev/deployments", {"release": "v1"}, headers=headers)
    again = api.admin.post(f"{URL}/rings/dev/deployments", {"release": "v1"}, headers=headers)
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert len(api.admin.get("/v1/deployments").json()["deployments"]) == 1


def test_a_key_answers_the_same_when_the_world_has_moved_on(api: Api) -> None:
    headers = key()
    first = api.post("/rings/dev/deployments", {"release": "v1"}, **headers)
    api.stage.look()
    assert api.post("/rings/dev/deployments", {"release": "v1"}, **headers) == first


def test_a_key_belongs_to_one_request(api: Api) -> None:
    headers = key()
    api.post("/rings/dev/deployments", {"release": "v1"}, **headers)
    for path, body in (("/rings/dev/deployments", {"release": "v2"}), ("/rings/dev/rollbacks", {"version": "v1"})):
        answer = api.admin.post(f"{URL}{path}", body, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:turnout:problem:invalid_request")
        assert "another request" in answer.json()["detail"]


def test_two_people_may_use_the_same_key(api: Api) -> None:
    headers = key()
    api.post("/rings/dev/deployments", {"release": "v1"}, **headers)
    api.stage.look()
    api.post("/rings/dev/deployments", {"release": "v2"}, role="operator", **headers)


def test_a_request_that_was_refused_may_be_sent_again_under_its_key(api: Api) -> None:
    headers = key()
    assert api.admin.post(f"{URL}/rings/staging/promotions", {"source": "dev"}, headers=headers).status_code == 409
    api.stage.deploy(ONE)
    assert api.admin.post(f"{URL}/rings/staging/promotions", {"source": "dev"}, headers=headers).status_code == 202


@pytest.mark.parametrize("text", ["short", "x" * 129])
def test_a_key_has_a_sensible_length(untouched: Api, text: str) -> None:
    answer = untouched.admin.post(f"{URL}/rings/dev/deployments", {"release": "v1"}, headers={"Idempotency-Key": text})
    assert answer.status_code == 422


def lose_answers(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is killed after a write was committed and before its answer is recorded, once."""
    opened, left = api.stage.store.transaction, [1]

    def transaction() -> AbstractContextManager[Transaction]:
        left[0] -= 1
        if left[0] == -1:
            raise KeyboardInterrupt
        return opened()

    monkeypatch.setattr(api.stage.store, "transaction", transaction)


def send_twice(api: Api, path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The answer is lost; the client sends the request again under its key."""
    headers = key()
    with monkeypatch.context() as patched:
        lose_answers(api, patched)
        with pytest.raises(KeyboardInterrupt):
            api.admin.post(f"{URL}{path}", body, headers=headers)
    return api.admin.post(f"{URL}{path}", body, headers=headers)


def test_a_deployment_whose_answer_was_lost_is_not_made_twice(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = send_twice(api, "/rings/dev/deployments", {"release": "v1"}, monkeypatch)
    assert answer.status_code == 202
    (listed,) = api.admin.get("/v1/deployments").json()["deployments"]
    assert answer.json()["id"] == listed["id"]


def test_a_rollback_of_a_canary_whose_answer_was_lost_does_not_go_on_to_the_stable_release(
    canary: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = key()
    with monkeypatch.context() as patched:
        lose_answers(canary, patched)
        with pytest.raises(KeyboardInterrupt):
            canary.admin.post(f"{URL}/rings/production/rollbacks", {}, headers=headers)
    canary.stage.look("production")
    assert canary.stage.state("dep_6") == "rolled_back"
    canary.admin.post(f"{URL}/rings/production/rollbacks", {}, headers=headers)
    canary.stage.look("production")
    assert canary.stage.pointer("production").stable == ONE.digest
    assert canary.stage.quarantine(ONE) is None


def test_requests_that_come_at_once_under_one_key_make_one_deployment(api: Api) -> None:
    headers = key()

    def send(_: int) -> int:
        return api.admin.post(f"{URL}/rings/dev/deployments", {"release": "v1"}, headers=headers).status_code

    with ThreadPoolExecutor(4) as senders:
        assert set(senders.map(send, range(4))) == {202}
    assert len(api.admin.get("/v1/deployments").json()["deployments"]) == 1


# --- dry runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/rings/dev/deployments", {"release": "v3"}),
        ("/rings/dev/rollbacks", {}),
        ("/rings/staging/promotions", {"source": "dev", "force": True}),
    ],
)
def test_a_dry_run_shows_the_steps_and_changes_nothing(untouched: Api, path: str, body: dict[str, Any]) -> None:
    before = untouched.admin.get("/v1/events?limit=1000").json()
    answer = untouched.post(path, {**body, "dry_run": True})
    assert answer["steps"]
    assert untouched.admin.get("/v1/events?limit=1000").json() == before


def test_the_dry_run_of_a_rollback_says_whether_the_release_is_warm_in_this_ring(api: Api) -> None:
    for release in (ONE, TWO):
        api.stage.deploy(release)
        api.stage.promote("dev", "staging")
    assert "flip" in api.post("/rings/staging/rollbacks", {"dry_run": True})["steps"][0]
    api.stage.runtime.exit(f"support.staging.{ONE.digest[7:19]}.0", 1)
    api.stage.look("staging", times=1)
    assert "not warm" in api.post("/rings/staging/rollbacks", {"dry_run": True})["steps"][0], "dev is another ring"


# --- releases --------------------------------------------------------------------------------------------------------


def push(api: Api, folder: Path, tag: str | None = None, role: str = "developer") -> Any:
    """Build an agent, upload its blobs and record the release, as the command line does."""
    store = MemoryArtifactStore()
    built = build(folder, store)
    client = api.clients[role]
    bundles = [bundle.digest for bundle in read_image(built.manifest).bundles]
    digests = [*(ref.digest for ref in built.components.values()), built.digest, *bundles]
    missing = client.post(f"{URL}/blobs/missing", {"digests": digests}).json()["missing"]
    for digest in missing:
        answer = client.request("PUT", f"{URL}/blobs/{digest}", content=store.blobs[digest])
        assert answer.status_code == 204, answer.text
    body = {"bundles": bundles, "tag": tag, "git_sha": "abc"}
    return client.request("PUT", f"{URL}/releases/{built.digest}", json=body)


def test_a_release_is_taken_in_and_shown_and_is_the_same_when_it_is_pushed_again(api: Api, tmp_path: Path) -> None:
    folder = write_agent(tmp_path / "agent")
    first = push(api, folder).json()
    assert first["version"] == "v4", "the next free number"
    assert (first["author"], first["git_sha"]) == ("developer-1", "abc")
    assert push(api, folder).json() == first
    assert push(api, folder, "v2.0.0").json()["tags"] == ["v2.0.0", "v4"]
    assert api.admin.get(f"{URL}/releases/{first['digest'][7:15]}").json()["digest"] == first["digest"]


def test_a_version_never_moves_to_another_release(api: Api, tmp_path: Path) -> None:
    push(api, write_agent(tmp_path / "one"), "v2.0.0")
    other = write_agent(tmp_path / "two")
    (other / "server.py").write_text("print('other')\n")
    answer = push(api, other, "v2.0.0")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:turnout:problem:conflict")
    assert answer.json()["hint"]


def test_two_releases_are_compared(api: Api, tmp_path: Path) -> None:
    push(api, write_agent(tmp_path / "one"), "one")
    other = write_agent(tmp_path / "two")
    (other / "prompts" / "system.md").write_text("You are terse.\n")
    push(api, other, "two")
    diff = api.admin.get(f"{URL}/diff?a=one&b=two").json()
    assert diff["changed"] == ["prompts"]
    assert "+You are terse." in json.dumps(diff)


def test_a_release_of_another_agent_is_refused(api: Api, tmp_path: Path) -> None:
    folder = write_agent(tmp_path / "agent", manifest=MANIFEST.replace('"support"', '"billing"'))
    answer = push(api, folder)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:turnout:problem:invalid_request")
    assert "billing" in answer.json()["detail"]


def test_a_release_whose_blobs_are_missing_is_refused(api: Api, tmp_path: Path) -> None:
    built = build(write_agent(tmp_path / "agent"))
    answer = api.admin.request("PUT", f"{URL}/releases/{built.digest}", json={})
    assert answer.status_code == 404
    assert api.admin.get(f"{URL}/releases/{built.digest}").status_code == 404


def test_an_upload_whose_bytes_do_not_have_their_digest_is_the_fault_of_who_sent_it(api: Api) -> None:
    answer = api.admin.request("PUT", f"{URL}/blobs/{UNKNOWN}", content=b"other bytes")
    assert answer.status_code == 422
    assert api.post("/blobs/missing", {"digests": [UNKNOWN]}) == {"missing": [UNKNOWN]}


@pytest.mark.parametrize("text", ["latest", "sha256:123", "sha256:" + "G" * 64, "..%2f..%2fetc"])
def test_what_is_no_digest_is_refused(untouched: Api, text: str) -> None:
    answer = untouched.admin.request("PUT", f"{URL}/blobs/{text}", content=b"x")
    assert answer.status_code in (404, 422)


# --- streams and views -----------------------------------------------------------------------------------------------


def test_a_deployment_is_followed_to_its_end(api: Api) -> None:
    name = api.stage.deploy(ONE)
    answer = api.admin.get(f"/v1/deployments/{name}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    names = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    assert names[0] == "deployment.created"
    assert names[-1] == "settled"
    settled = json.loads(answer.text.strip().splitlines()[-1].removeprefix("data: "))
    assert [item["to"] for item in settled["transitions"]] == [
        "queued",
        "building",
        "deploying",
        "validating",
        "active",
    ]


def test_a_deployment_is_settled_when_callers_are_routed_to_it(api: Api) -> None:
    name = api.stage.deploy(ONE)
    routed = iter([False, False, True])
    app = create_app(replace(api.office, serves=lambda _: next(routed)))
    answer = Caller(app, api.admin.headers).get(f"/v1/deployments/{name}/events")
    assert "event: settled" in answer.text
    assert list(routed) == []


def test_the_last_lines_of_a_ring_are_shown(api: Api, tmp_path: Path) -> None:
    log = tmp_path / "support.dev.0" / "output.log"
    log.parent.mkdir()
    log.write_text("one\ntwo\nthree\nhalf a li")
    api.stage.runtime.logs["support", "dev"] = (log,)
    answer = api.admin.get(f"{URL}/rings/dev/logs?lines=2")
    lines = [json.loads(line.removeprefix("data: "))["line"] for line in answer.text.splitlines() if "data: " in line]
    assert lines == ["two", "three"]


def test_an_agent_shows_what_is_where(untouched: Api) -> None:
    rings = {ring["ring"]: ring for ring in untouched.admin.get(URL).json()["rings"]}
    assert list(rings) == ["dev", "staging", "production"]
    production = rings["production"]
    assert (production["stable_version"], production["candidate_version"]) == ("v1", "v2")
    assert production["weight"] == 10.0
    assert production["in_progress"]["condition"]["type"] == "canary"
    assert production["url"] == "http://127.0.0.1:8080/support/production/"
    assert {replica["state"] for replica in production["replicas"]} == {"ready"}
    assert rings["staging"]["last_good_version"] == "v1"


def test_an_approval_may_come_before_the_promotion(api: Api) -> None:
    body = {"approved": True, "release": "v1", "comment": "read it"}
    view = api.post("/rings/production/approvals", body, role="approver")
    assert (view["needed"], view["approvers"], view["satisfied"]) == (1, ["approver-1"], True)
    api.stage.deploy(ONE)
    api.stage.promote("dev", "staging")
    name = api.stage.promote("staging", "production")
    assert api.stage.state(name) == "active"


def test_events_tell_everything_that_was_done(untouched: Api) -> None:
    events = untouched.admin.get("/v1/events?limit=1000").json()["events"]
    assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)
    done = {event["type"] for event in events}
    assert done >= {"deployment.created", "deployment.transitioned", "approval.given", "pointer.changed"}
    newest = untouched.admin.get("/v1/events?newest_first=true&limit=1").json()["events"]
    assert newest == events[-1:]
    assert untouched.admin.get(f"/v1/events?after={events[-1]['seq']}").json() == {"events": []}
