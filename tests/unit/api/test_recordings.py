"""Recordings over HTTP: who sees which, their documents, and what is wrong with one."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.unit.api.reports import serve
from tests.unit.api.service import ONE, TWO, URL, Api
from turnout.controller.recording import Recorder
from turnout.domain.recording_document import parse_recording
from turnout.recordings.fake import MemoryRecordings


@pytest.fixture
def documents(api: Api) -> MemoryRecordings:
    return cast(MemoryRecordings, cast(Recorder, api.office.recordings)._documents)


def keep(api: Api, task: str, **served: Any) -> Any:
    serve(api, task, method="POST", path="/chat", bytes_in=2, question=b"{}", **served)
    return api.post("/recordings", {"task": task})


def listed(api: Api, query: str = "") -> list[Any]:
    answer = api.clients["viewer"].get(f"{URL}/recordings?{query}")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["recordings"])


def test_a_recording_is_listed_and_read_as_its_digest_says(api: Api, documents: MemoryRecordings) -> None:
    kept = keep(api, "t1")
    (shown,) = listed(api)
    assert shown == kept
    assert (shown["task"], shown["version"], shown["requests"], shown["faults"], shown["problem"]) == (
        "t1",
        "v1",
        1,
        ["the body of POST /chat was cut at 2 bytes"],  # its ring keeps nothing
        None,
    )
    answer = api.clients["developer"].get(f"{URL}/recordings/{shown['document']}")
    assert answer.content == documents.read(shown["document"])
    assert answer.headers["content-type"] == "application/json"
    assert parse_recording(answer.content).task == "t1"


def test_filters_choose(api: Api) -> None:
    now = api.stage.clock.at
    keep(api, "old", at=now - 100)
    keep(api, "staged", ring="staging", at=now - 50)
    keep(api, "newer", release=TWO, at=now - 20)
    assert [item["task"] for item in listed(api)] == ["newer", "staged", "old"]
    assert [item["task"] for item in listed(api, "ring=staging")] == ["staged"]
    assert [item["task"] for item in listed(api, f"release={ONE.digest}")] == ["staged", "old"]
    assert [item["task"] for item in listed(api, "release=v2")] == ["newer"]
    assert [item["task"] for item in listed(api, "task=old")] == ["old"]
    assert [item["task"] for item in listed(api, "limit=1&skip=1")] == ["staged"]
    for query in ("ring=nowhere", "release=v9"):
        assert api.admin.get(f"{URL}/recordings?{query}").status_code == 404
    assert api.admin.get("/v1/agents/nobody/recordings").status_code == 404


def test_a_missing_or_damaged_document_is_named_and_stops_no_other(api: Api, documents: MemoryRecordings) -> None:
    kept = {
        name: keep(api, name, at=api.stage.clock.at - number)
        for number, name in enumerate(("ok", "bad", "gone", "odd"))
    }
    documents.contents[kept["bad"]["document"]] = b"something else"
    del documents.contents[kept["gone"]["document"]]
    shown = {item["task"]: item for item in listed(api)}
    assert shown["ok"]["problem"] is None
    assert "is damaged" in shown["bad"]["problem"]
    assert "is not there" in shown["gone"]["problem"]
    assert api.admin.get(f"{URL}/recordings/{kept['bad']['document']}").status_code == 500
    assert api.admin.get(f"{URL}/recordings/{kept['gone']['document']}").status_code == 404


def test_a_recording_is_read_through_its_own_agent_alone(api: Api) -> None:
    document = keep(api, "t1")["document"]
    assert api.admin.get(f"/v1/agents/nobody/recordings/{document}").status_code == 404
    assert api.admin.get(f"{URL}/recordings/sha256:nonsense").status_code == 404


def test_a_recording_is_deleted_with_its_document(api: Api, documents: MemoryRecordings) -> None:
    document = keep(api, "t1")["document"]
    path = f"{URL}/recordings/{document}"
    assert api.clients["viewer"].request("DELETE", path).status_code == 403
    assert api.clients["developer"].request("DELETE", path).status_code == 204
    assert (listed(api), documents.contents) == ([], {})
    assert api.admin.request("DELETE", path).status_code == 404
    told = [event for event in api.admin.get("/v1/events").json()["events"] if event["type"].startswith("recording.")]
    assert [event["type"] for event in told] == ["recording.kept", "recording.deleted"]
    assert told[1]["actor"] == "developer-1"


def test_what_cannot_be_kept_is_refused(api: Api) -> None:
    serve(api, "running", duration=None, status=0)
    assert api.admin.post(f"{URL}/recordings", {"task": "running"}).status_code == 409
    assert api.admin.post(f"{URL}/recordings", {"task": "unknown"}).status_code == 404
    assert api.admin.post(f"{URL}/recordings", {"task": ""}).status_code == 422
    assert api.admin.post("/v1/agents/nobody/recordings", {"task": "t"}).status_code == 404
