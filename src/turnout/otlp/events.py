"""The evaluation events in a request, each as the attributes of the event itself, then of its span, then of its resource.

Messages and documents are walked on their own: turning a JSON document into a message takes seconds for a few megabytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from turnout.domain.errors import InvalidRequest

EVENT = "gen_ai.evaluation.result"
EVENT_NAME = "event.name"  # where older senders name the event of a log record

Value = str | bool | int | float
Attributes = Mapping[str, Value]
Document = Mapping[str, Any]


def log_events(request: ExportLogsServiceRequest) -> Iterator[tuple[Attributes, ...]]:
    """The evaluations among the log records of a message."""
    for resource_logs in request.resource_logs:
        resource = _attributes(resource_logs.resource.attributes)
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                attributes = _attributes(record.attributes)
                if EVENT in (record.event_name, attributes.get(EVENT_NAME)):
                    yield attributes, resource


def span_events(request: ExportTraceServiceRequest) -> Iterator[tuple[Attributes, ...]]:
    """The evaluations among the events of the spans of a message."""
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                found = [event for event in span.events if event.name == EVENT]
                around = _attributes(span.attributes) if found else {}
                for event in found:
                    yield _attributes(event.attributes), around, resource


def log_events_of(document: Document) -> Iterator[tuple[Attributes, ...]]:
    """The same of a JSON document. Raises `InvalidRequest` where it has another shape."""
    for resource_logs in _each(document, "resourceLogs"):
        resource = _read_attributes(_one(resource_logs, "resource"))
        for scope_logs in _each(resource_logs, "scopeLogs"):
            for record in _each(scope_logs, "logRecords"):
                attributes = _read_attributes(record)
                if EVENT in (record.get("eventName"), attributes.get(EVENT_NAME)):
                    yield attributes, resource


def span_events_of(document: Document) -> Iterator[tuple[Attributes, ...]]:
    """The same of a JSON document. Raises `InvalidRequest` where it has another shape."""
    for resource_spans in _each(document, "resourceSpans"):
        resource = _read_attributes(_one(resource_spans, "resource"))
        for scope_spans in _each(resource_spans, "scopeSpans"):
            for span in _each(scope_spans, "spans"):
                found = [event for event in _each(span, "events") if event.get("name") == EVENT]
                around = _read_attributes(span) if found else {}
                for event in found:
                    yield _read_attributes(event), around, resource


# --- messages ---------------------------------------------------------------------------------------------------------


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Value]:
    """Those that hold one plain value."""
    found: dict[str, Value] = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        if kind == "string_value":
            found[pair.key] = pair.value.string_value
        elif kind == "bool_value":
            found[pair.key] = pair.value.bool_value
        elif kind == "int_value":
            found[pair.key] = pair.value.int_value
        elif kind == "double_value":
            found[pair.key] = pair.value.double_value
    return found


# --- documents --------------------------------------------------------------------------------------------------------


def _each(place: Document, name: str) -> Iterator[Document]:
    items = place.get(name)
    if items is None:
        return
    if not isinstance(items, list):
        raise InvalidRequest(f"{name} is no array")
    for item in items:
        if not isinstance(item, dict):
            raise InvalidRequest(f"{name} holds something that is no object")
        yield item


def _one(place: Document, name: str) -> Document:
    item = place.get(name)
    if item is None:
        return {}
    if not isinstance(item, dict):
        raise InvalidRequest(f"{name} is no object")
    return item


def _read_attributes(place: Document) -> dict[str, Value]:
    """Those that hold one plain value."""
    found: dict[str, Value] = {}
    for pair in _each(place, "attributes"):
        key = pair.get("key")
        value = _read_value(_one(pair, "value"))
        if isinstance(key, str) and value is not None:
            found[key] = value
    return found


def _read_value(value: Document) -> Value | None:
    """64-bit integers and numbers that are none are texts in this encoding."""
    match value:
        case {"stringValue": str(text)}:
            return text
        case {"boolValue": bool(truth)}:
            return truth
        case {"intValue": str() | int() as number}:
            return _parse(int, number)
        case {"doubleValue": str() | int() | float() as number}:
            return _parse(float, number)
    return None


def _parse(kind: type[int] | type[float], number: str | float) -> float | None:
    try:
        return kind(number)
    except (ValueError, OverflowError):
        return None
