"""OTLP requests for tests, as dictionaries of the JSON encoding and as messages of the protobuf one."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

EVENT = "gen_ai.evaluation.result"


def attributes(**values: object) -> list[dict[str, Any]]:
    """Attributes; two underscores in a name stand for a dot."""
    return [{"key": name.replace("__", "."), "value": _value(value)} for name, value in values.items()]


def logs(*records: dict[str, Any], resource: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A request with log records, in the JSON encoding."""
    return {
        "resourceLogs": [
            {"resource": {"attributes": resource or []}, "scopeLogs": [{"scope": {}, "logRecords": list(records)}]}
        ]
    }


def evaluation(event: str = EVENT, **values: object) -> dict[str, Any]:
    """A log record with an evaluation."""
    ids = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174"}
    return {"timeUnixNano": "1544712660300000000", "eventName": event, "attributes": attributes(**values), **ids}


def traces(
    *events: dict[str, Any], span: list[dict[str, Any]] | None = None, resource: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """A request with one span that has some events, in the JSON encoding."""
    record = {"name": "chat", "kind": 1, "attributes": span or [], "events": list(events)}
    scope = {"scope": {"name": "evaluator"}, "spans": [record]}
    return {"resourceSpans": [{"resource": {"attributes": resource or []}, "scopeSpans": [scope]}]}


def span_event(name: str = EVENT, **values: object) -> dict[str, Any]:
    """An event of a span."""
    return {"timeUnixNano": "1544712660300000000", "name": name, "attributes": attributes(**values)}


def log_message(request: dict[str, Any]) -> ExportLogsServiceRequest:
    """The same as a message."""
    return json_format.ParseDict(request, ExportLogsServiceRequest())


def trace_message(request: dict[str, Any]) -> ExportTraceServiceRequest:
    """The same as a message."""
    return json_format.ParseDict(request, ExportTraceServiceRequest())


def _value(value: object) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": value}
