"""The OTLP receiver: evaluation events of either encoding become reports, and answers are those of the protocol."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tests.unit.api.reports import known, serve
from tests.unit.api.service import Api
from tests.unit.otlp.messages import attributes, evaluation, log_message, logs, span_event, trace_message, traces
from turnout.api.app import create_app
from turnout.api.rates import ReportRate

PROTOBUF = "application/x-protobuf"
FAILED = evaluation(turnout__task="t1", gen_ai__evaluation__score__label="fail", gen_ai__evaluation__name="Tone")


def send(
    api: Api, what: str, content: bytes, content_type: str, role: str = "reporter", **headers: str
) -> httpx.Response:
    given = {"content-type": content_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return api.clients[role].request("POST", f"/v1/otlp/v1/{what}", content=content, headers=given)


def test_a_log_record_in_protobuf_is_a_report(api: Api) -> None:
    serve(api, "t1")

    answer = send(api, "logs", log_message(logs(FAILED)).SerializeToString(), PROTOBUF)

    assert (answer.status_code, answer.headers["content-type"]) == (200, PROTOBUF)
    assert ExportLogsServiceResponse.FromString(answer.content) == ExportLogsServiceResponse()
    assert known(api, "t1")["success"] is False
    (shown,) = api.admin.get("/v1/tasks/t1").json()["reports"]
    assert (shown["source"], shown["reporter"], shown["detail"]) == ("evaluation", "reporter-1", "Tone: fail")


def test_an_event_of_a_span_in_packed_json_is_a_report(api: Api) -> None:
    serve(api, "c1")
    request = traces(span_event(turnout__intervention=True), span=attributes(session__id="c1"))

    answer = send(
        api, "traces", gzip.compress(json.dumps(request).encode()), "application/json", content_encoding="gzip"
    )

    assert (answer.status_code, answer.json()) == (200, {})
    assert known(api, "c1")["intervention"] is True


def test_what_cannot_be_used_is_counted_and_named_and_the_rest_is_taken(api: Api) -> None:
    serve(api, "t1")
    nameless = evaluation(gen_ai__evaluation__score__label="pass")

    answer = send(api, "logs", json.dumps(logs(FAILED, nameless, nameless)).encode(), "application/json")

    partial = answer.json()["partialSuccess"]
    assert partial["rejectedLogRecords"] == "2"
    assert "turnout.task" in partial["errorMessage"]
    assert known(api, "t1")["success"] is False


def test_half_a_surrogate_pair_and_a_score_that_is_none_are_partial_successes(api: Api) -> None:
    serve(api, "t1")
    nameless = evaluation(turnout__task="\ud800", gen_ai__evaluation__score__label="pass")
    huge = evaluation(turnout__task="t2", gen_ai__evaluation__score__value=10**400)
    explained = {**FAILED, "attributes": [*FAILED["attributes"], *attributes(gen_ai__evaluation__explanation="\ud800")]}

    answer = send(api, "logs", json.dumps(logs(nameless, huge, explained)).encode(), "application/json")

    assert answer.status_code == 200, answer.text
    assert answer.json()["partialSuccess"]["rejectedLogRecords"] == "2"
    assert "t2" in answer.json()["partialSuccess"]["errorMessage"]
    assert known(api, "t1")["success"] is False


def test_rejected_events_of_spans_are_told_too(api: Api) -> None:
    message = trace_message(traces(span_event(turnout__task="t1")))

    answer = send(api, "traces", message.SerializeToString(), PROTOBUF)

    found = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert found.rejected_spans == 1
    assert "says nothing" in found.error_message


def test_other_telemetry_is_taken_and_passed_over(api: Api) -> None:
    request: dict[str, Any] = traces(span_event("exception"), resource=attributes(service__name="x"))

    assert send(api, "traces", json.dumps(request).encode(), "application/json").json() == {}
    assert send(api, "logs", b"", PROTOBUF).status_code == 200


def test_what_cannot_be_read_must_not_be_sent_again(api: Api) -> None:
    answer = send(api, "logs", b"\xff\xff", PROTOBUF)
    assert (answer.status_code, answer.headers["content-type"]) == (400, PROTOBUF)
    assert Status.FromString(answer.content).code == 3

    answer = send(api, "traces", b"{", "application/json")
    assert answer.status_code == 400
    assert "no JSON" in answer.json()["message"]

    answer = send(api, "logs", b"{}", "text/plain")
    assert answer.status_code == 400
    assert "application/x-protobuf" in answer.json()["message"]


def test_a_flood_is_asked_to_come_later(api: Api) -> None:
    app = create_app(api.office)
    app.state.rate = ReportRate(rate=0.5, burst=1.0, clock=lambda: 0.0)
    api.clients["reporter"] = replace(api.clients["reporter"], app=app)
    content = log_message(logs(FAILED)).SerializeToString()
    assert len(content) < 256
    assert send(api, "logs", content, PROTOBUF).status_code == 200

    answer = send(api, "logs", content, PROTOBUF)

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert Status.FromString(answer.content).code == 8


def test_what_is_large_costs_its_sender_more_however_little_it_says(api: Api) -> None:
    app = create_app(api.office)
    app.state.rate = ReportRate(rate=100.0, burst=300.0, clock=lambda: 0.0)
    api.clients["reporter"] = replace(api.clients["reporter"], app=app)
    content = gzip.compress(json.dumps({"padding": "x" * 60_000}).encode())

    answers = [send(api, "logs", content, "application/json", content_encoding="gzip").status_code for _ in range(2)]

    assert answers == [200, 429]


def test_many_events_are_taken_in_parts(api: Api) -> None:
    records = [
        evaluation(turnout__task=f"t{number}", gen_ai__evaluation__score__value=number % 2) for number in range(2_500)
    ]

    answer = send(api, "logs", log_message(logs(*records)).SerializeToString(), PROTOBUF)

    assert answer.status_code == 200
    with api.stage.store.snapshot() as snapshot:
        assert snapshot.unknown_reports() == 2_500


def test_more_events_than_a_bucket_holds_are_taken_and_paid_for_later(api: Api) -> None:
    now = [0.0]
    app = create_app(api.office)
    app.state.rate = ReportRate(rate=1.0, burst=50.0, clock=lambda: now[0])
    api.clients["reporter"] = replace(api.clients["reporter"], app=app)
    records = [evaluation(turnout__intervention=True) for _ in range(100)]
    content = log_message(logs(*records, resource=attributes(turnout__task="t1"))).SerializeToString()
    size = 1 + len(content) // 256
    assert size < 50 < len(records)

    assert send(api, "logs", content, PROTOBUF).status_code == 200
    refused = send(api, "logs", content, PROTOBUF)

    assert refused.status_code == 429
    assert refused.headers["retry-after"] == str(50 + size)
    now[0] = 50.0 + size
    assert send(api, "logs", content, PROTOBUF).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_without_a_token_nothing_is_read(api: Api, headers: dict[str, str]) -> None:
    answer = api.anonymous.request("POST", "/v1/otlp/v1/logs", content=b"\xff", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
