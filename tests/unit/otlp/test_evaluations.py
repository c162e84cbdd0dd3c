"""Evaluation events: which task they are about, what they say of it, and which say nothing that can be used."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.otlp.messages import attributes, evaluation, log_message, logs, span_event, trace_message, traces
from turnout.domain.errors import InvalidRequest
from turnout.domain.outcomes import Outcome, Source
from turnout.otlp.evaluations import LABEL, SCORE, THRESHOLD, Read, read_evaluation, read_evaluations
from turnout.otlp.events import Value, log_events, log_events_of, span_events, span_events_of

TASK: dict[str, Value] = {"turnout.task": "t1"}


def read_logs(request: dict[str, Any]) -> Read:
    """What both encodings of a request say."""
    of_document, of_message = log_events_of(request), log_events(log_message(request))
    read = read_evaluations(of_document)
    assert read == read_evaluations(of_message)
    return read


def read_traces(request: dict[str, Any]) -> Read:
    """What both encodings of a request say."""
    read = read_evaluations(span_events_of(request))
    assert read == read_evaluations(span_events(trace_message(request)))
    return read


def said(**values: object) -> tuple[bool | None, bool | None]:
    outcome = read_evaluation({**TASK, **values})  # type: ignore[dict-item]
    return outcome.failed, outcome.intervened


@pytest.mark.parametrize("label", ["pass", "PASS", "Passed", " correct ", "success", "relevant", "true"])
def test_a_label_that_means_pass_is_a_success(label: str) -> None:
    assert said(**{LABEL: label}) == (False, None)


@pytest.mark.parametrize("label", ["fail", "Failed", "incorrect", "not_relevant", "not relevant", "Not-Relevant", "no"])
def test_a_label_that_means_fail_is_a_failure(label: str) -> None:
    assert said(**{LABEL: label}) == (True, None)


def test_the_label_counts_more_than_the_score() -> None:
    assert said(**{LABEL: "fail", SCORE: 1.0}) == (True, None)


@pytest.mark.parametrize(
    ("score", "threshold", "failed"),
    [(0.5, None, False), (0.49, None, True), (4, 3.5, False), (3, 3.5, True), (True, None, False), (0, None, True)],
)
def test_a_score_is_a_success_from_the_threshold_on(score: float, threshold: float | None, failed: bool) -> None:
    given = {SCORE: score} if threshold is None else {SCORE: score, THRESHOLD: threshold}

    assert said(**given) == (failed, None)


def test_a_label_that_is_not_known_leaves_it_to_the_score() -> None:
    assert said(**{LABEL: "mostly fine", SCORE: 0.9}) == (False, None)


def test_an_intervention_is_one_without_a_verdict_too() -> None:
    assert said(**{"turnout.intervention": True}) == (None, True)
    assert said(**{"turnout.intervention": True, LABEL: "fail"}) == (True, True)


@pytest.mark.parametrize(
    "event",
    [
        {},
        {LABEL: "mostly fine"},
        {SCORE: float("nan")},
        {SCORE: float("inf")},
        {SCORE: "0.9"},
        {"turnout.intervention": "yes"},
        {"error.type": "timeout"},
    ],
)
def test_what_says_nothing_is_refused(event: dict[str, Value]) -> None:
    with pytest.raises(InvalidRequest, match="says nothing"):
        read_evaluation({**TASK, **event})


@pytest.mark.parametrize("task", [None, "", 7, "a\0b", "x" * 257])
def test_what_names_no_task_is_refused(task: Value | None) -> None:
    named = {} if task is None else {"turnout.task": task}

    with pytest.raises(InvalidRequest, match="task"):
        read_evaluation({**named, LABEL: "pass"})


def test_the_nearest_name_of_the_task_counts_and_the_conversation_only_without_one() -> None:
    span, resource = {"turnout.task": "of span"}, {"turnout.task": "of resource"}
    label = {LABEL: "pass"}

    assert read_evaluation({**label, **TASK}, span, resource).task == "t1"
    assert read_evaluation(label, span, resource).task == "of span"
    assert read_evaluation(label, {}, resource).task == "of resource"
    assert read_evaluation({**label, "session.id": "s"}, span).task == "of span"
    assert read_evaluation({**label, "session.id": "s"}, {}).task == "s"
    assert read_evaluation(label, {"gen_ai.conversation.id": "c"}).task == "c"


def test_a_log_record_becomes_a_report_that_says_why() -> None:
    record = evaluation(
        turnout__task="t1",
        gen_ai__evaluation__name="Relevance",
        gen_ai__evaluation__score__label="fail",
        gen_ai__evaluation__score__value=0.2,
        gen_ai__evaluation__explanation="speaks of another city",
    )

    assert read_logs(logs(record)).outcomes == [
        Outcome("t1", Source.EVALUATION, 0.0, True, detail="Relevance: fail; speaks of another city")
    ]


def test_a_log_record_may_name_the_event_by_an_attribute() -> None:
    record = evaluation(
        "", event__name="gen_ai.evaluation.result", turnout__task="t1", gen_ai__evaluation__score__value=1
    )

    assert [item.failed for item in read_logs(logs(record)).outcomes] == [False]


def test_other_records_and_events_are_passed_over() -> None:
    record = evaluation("gen_ai.client.inference.operation.details", turnout__task="t1")
    event = span_event("exception", turnout__task="t1")

    assert read_logs(logs(record)) == ([], [])
    assert read_traces(traces(event)) == ([], [])


def test_an_event_of_a_span_knows_the_attributes_of_span_and_resource() -> None:
    request = traces(
        span_event(gen_ai__evaluation__score__value=3),
        span_event("other"),
        span_event(gen_ai__evaluation__score__value=5),
        span=attributes(gen_ai__conversation__id="c1"),
        resource=attributes(turnout__threshold=4, service__name="judge"),
    )
    found = read_traces(request).outcomes

    assert [(item.task, item.failed) for item in found] == [("c1", True), ("c1", False)]


def test_one_that_cannot_be_used_does_not_hinder_the_others() -> None:
    records: list[dict[str, Any]] = [
        evaluation(turnout__task="t1", gen_ai__evaluation__score__label="pass"),
        evaluation(gen_ai__evaluation__score__label="pass"),
        evaluation(turnout__task="t3", gen_ai__evaluation__score__value=["a", "list"]),
    ]
    read = read_logs(logs(*records))

    assert [item.task for item in read.outcomes] == ["t1"]
    assert len(read.rejected) == 2
    assert "turnout.task" in read.rejected[0]


@pytest.mark.parametrize(
    "request_",
    [
        {"resourceLogs": 7},
        {"resourceLogs": ["x"]},
        {"resourceLogs": [{"resource": []}]},
        {"resourceLogs": [{"resource": {"attributes": {}}}]},
        {"resourceLogs": [{"scopeLogs": [{"logRecords": {}}]}]},
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"attributes": [{"key": "a", "value": 1}]}]}]}]},
    ],
)
def test_a_document_of_another_shape_is_refused(request_: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=r"is no|no object"):
        read_evaluations(log_events_of(request_))


@pytest.mark.parametrize(
    "value", [{}, {"intValue": "many"}, {"doubleValue": "x"}, {"stringValue": 7}, {"boolValue": 1}]
)
def test_an_attribute_that_holds_no_plain_value_is_passed_over(value: dict[str, Any]) -> None:
    record = evaluation(turnout__task="t1", gen_ai__evaluation__score__label="pass")
    record["attributes"].append({"key": "gen_ai.evaluation.explanation", "value": value})

    (outcome,) = read_evaluations(log_events_of(logs(record))).outcomes

    assert outcome.detail == "evaluation: pass"


def test_numbers_may_be_texts() -> None:
    record = evaluation(turnout__task="t1")
    record["attributes"].append({"key": SCORE, "value": {"doubleValue": "NaN"}})
    record["attributes"].append({"key": SCORE, "value": {"intValue": "1"}})

    assert [item.failed for item in read_evaluations(log_events_of(logs(record))).outcomes] == [False]


def test_a_long_explanation_is_cut() -> None:
    event: dict[str, Value] = {**TASK, LABEL: "pass", "gen_ai.evaluation.explanation": "x\0" * 10_000}

    assert 400 < len(read_evaluation(event).detail) <= 1_000
    assert "\0" not in read_evaluation(event).detail


def test_half_a_surrogate_pair_names_no_task_and_is_replaced_in_an_explanation() -> None:
    with pytest.raises(InvalidRequest, match="UTF-8") as refused:
        read_evaluation({"turnout.task": "a\ud800", LABEL: "pass"})
    refused.value.message.encode()

    event: dict[str, Value] = {**TASK, LABEL: "pass", "gen_ai.evaluation.explanation": "fine \ud800"}
    assert read_evaluation(event).detail == "evaluation: pass; fine ?"


@pytest.mark.parametrize("name", ["score", "threshold"])
def test_a_number_too_large_for_any_score_is_none(name: str) -> None:
    huge: dict[str, Any] = {
        "key": SCORE if name == "score" else THRESHOLD,
        "value": {"intValue": "1" * 400},
    }
    bad, good = (evaluation(turnout__task=task) for task in ("t1", "t2"))
    bad["attributes"].append(huge)
    good["attributes"].append({"key": SCORE, "value": {"intValue": "1"}})
    if name == "threshold":
        good["attributes"].append(huge)

    read = read_evaluations(log_events_of(logs(bad, good)))

    assert [(item.task, item.failed) for item in read.outcomes] == [("t2", False)]
    assert len(read.rejected) == 1
    assert "t1" in read.rejected[0]
