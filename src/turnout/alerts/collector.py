"""A collector of traces over OTLP/HTTP. The only home of the OpenTelemetry SDK."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event as SpanEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from turnout import __version__
from turnout.alerts.attempts import Attempt
from turnout.alerts.http import HttpSender, shown_url
from turnout.alerts.progress import Listed
from turnout.alerts.schema import TRACES
from turnout.alerts.settings import TracesTarget
from turnout.alerts.traces import Span, ends_trace, plan_trace
from turnout.domain.events import Event
from turnout.ports import Clock, Store, StoredEvent

_MOST_EVENTS = 10_000


class Collector:
    """Implements `deliver.Target`: a trace for each deployment that became active, failed, or was taken back."""

    def __init__(self, target: TracesTarget, store: Store, instance: str, clock: Clock) -> None:
        self.name = TRACES
        self._target = target
        self._store = store
        self._instance = instance
        self._clock = clock
        self._sender = HttpSender()

    @property
    def listed(self) -> Listed:
        """See `deliver.Target`."""
        return Listed("traces", shown_url(self._target.endpoint), ("deployment.transitioned",))

    def wants(self, event: Event) -> bool:
        """See `deliver.Target`."""
        return event.deployment is not None and ends_trace(event)

    def send(self, stored: StoredEvent) -> Attempt:
        """See `deliver.Target`. What happened after the event is not in its trace, whenever it is sent."""
        with self._store.snapshot() as snapshot:
            deployment = snapshot.deployment(stored.event.deployment or "")
            if deployment is None:
                return Attempt()
            found = snapshot.events(deployment=deployment.id, limit=_MOST_EVENTS)
            release = snapshot.release(deployment.digest)
        events = [item.event for item in found if item.seq <= stored.seq]
        spans = plan_trace(deployment, release.version if release else "", events, self._instance)
        return self._post(spans) if spans else Attempt()

    def send_test(self, test: str) -> Attempt:
        """See `deliver.Target`."""
        now = self._clock.now()
        attributes = (("turnout.test", test),)
        return self._post(
            [Span(secrets.randbits(127) + 1, secrets.randbits(63) + 1, None, "test", now, now, attributes)]
        )

    def close(self) -> None:
        """See `deliver.Target`."""
        self._sender.close()

    def _post(self, spans: Sequence[Span]) -> Attempt:
        body = encode_trace(spans, self._instance)
        headers = {**self._target.headers, "content-type": "application/x-protobuf"}
        return self._sender.post(self._target.endpoint, headers, body, self._target.timeout)


def encode_trace(spans: Sequence[Span], instance: str) -> bytes:
    """An OTLP request with these spans."""
    resource = Resource({"service.name": "turnout", "service.version": __version__, "service.instance.id": instance})
    return encode_spans([_readable(span, resource) for span in spans]).SerializeToString()


def _readable(span: Span, resource: Resource) -> ReadableSpan:
    return ReadableSpan(
        name=span.name,
        context=_context(span.trace, span.id),
        parent=_context(span.trace, span.parent) if span.parent is not None else None,
        resource=resource,
        attributes=dict(span.attributes),
        events=[SpanEvent(moment.name, dict(moment.attributes), _nanos(moment.at)) for moment in span.moments],
        links=[Link(_context(*span.link))] if span.link is not None else (),
        kind=SpanKind.INTERNAL,
        status=Status(StatusCode.OK) if span.failed is None else Status(StatusCode.ERROR, span.failed),
        start_time=_nanos(span.start),
        end_time=_nanos(span.end),
        instrumentation_scope=InstrumentationScope("turnout", __version__),
    )


def _context(trace: int, span: int) -> SpanContext:
    return SpanContext(trace, span, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _nanos(at: float) -> int:
    return round(at * 1e9)
