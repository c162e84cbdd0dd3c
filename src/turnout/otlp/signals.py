"""The two signals that evaluations come in: the body of a request → reports, and the answer to it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from turnout.otlp.evaluations import Read, read_evaluations
from turnout.otlp.events import EVENT, log_events, log_events_of, span_events, span_events_of
from turnout.otlp.wire import Encoding, parse_json, parse_protobuf, write_message

_MOST_REASONS = 5


class Signal(StrEnum):
    """What a request carries; the value is the last part of its path."""

    LOGS = "logs"
    TRACES = "traces"


def read_request(signal: Signal, content: bytes, encoding: Encoding) -> Read:
    """What an unpacked body says of tasks. Raises `InvalidRequest` for what is no request of the signal."""
    if encoding is Encoding.JSON:
        document = parse_json(content)
        events = log_events_of(document) if signal is Signal.LOGS else span_events_of(document)
    elif signal is Signal.LOGS:
        events = log_events(parse_protobuf(content, ExportLogsServiceRequest()))
    else:
        events = span_events(parse_protobuf(content, ExportTraceServiceRequest()))
    # Most telemetry has no evaluation in it, and need not be walked through.
    return read_evaluations(events if EVENT.encode() in content else ())


def write_taken(signal: Signal, rejected: Sequence[str], encoding: Encoding) -> bytes:
    """The answer to a request of which all was taken but for what was `rejected`, with the reasons."""
    return write_message(_build_taken(signal, rejected), encoding)


def _build_taken(signal: Signal, rejected: Sequence[str]) -> Message:
    # Each reason once, and not all of a flood.
    reasons = " | ".join(list(dict.fromkeys(rejected))[:_MOST_REASONS])
    if signal is Signal.LOGS:
        if not rejected:
            return ExportLogsServiceResponse()
        logs = ExportLogsPartialSuccess(rejected_log_records=len(rejected), error_message=reasons)
        return ExportLogsServiceResponse(partial_success=logs)
    if not rejected:
        return ExportTraceServiceResponse()
    # No span is dropped; what is counted are events of spans, the nearest that the protocol has.
    spans = ExportTracePartialSuccess(rejected_spans=len(rejected), error_message=reasons)
    return ExportTraceServiceResponse(partial_success=spans)
