"""The encodings of OTLP/HTTP, and bodies that are none, or too much."""

from __future__ import annotations

import contextlib
import gzip
import json

import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

from tests.unit.otlp.messages import evaluation, log_message, logs
from turnout.domain.errors import InvalidRequest
from turnout.otlp import wire
from turnout.otlp.evaluations import read_evaluations
from turnout.otlp.events import log_events, log_events_of
from turnout.otlp.wire import (
    Encoding,
    choose_encoding,
    parse_json,
    parse_protobuf,
    unpack,
    write_error,
    write_message,
)

REQUEST = logs(evaluation(turnout__task="t1"))
MESSAGE = log_message(REQUEST)


def test_both_encodings_are_read_plain_and_packed() -> None:
    protobuf, text = MESSAGE.SerializeToString(), json.dumps(REQUEST).encode()

    assert parse_protobuf(unpack(protobuf, ""), ExportLogsServiceRequest()) == MESSAGE
    assert parse_protobuf(unpack(gzip.compress(protobuf), "gzip"), ExportLogsServiceRequest()) == MESSAGE
    assert parse_json(unpack(text, "identity")) == REQUEST
    assert parse_json(unpack(gzip.compress(text), "GZIP")) == REQUEST


def test_a_body_of_several_gzip_members_is_read_whole() -> None:
    text = json.dumps(REQUEST).encode()
    packed = b"".join(gzip.compress(part) for part in (text[:9], b"", text[9:]))

    assert unpack(packed, "gzip") == text


def test_content_types_name_encodings() -> None:
    assert choose_encoding("Application/JSON; charset=utf-8") is Encoding.JSON
    assert choose_encoding("application/x-protobuf") is Encoding.PROTOBUF
    assert choose_encoding("application/xml") is None
    assert choose_encoding("") is None


@pytest.mark.parametrize("content", [b"{", b"[]", b"null", b"\xff", b"[" * 5_000 + b"]" * 5_000, b""])
def test_what_is_no_document_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidRequest, match="no JSON"):
        parse_json(content)


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no ExportLogsServiceRequest"):
        parse_protobuf(b"\xff\xff", ExportLogsServiceRequest())


@pytest.mark.parametrize(
    ("content", "compression", "why"),
    [
        (b"plain", "gzip", "no gzip"),
        (gzip.compress(b"{}" * 999)[:-9], "gzip", "cut off"),
        (b"{}", "br", "content encoding"),
        (bytes(wire.LARGEST + 1), "", "more than"),
        (gzip.compress(bytes(wire.LARGEST * 4)), "gzip", "more than"),
        (gzip.compress(bytes(wire.LARGEST)) + gzip.compress(b"{}"), "gzip", "more than"),
        (gzip.compress(b"{}") + gzip.compress(b"{}" * 999)[:-9], "gzip", "cut off"),
        (gzip.compress(b"{}") + b"more", "gzip", "no gzip"),
        (gzip.compress(b"") * 100_000, "gzip", "members"),
    ],
    ids=[
        "not packed",
        "cut off",
        "packed in another way",
        "too large",
        "too large when unpacked",
        "too large in two members",
        "cut off in the second member",
        "with something behind it",
        "in more members than anybody sends",
    ],
)
def test_what_cannot_be_unpacked_is_refused_with_why(content: bytes, compression: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        unpack(content, compression)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_body_breaks_the_reader(content: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert len(unpack(content, "gzip")) <= wire.LARGEST
    with contextlib.suppress(InvalidRequest):
        events = log_events(parse_protobuf(content, ExportLogsServiceRequest()))
        assert read_evaluations(events).outcomes == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "resourceLogs",
                    "scopeLogs",
                    "logRecords",
                    "attributes",
                    "key",
                    "value",
                    "stringValue",
                    "intValue",
                    "kvlistValue",
                    "arrayValue",
                    "values",
                    "timeUnixNano",
                    "traceId",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(_JSON)
def test_no_document_breaks_the_reader(document: object) -> None:
    with contextlib.suppress(InvalidRequest):
        found = parse_json(json.dumps(document).encode())
        assert read_evaluations(log_events_of(found)).outcomes == []


def test_answers_come_in_the_encoding_of_the_request() -> None:
    answer = ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records = 2

    assert json.loads(write_message(answer, Encoding.JSON)) == {"partialSuccess": {"rejectedLogRecords": "2"}}
    assert ExportLogsServiceResponse.FromString(write_message(answer, Encoding.PROTOBUF)) == answer


def test_errors_are_a_status_of_google_rpc() -> None:
    assert json.loads(write_error(400, "no", Encoding.JSON)) == {"code": 3, "message": "no"}
    assert Status.FromString(write_error(429, "slower", Encoding.PROTOBUF)) == Status(code=8, message="slower")
    assert Status.FromString(write_error(507, "full", Encoding.PROTOBUF)).code == 14
