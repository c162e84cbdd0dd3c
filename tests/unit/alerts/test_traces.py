"""Deployments as traces: what a collector gets over OTLP."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent

from tests.contract.store_support import add_release
from tests.unit.alerts.receiver import Receiver
from tests.unit.alerts.world import World
from tests.unit.domain.values import make_deployment, make_release
from turnout.alerts.collector import Collector
from turnout.alerts.settings import TracesTarget
from turnout.alerts.traces import Span, plan_trace
from turnout.domain.events import Event, EventType
from turnout.domain.phases import Phase

RELEASE = make_release("v1")
DEPLOYMENT = make_deployment(RELEASE)
UP = [(Phase.BUILDING, 1.0), (Phase.DEPLOYING, 5.0), (Phase.VALIDATING, 9.0), (Phase.ACTIVE, 20.0)]


def story(steps: Sequence[tuple[Phase, float]]) -> list[Event]:
    """The events of a deployment that was asked for at 0."""
    state = Phase.QUEUED
    events = [Event(EventType.DEPLOYMENT_CREATED, 0.0, "ann", "support", "production", "dep_1", {"kind": "deploy"})]
    for phase, at in steps:
        data = {"from": state.value, "to": phase.value, "reason": f"to {phase.value}"}
        events.append(Event(EventType.DEPLOYMENT_TRANSITIONED, at, "turnout", "support", "production", "dep_1", data))
        state = phase
    return events


def plan(steps: Sequence[tuple[Phase, float]]) -> tuple[Span, ...]:
    return plan_trace(DEPLOYMENT, "v1", story(steps), "cafe")


def test_the_way_to_active_is_a_trace_with_a_span_for_each_state() -> None:
    root, *states = plan(UP)
    assert (root.name, root.start, root.end, root.failed) == ("deploy support production", 0.0, 20.0, None)
    assert [(span.name, span.start, span.end) for span in states] == [
        ("queued", 0.0, 1.0),
        ("building", 1.0, 5.0),
        ("deploying", 5.0, 9.0),
        ("validating", 9.0, 20.0),
    ]
    assert {span.parent for span in states} == {root.id}
    assert len({span.trace for span in (root, *states)}) == 1
    assert [moment.name for moment in root.moments] == ["deployment.created"]


def test_a_trace_that_is_made_again_is_the_same() -> None:
    assert plan(UP) == plan(UP)
    assert plan(UP)[0].trace != plan_trace(DEPLOYMENT, "v1", story(UP), "beef")[0].trace


def test_what_failed_says_why() -> None:
    root, *_ = plan([*UP[:1], (Phase.FAILED, 7.0)])
    assert (root.failed, root.end) == ("to failed", 7.0)


def test_a_candidate_that_was_taken_back_is_one_trace() -> None:
    spans = plan([*UP[:3], (Phase.ROLLING_BACK, 15.0), (Phase.ROLLED_BACK, 16.0)])
    assert [span.name for span in spans][-1] == "rolling_back"
    assert (spans[0].start, spans[0].end, spans[0].link) == (0.0, 16.0, None)


def test_taking_back_an_active_release_is_a_trace_of_its_own_that_links_to_the_first() -> None:
    first = plan(UP)[0]
    spans = plan([*UP, (Phase.ROLLING_BACK, 100.0), (Phase.ROLLED_BACK, 101.0)])
    assert [(span.name, span.start, span.end) for span in spans] == [
        ("taking back support production", 100.0, 101.0),
        ("rolling_back", 100.0, 101.0),
    ]
    assert spans[0].link == (first.trace, first.id)
    assert spans[0].trace != first.trace


@pytest.mark.parametrize("steps", [[], UP[:3], [*UP, (Phase.SUPERSEDED, 50.0)]])
def test_where_nothing_ended_there_is_no_trace(steps: list[tuple[Phase, float]]) -> None:
    assert plan(steps) == ()


def collector(world: World, receiver: Receiver) -> Collector:
    return Collector(TracesTarget(receiver.url, {"authorization": "Bearer x"}, 5.0), world.store, "cafe", world.clock)


def sent(receiver: Receiver) -> list[Sent]:
    request = ExportTraceServiceRequest.FromString(receiver.got[-1].body)
    return list(request.resource_spans[0].scope_spans[0].spans)


def test_a_collector_gets_it_over_otlp(world: World, receiver: Receiver) -> None:
    add_release(world.store, RELEASE)
    target = collector(world, receiver)
    with world.store.transaction() as transaction:
        deployment = make_deployment(RELEASE, created_at=1_000.5)
        transaction.add_deployment(deployment)
        for phase, at in UP:
            deployment = transaction.move(deployment, phase, at=1_000.5 + at, actor="turnout", reason="fine")
    with world.store.snapshot() as snapshot:
        events = snapshot.events()
    wanted = [stored for stored in events if target.wants(stored.event)]
    assert [stored.event.data["to"] for stored in wanted] == ["active"]
    assert target.send(wanted[0]).error is None
    assert receiver.got[0].headers["content-type"] == "application/x-protobuf"
    assert receiver.got[0].headers["authorization"] == "Bearer x"
    spans = sent(receiver)
    root = next(span for span in spans if not span.parent_span_id)
    assert (root.start_time_unix_nano, root.end_time_unix_nano) == (1_000_500_000_000, 1_020_500_000_000)
    assert {span.name for span in spans} == {
        "deploy support production",
        "queued",
        "building",
        "deploying",
        "validating",
    }
    assert {item.key: item.value.string_value for item in root.attributes}["turnout.release.version"] == "v1"
    assert {span.trace_id for span in spans} == {root.trace_id}
    target.close()


def test_a_collector_is_tested_with_a_span_of_its_own(world: World, receiver: Receiver) -> None:
    target = collector(world, receiver)
    assert target.send_test("t1").error is None
    assert [span.name for span in sent(receiver)] == ["test"]
    target.close()
