"""Tasks over HTTP: lists a page at a time, and from a task back to everything that answered it."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.contract.store_support import add_release
from tests.unit.api.reports import report, serve
from tests.unit.api.service import ONE, RINGS, TWO, Api
from tests.unit.domain.values import AGENT, make_digest, make_release
from tests.unit.gateway.calls import FULL_MODEL_CALL, model_call, tool_call
from turnout.api.app import create_app
from turnout.artifacts.archive import FileEntry, pack
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.artifacts.texts import read_texts
from turnout.domain.events import Event, EventType
from turnout.domain.models import Arm, Capture, ComponentRef, Record, Release, RingSettings
from turnout.ports import StoredJudgement
from turnout.services.lineage import MOST_REQUESTS


def tasks(api: Api, query: str = "") -> Any:
    answer = api.admin.get(f"/v1/tasks?{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def names(api: Api, query: str = "") -> list[str]:
    return [item["task"] for item in tasks(api, query)["tasks"]]


def lineage(api: Api, task: str) -> Any:
    answer = api.admin.get(f"/v1/tasks/{task}")
    assert answer.status_code == 200, answer.text
    return answer.json()


# --- lists -----------------------------------------------------------------------------------------------------------


def test_requests_are_listed_newest_first_with_release_and_outcome(api: Api) -> None:
    serve(api, "t1")
    serve(api, "t2", at=api.stage.clock.at + 5, release=TWO, duration=None, status=0)
    report(api, "t1", success=False, cost=0.25)

    second, first = tasks(api)["tasks"]

    assert (first["task"], first["version"], first["status"], first["duration"]) == ("t1", "v1", 200, 0.5)
    assert first["outcome"] == {"success": False, "intervention": None, "cost": 0.25}
    assert (second["task"], second["version"], second["duration"]) == ("t2", "v2", None)
    assert second["outcome"] == {"success": None, "intervention": None, "cost": None}


def test_filters_choose(api: Api) -> None:
    now = api.stage.clock.at
    serve(api, "old", at=now - 10_000)
    serve(api, "broken", status=502, at=now - 50)
    serve(api, "staged", ring="staging", at=now - 40)
    serve(api, "tried", release=TWO, arm=Arm.CANDIDATE, probability=0.1, rollout="dep_9", at=now - 30)
    serve(api, "compared", arm=Arm.STABLE, probability=0.1, rollout="dep_9", at=now - 20)

    assert names(api, "since=2h") == ["compared", "tried", "staged", "broken"]
    assert names(api, "until=2h") == ["old"]
    assert names(api, "since=1970-01-12T13:46:05Z&until=1970-01-12T13:46:15%2B00:00") == ["tried"]
    assert names(api, f"agent={AGENT}&ring=staging") == ["staged"]
    assert names(api, f"agent={AGENT}&release=v2") == names(api, f"release={TWO.digest}") == ["tried"]
    assert names(api, "failed=true") == ["broken"]
    assert "broken" not in names(api, "failed=false")
    report(api, "staged", success=False)
    report(api, "staged", success=True)
    report(api, "tried", success=True)
    report(api, "tried", success=False)
    assert names(api, "failed=true") == ["staged", "broken"], "what was said first counts"
    assert names(api, "failed=false") == ["compared", "tried", "old"]
    assert names(api, "arm=candidate") == ["tried"]
    assert names(api, "rollout=dep_9") == ["compared", "tried"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_pages_give_every_request_once_however_many_came_at_the_same_time(api: Api, limit: int) -> None:
    now = api.stage.clock.at
    for moment, count in ((now, 5), (now - 1, 1), (now - 2, 6)):
        serve(api, *(f"{moment:.0f}-{number}" for number in range(count)), at=moment)
    found: list[str] = []
    cursor = ""
    while True:
        page = tasks(api, f"limit={limit}{cursor}")
        found += [item["request"] for item in page["tasks"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"

    assert len(found) == len(set(found)) == 12
    assert found == [item["request"] for item in tasks(api, "limit=100")["tasks"]]


@pytest.mark.parametrize(
    ("query", "status", "what"),
    [
        ("since=yesterday", 422, "is no time"),
        ("since=-2h", 422, "is no time"),
        ("since=99999-01-01", 422, "is no time"),
        ("cursor=abc", 422, "cursor"),
        ("cursor=nan~1~x", 422, "cursor"),
        ("cursor=1.0~-1~x", 422, "cursor"),
        ("limit=0", 422, "limit"),
        ("limit=1001", 422, "limit"),
        ("arm=left", 422, "arm"),
        ("agent=nobody", 404, "nobody"),
        (f"agent={AGENT}&ring=moon", 404, "moon"),
        (f"agent={AGENT}&release=v9", 404, "v9"),
        ("release=v1", 422, "one agent"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_why(untouched: Api, query: str, status: int, what: str) -> None:
    answer = untouched.admin.get(f"/v1/tasks?{query}")

    assert answer.status_code == status
    assert what in answer.text


# --- lineage ---------------------------------------------------------------------------------------------------------

PIN = {"provider": "acme", "name": "large-2026-01-01", "fallbacks": [], "parameters": {"temperature": 0}}


@pytest.fixture
def full(api: Api, tmp_path: Path) -> tuple[Api, Release]:
    """An API that knows one more release, with prompts, a model pin and an environment."""
    store = MemoryArtifactStore()
    (tmp_path / "system.md").write_text("Be kind.\n")
    (tmp_path / "logo.bin").write_bytes(b"\x00\x01")
    packed = b"".join(pack([FileEntry(f"prompts/{name}", tmp_path / name) for name in ("system.md", "logo.bin")]))
    prompts = ComponentRef(store.write([packed]), "application/x-tar", len(packed))
    pin = json.dumps(PIN).encode()
    model = ComponentRef(store.write([pin]), "application/json", len(pin))
    rings = (RingSettings("dev", env={"FEATURE_CITE": "true", "LOG": "debug"}), *RINGS[1:])
    release = make_release("v4", rings=rings, env={"LOG": "info", "TZ": "UTC"}, success="report")
    release = replace(release, components={**release.components, "prompts": prompts, "model": model}, git_sha="abc")
    add_release(api.stage.store, release)
    office = replace(api.office, artifacts=store, read_texts=partial(read_texts, store))
    app = create_app(office)
    clients = {name: replace(item, app=app) for name, item in api.clients.items()}
    return replace(api, office=office, clients=clients), release


def test_a_task_leads_to_release_model_prompts_and_config(full: tuple[Api, Release]) -> None:
    api, release = full
    serve(api, "t1", release=release)

    (found,) = lineage(api, "t1")["releases"]

    assert found["release"]["digest"] == release.digest
    assert found["release"]["git_sha"] == "abc"
    assert set(found["release"]["components"]) == {"code", "prompts", "model"}
    assert found["model"] == PIN
    texts = {item["path"]: (item["text"], item["note"]) for item in found["prompts"]}
    assert texts == {"prompts/system.md": ("Be kind.\n", ""), "prompts/logo.bin": (None, "not a text")}
    assert found["env"] == {"FEATURE_CITE": "true", "LOG": "debug", "TZ": "UTC"}
    assert (found["agent"], found["ring"], found["success"], found["problems"]) == (AGENT, "dev", "report", [])


def test_what_was_collected_meanwhile_is_named_and_hides_nothing_else(api: Api) -> None:
    lost = ComponentRef(make_digest("lost"), "application/x-tar", 3)
    release = make_release("v5", rings=RINGS)
    release = replace(release, components={**release.components, "prompts": lost, "model": lost})
    add_release(api.stage.store, release)
    app = create_app(replace(api.office, read_texts=partial(read_texts, MemoryArtifactStore())))
    api.clients["admin"] = replace(api.admin, app=app)
    serve(api, "t1", release=release)

    (found,) = lineage(api, "t1")["releases"]

    assert (found["model"], found["prompts"]) == (None, [])
    assert ["model" in item or "prompts" in item for item in found["problems"]] == [True, True]


def test_a_request_leads_to_its_task_and_all_requests_of_it(api: Api) -> None:
    serve(api, "a", task="t1")
    serve(
        api,
        "b",
        task="t1",
        at=api.stage.clock.at + 1,
        question=b"hi",
        bytes_in=2,
        answer="grüß".encode()[:3],
        bytes_out=9,
    )

    for name in ("t1", "req-a", "req-b"):
        found = lineage(api, name)
        assert (found["task"], found["more"]) == ("t1", False)
        assert [item["request"] for item in found["requests"]] == ["req-a", "req-b"]
    first, second = found["requests"]
    assert (first["question"], first["answer"]) == (None, None)
    assert second["question"] == {"text": "hi", "base64": None, "bytes": 2, "whole": True}
    assert second["answer"] == {"text": "gr", "base64": None, "bytes": 3, "whole": False}


def test_a_payload_that_is_no_text_is_shown_in_base64(api: Api) -> None:
    serve(api, "t1", answer=b"\xff\xfe", bytes_out=2)

    (shown,) = lineage(api, "t1")["requests"]

    assert shown["answer"] == {
        "text": None,
        "base64": base64.b64encode(b"\xff\xfe").decode(),
        "bytes": 2,
        "whole": True,
    }


def test_a_long_conversation_shows_its_newest_requests_and_says_so(api: Api) -> None:
    now = api.stage.clock.at
    for number in range(MOST_REQUESTS + 5):
        serve(api, str(number), task="t1", at=now + number)

    found = lineage(api, "t1")

    assert found["more"] is True
    assert [item["request"] for item in found["requests"]] == [f"req-{n}" for n in range(5, MOST_REQUESTS + 5)]


def test_approvals_and_overrides_that_let_the_release_in_are_shown_and_later_ones_are_not(api: Api) -> None:
    api.stage.deploy(ONE)
    api.stage.promote("dev", "staging")
    deployment = api.stage.promote("staging", "production", override="the fix cannot wait", reason="incident 7")
    api.stage.approve("production")
    api.stage.look("production")
    serve(api, "t1", ring="production", at=api.stage.clock.at)
    api.stage.clock.at += 5
    api.post("/rings/production/approvals", {"release": "v1", "approved": False, "comment": "too late"})
    with api.stage.store.transaction() as transaction:
        data = {"overridden": ["order of rings"], "reason": "the fix cannot wait"}
        event = Event(EventType.POLICY_OVERRIDDEN, 1.0, "ann", AGENT, "production", deployment, data)
        transaction.emit(event)

    admission = lineage(api, "t1")["releases"][0]["admission"]

    assert (admission["deployment"], admission["kind"], admission["source_ring"]) == (deployment, "promote", "staging")
    assert (admission["actor"], admission["reason"]) == ("ann", "incident 7")
    assert [(item["approver"], item["approved"]) for item in admission["approvals"]] == [("bob", True)]
    (override,) = admission["overrides"]
    assert (override["actor"], override["overridden"]) == ("ann", ["order of rings"])
    assert override["reason"] == "the fix cannot wait"


def test_a_task_of_a_rollout_shows_how_it_stood_then_and_stands_now(canary: Api) -> None:
    stage = canary.stage
    rollout = stage.deployment("dep_6")
    now = stage.clock.at
    serve(canary, "t1", release=TWO, ring="production", at=now, arm=Arm.CANDIDATE, probability=0.1, rollout=rollout.id)
    verdict: dict[str, object] = {
        "kind": "fail",
        "hold_at": 10.0,
        "abort_at": 20.0,
        "history": [
            {"at": now - 60, "against": {"success": 2.0, "cost": 1.0}},
            {"at": now - 1, "against": {"success": 21.0, "cost": 1.0}},
            {"at": now + 60, "against": {"success": 50.0, "cost": 1.0}},
        ],
    }
    with stage.store.transaction() as transaction:
        transaction.save_judgement(rollout.id, StoredJudgement(now + 60, 7, verdict, {}, "fail"))
        transaction.emit(
            Event(EventType.ROLLOUT_JUDGED, now + 60, "judge", AGENT, "production", rollout.id, {"kind": "fail"})
        )

    (shown,) = lineage(canary, "t1")["verdicts"]

    assert (shown["rollout"], shown["step"], shown["weight"]) == (rollout.id, 1, 10.0)
    assert (shown["kind"], shown["against"]) == ("hold", {"success": 21.0, "cost": 1.0})
    assert (shown["latest"], shown["decided"]) == ("fail", "fail")
    assert [event["type"] for event in shown["events"]][-1] == "rollout.judged"


@pytest.mark.parametrize(("failure", "kind"), [(38.9, "fail"), (38.0, "hold"), (18.0, "inconclusive")])
def test_how_it_stood_is_said_as_the_judge_says_it_by_all_metrics_together(
    canary: Api, failure: float, kind: str
) -> None:
    """No metric takes a release back, nor holds it, alone."""
    now, rollout = canary.stage.clock.at, "dep_6"
    serve(canary, "t1", release=TWO, ring="production", at=now, arm=Arm.CANDIDATE, probability=0.1, rollout=rollout)
    against = {"failure": failure, "intervention": 1.2}
    verdict: dict[str, object] = {
        "kind": kind,
        "hold_at": 10.0,
        "abort_at": 20.0,
        "history": [{"at": now - 1, "against": against}],
    }
    with canary.stage.store.transaction() as transaction:
        transaction.save_judgement(rollout, StoredJudgement(now, 7, verdict, {}))

    (shown,) = lineage(canary, "t1")["verdicts"]

    assert (shown["kind"], shown["latest"]) == (kind, kind)


def test_a_task_of_a_rollout_that_nobody_has_judged_yet(canary: Api) -> None:
    serve(canary, "t1", release=TWO, ring="production", arm=Arm.CANDIDATE, probability=0.1, rollout="dep_99")

    (shown,) = lineage(canary, "t1")["verdicts"]

    assert (shown["kind"], shown["against"], shown["latest"], shown["decided"]) == (None, {}, None, None)


def test_a_task_that_reached_no_release_shows_its_requests(api: Api) -> None:
    serve(api, "t1", release=replace(ONE, digest=make_digest("none")), status=503)

    found = lineage(api, "t1")

    assert [item["status"] for item in found["requests"]] == [503]
    assert found["releases"] == []


def test_a_report_of_a_task_that_was_never_seen_can_be_looked_at(api: Api) -> None:
    report(api, "t1", success=True)

    found = lineage(api, "t1")

    assert found["requests"] == []
    assert [item["state"] for item in found["reports"]] == ["waiting"]


def test_a_task_that_nobody_knows_is_not_found_and_told_where_ids_are(untouched: Api) -> None:
    answer = untouched.admin.get("/v1/tasks/none")

    assert answer.status_code == 404
    assert "x-turnout-task" in answer.json()["hint"]


# --- calls -----------------------------------------------------------------------------------------------------------


def test_a_lineage_shows_the_calls_that_a_task_made_and_what_they_cost(api: Api) -> None:
    serve(api, "task-1")
    with api.stage.store.transaction() as transaction:
        models = [replace(call, ring="dev") for call in (FULL_MODEL_CALL, model_call("b", at=1_001.0))]
        transaction.add_calls([*models, tool_call("t", result="{}", ring="dev")], "c", "1:1")
    view = lineage(api, "task-1")
    assert view["outcome"] == {"success": None, "intervention": None, "cost": 0.000123456}
    assert view["metered"] == {
        "calls": 2,
        "tokens_in": 12,
        "tokens_out": 40,
        "cost": 0.000123456,
        "estimated": True,
    }
    first, second = view["model_calls"]
    assert (first["ended"], first["route"], first["cost"], first["estimated"]) == (
        "cut",
        "openai-us",
        0.000123456,
        True,
    )
    assert [attempt["error"] for attempt in first["attempts"]] == ["overloaded", ""]
    assert (second["cost"], second["prices"], second["answered_by"]) == (None, None, None)
    (tool,) = view["tool_calls"]
    assert (tool["tool"], tool["result"], tool["arguments"]) == ("search", "{}", None)
    assert view["more_calls"] is False


@pytest.mark.parametrize(("captured", "shown"), [(0, None), (4, "abcd"), (100, "abcdefgh")])
def test_what_a_ring_keeps_for_recordings_alone_is_not_shown(api: Api, captured: int, shown: str | None) -> None:
    rings = (RingSettings("dev", capture=Capture(captured), record=Record()),)
    release = make_release("v9", rings=rings)
    add_release(api.stage.store, release)
    serve(api, "task-1", release=release, question=b"abcdefgh", bytes_in=8)
    here = {"agent": AGENT, "ring": "dev", "release": release.digest}
    with api.stage.store.transaction() as transaction:
        calls = (tool_call("t", result="abcdefgh", **here), model_call("m", answer="abcdefgh", **here))
        transaction.add_calls(calls, "c", "1:1")
    view = lineage(api, "task-1")
    question = view["requests"][0]["question"]
    assert (question and question["text"], view["tool_calls"][0]["result"]) == (shown, shown)
    assert question is None or question["whole"] is (captured == 100)
    assert "answer" not in view["model_calls"][0]


def test_a_reported_cost_is_shown_instead_of_the_metered_one(api: Api) -> None:
    serve(api, "task-1")
    report(api, "task-1", cost=3.0)
    with api.stage.store.transaction() as transaction:
        transaction.add_calls([FULL_MODEL_CALL], "c", "1:1")
    view = lineage(api, "task-1")
    assert (view["outcome"]["cost"], view["metered"]["cost"]) == (3.0, 0.000123456)


def test_a_task_that_only_made_calls_is_known(api: Api) -> None:
    with api.stage.store.transaction() as transaction:
        transaction.add_calls([model_call("a")], "c", "1:1")
    assert lineage(api, "task-1")["requests"] == []
