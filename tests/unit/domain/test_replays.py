"""What counts as a change between a recording and its replay."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.domain.recorded import RELEASE, recorded_model, recorded_request, recorded_tool, recording
from turnout.domain.calls import Ended
from turnout.domain.errors import InvalidRequest
from turnout.domain.recordings import RecordedTool
from turnout.domain.replay_document import parse_report, parse_summary, render_report, render_within, summary_document
from turnout.domain.replays import (
    DECISIONS,
    Came,
    Change,
    ChangeKind,
    Divergence,
    ReplayReport,
    TaskDiff,
    summarise,
    what_changed,
)

calls = st.lists(st.tuples(st.sampled_from(["find", "refund", "cancel"]), st.integers(0, 3)), max_size=12)


def made(*asked: tuple[str, int]) -> list[RecordedTool]:
    return [recorded_tool(tool, {"id": number}, at=float(place)) for place, (tool, number) in enumerate(asked)]


def kinds(before: list[RecordedTool], after: list[RecordedTool]) -> list[ChangeKind]:
    return [change.kind for change in what_changed(recording(before), recording(after)).changes]


@given(calls)
def test_a_recording_against_itself_has_no_change(asked: list[tuple[str, int]]) -> None:
    same = recording(made(*asked), [recorded_model()])

    found = what_changed(same, same, rule="$.ok")

    assert (found.verdict, found.changes, found.divergences) == (Came.SAME, (), 0)
    assert len(found.steps) == len(asked) + 1  # and the answer


@given(st.data(), calls.filter(bool))
def test_as_many_changed_arguments_as_were_planted_are_found(data: st.DataObject, asked: list[tuple[str, int]]) -> None:
    planted = data.draw(st.sets(st.integers(0, len(asked) - 1)))
    other = [(tool, 100 + place if place in planted else number) for place, (tool, number) in enumerate(asked)]

    assert kinds(made(*asked), made(*other)) == [ChangeKind.ARGUMENTS] * len(planted)


@given(st.data(), calls)
def test_as_many_calls_as_were_put_in_are_found_as_extra(data: st.DataObject, asked: list[tuple[str, int]]) -> None:
    planted = data.draw(st.lists(st.integers(0, len(asked)), max_size=5))
    other = list(asked)
    for number, place in enumerate(sorted(planted, reverse=True)):
        other.insert(place, ("find", 100 + number))

    assert kinds(made(*asked), made(*other)) == [ChangeKind.EXTRA] * len(planted)
    assert kinds(made(*other), made(*asked)) == [ChangeKind.MISSING] * len(planted)


@settings(max_examples=200)
@given(calls, calls)
def test_there_are_never_more_changes_than_calls_on_both_sides(
    one: list[tuple[str, int]], other: list[tuple[str, int]]
) -> None:
    found = kinds(made(*one), made(*other))

    assert len(found) <= len(one) + len(other)
    assert (found == []) == (one == other)


def test_two_calls_that_changed_places_are_one_change() -> None:
    found = what_changed(
        recording(made(("find", 1), ("find", 2), ("refund", 1))),
        recording(made(("find", 2), ("find", 1), ("refund", 1))),
    )

    assert [change.kind for change in found.changes] == [ChangeKind.ORDER]
    assert found.verdict is Came.CHANGED


def test_calls_that_were_under_way_together_have_no_order() -> None:
    together = [recorded_tool("find", {"id": number}, at=1.0 + number / 10, duration=5.0) for number in range(3)]
    after = made(("find", 2), ("find", 0), ("find", 1))

    assert kinds(together, after) == []


def test_another_result_is_shown_and_is_no_changed_decision() -> None:
    other = json.dumps({"content": [], "isError": False})
    found = what_changed(
        recording([recorded_tool("find")]), recording([recorded_tool("find", result=other)]), rule="report"
    )

    assert [change.kind for change in found.changes] == [ChangeKind.RESULT]
    assert found.verdict is Came.SAME


def test_a_result_that_was_not_kept_is_no_other_result() -> None:
    before = recorded_tool("find", {"id": 1})

    assert kinds([before], [dataclasses.replace(before, result=None)]) == []
    assert kinds([before], [dataclasses.replace(before, result=None, ended=Ended.TIMEOUT)]) == [ChangeKind.RESULT]


def test_the_order_of_keys_and_white_space_say_nothing() -> None:
    first = recorded_tool("find", result='{"a": 1, "b": 2}')
    second = recorded_tool("find", result='{"b":2,"a":1}')
    one = recording([first], requests=(recorded_request(answer=b'{"x": 1, "y": 2}'),))
    other = recording([second], requests=(recorded_request(answer=b'{"y":2,"x":1}'),))

    assert what_changed(one, other, answers=True).changes == ()


@pytest.mark.parametrize(("answers", "verdict"), [(False, Came.SAME), (True, Came.CHANGED)])
def test_another_text_counts_only_where_it_is_asked_for(answers: bool, verdict: Came) -> None:
    other = recording(requests=(recorded_request(answer=b'{"ok": true, "text": "hi"}'),))

    found = what_changed(recording(), other, answers=answers)

    assert [change.kind for change in found.changes] == [ChangeKind.ANSWER]
    assert found.verdict is verdict


def test_another_status_is_one_change_of_outcome() -> None:
    found = what_changed(recording(), recording(requests=(recorded_request(status=500),)))

    assert [(change.kind, change.before, change.after) for change in found.changes] == [
        (ChangeKind.OUTCOME, "status 200", "status 500")
    ]


def test_the_outcome_is_read_on_both_sides_by_the_rule_of_the_recorded_release() -> None:
    before = recording(failed=True)  # somebody said so later, which no replay can know
    after = recording(requests=(recorded_request(answer=b'{"ok": false}'),))

    assert what_changed(before, before, rule="$.ok").verdict is Came.SAME
    found = what_changed(before, after, rule="$.ok")
    assert [(change.kind, change.before, change.after) for change in found.changes] == [
        (ChangeKind.ANSWER, '{"ok":true}', '{"ok":false}'),
        (ChangeKind.OUTCOME, "succeeded", "failed"),
    ]


def test_an_answer_that_was_cut_is_compared_as_far_as_it_goes() -> None:
    cut = recorded_request(answer=b'{"ok": tr', answer_whole=False)

    assert what_changed(recording(requests=(cut,)), recording(), answers=True).verdict is Came.SAME


def test_a_divergence_of_a_tool_is_counted_beside_the_change_it_is() -> None:
    before, after = made(("refund", 1)), made(("refund", 2))
    found = what_changed(recording(before), recording(after), [Divergence("tool", "refund", "not recorded")])

    assert ([change.kind for change in found.changes], found.divergences) == ([ChangeKind.ARGUMENTS], 1)


def test_a_divergence_of_a_model_is_a_change() -> None:
    found = what_changed(recording(), recording(), [Divergence("model", "gpt-4o", "not recorded", "1234")])

    assert [(change.kind, change.after) for change in found.changes] == [(ChangeKind.DIVERGENCE, "not recorded 1234")]
    assert found.verdict is Came.CHANGED


def test_a_call_whose_arguments_were_redacted_is_found_by_both_forms() -> None:
    sent = recorded_tool("pay", {"card": "4111"})
    kept = recorded_tool("pay", {"card": "***"})
    before = dataclasses.replace(kept, arguments_digest=sent.arguments_digest, result=sent.result, redacted=True)
    kept = dataclasses.replace(kept, result=sent.result)

    assert kinds([before], [sent]) == []
    assert kinds([before], [kept]) == []
    assert kinds([before], [recorded_tool("pay", {"card": "5500"})]) == [ChangeKind.ARGUMENTS]


def test_a_very_long_side_is_cut_and_says_so() -> None:
    long = recorded_tool("find", {"text": "x" * 10_000})

    assert "more characters" in what_changed(recording(), recording([long])).changes[0].after


def test_a_summary_counts_what_did_not_come_out_the_same() -> None:
    priced: Any = {"cost_before": 1.0, "cost_after": 2.0, "seconds_before": 1.0, "seconds_after": 0.5}
    tasks = [
        *(TaskDiff(f"s{n}", Came.SAME, **priced) for n in range(7)),
        TaskDiff("c", Came.CHANGED, divergences=2),
        TaskDiff("f", Came.FAILED, why="no answer"),
        TaskDiff("u", Came.UNUSABLE, why="cut"),
    ]
    summary = summarise(tasks)

    assert (summary.tasks, summary.same, summary.changed, summary.failed, summary.unusable) == (10, 7, 1, 1, 1)
    assert summary.share == pytest.approx(0.3)
    assert 0.05 < summary.low < 0.3 < summary.high < 0.7
    assert (summary.divergences, summary.cost_ratio, summary.latency_ratio) == (2, 2.0, 0.5)
    assert summary.describe().startswith("7 of 10 tasks came out the same, 1 changed, 1 failed, 1 unusable")


def test_a_threshold_is_held_by_the_upper_bound_and_never_without_usable_recordings() -> None:
    same = [TaskDiff(f"s{n}", Came.SAME) for n in range(50)]

    assert summarise(same).holds(0.1)
    assert not summarise(same[:10]).holds(0.1)
    assert not summarise([]).holds(1.0)
    assert not summarise([TaskDiff("u", Came.UNUSABLE)]).holds(1.0)


def report(*tasks: TaskDiff) -> ReplayReport:
    return ReplayReport("shop", "production", RELEASE, "v1", RELEASE, "v2", "recorded", False, 1.0, 2.0, 0, tasks)


changes = st.builds(Change, st.sampled_from(ChangeKind), st.just("call 1"), st.just("{}"), st.just('{"a":1}'))
diffs = st.builds(
    TaskDiff,
    task=st.sampled_from(["t", "ü", '"']),
    verdict=st.sampled_from(Came),
    steps=st.lists(changes, max_size=2).map(tuple),
    divergences=st.integers(0, 9),
    cost_before=st.none() | st.floats(0, 10),
)


@settings(max_examples=30)
@given(st.lists(diffs, max_size=3))
def test_reports_are_read_back_as_they_were(tasks: list[TaskDiff]) -> None:
    first = report(*tasks)

    assert parse_report(render_report(first)) == first
    assert parse_summary(summary_document(first.summary)) == first.summary


def test_a_report_that_is_too_long_keeps_what_it_adds_up_to_and_its_changes() -> None:
    step = Change(ChangeKind.SAME, "call 1", "x" * 2_000, "x" * 2_000)
    other = dataclasses.replace(step, kind=ChangeKind.ARGUMENTS)
    long = report(*(TaskDiff(f"t{number}", Came.CHANGED, (step, other)) for number in range(10)))

    for limit, steps, longest in ((10**6, 2, 2_000), (50_000, 1, 2_000), (30_000, 1, 1_001), (3_000, 0, 0)):
        content = render_within(long, limit)
        found = parse_report(content)
        assert len(content) <= limit
        assert found.summary == long.summary
        assert [len(task.steps) for task in found.tasks] == [steps] * 10
        assert max((len(item.before) for task in found.tasks for item in task.steps), default=0) == longest


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"schema": 2}, "schema"),
        ({"extra": 1}, "extra: unknown key"),
        ({"baseline": "abc"}, "baseline: expected a digest"),
        ({"tasks": [{"task": "t"}]}, r"tasks\[0\].verdict: is missing"),
        ({"duration": -1}, "duration: expected a number"),
    ],
)
def test_what_is_wrong_with_a_report_is_named(change: dict[str, Any], place: str) -> None:
    document = {**json.loads(render_report(report())), **change}

    with pytest.raises(InvalidRequest, match=place):
        parse_report(json.dumps(document).encode())


def test_results_and_answers_are_no_decisions() -> None:
    assert set(ChangeKind) - DECISIONS == {ChangeKind.SAME, ChangeKind.RESULT, ChangeKind.ANSWER}
