"""Recordings against a release: what is found, and that no fault of one task touches another."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any

import pytest

from tests.unit.domain.recorded import RELEASE, recorded_tool
from tests.unit.replay.stage import Asked, Stage, stage, taped
from turnout.domain.models import Digest
from turnout.domain.recordings import Recording
from turnout.domain.replays import Came, ChangeKind, Divergence, TaskDiff, Unreadable
from turnout.replay.asking import Broken, ask_task
from turnout.replay.engine import Replay, run_replay

OTHER = Digest("sha256:" + "b" * 64)


def retail(number: int) -> Recording:
    """A task of a shop: three calls in two requests."""
    look = ("find_order", {"order": number})
    return taped(f"t{number}", [look, ("refund", {"order": number, "amount": 5})], [look])


def run(release: Stage, *recordings: Recording | Unreadable, **how: Any) -> tuple[TaskDiff, ...]:
    replay = Replay("shop", "production", RELEASE, "v1", OTHER, "v2", **{"timeout": 5.0, **how})
    return run_replay(release, release.playback, recordings, replay).tasks


def came(found: tuple[TaskDiff, ...]) -> list[Came]:
    return [diff.verdict for diff in found]


@pytest.mark.parametrize("parallel", [1, 4])
def test_a_release_against_itself_has_no_divergence(parallel: int) -> None:
    with stage() as release:
        found = run(release, *(retail(number) for number in range(114)), parallel=parallel)

    assert came(found) == [Came.SAME] * 114
    assert sum(diff.divergences for diff in found) == 0
    assert all(diff.changes == () for diff in found)
    assert 1 < release.at_once <= parallel or parallel == 1


@pytest.mark.parametrize("planted", [1, 5, 20])
def test_exactly_the_planted_changes_are_found(planted: int) -> None:
    chosen = {f"t{number * 5}" for number in range(planted)}

    def alter(task: str, asked: Asked) -> Asked:
        if task not in chosen or len(asked["calls"]) < 2:
            return asked
        return {"calls": [asked["calls"][0], ["refund", {**asked["calls"][1][1], "amount": 50}]]}

    with stage(alter) as release:
        found = run(release, *(retail(number) for number in range(114)), parallel=2)

    assert {diff.task for diff in found if diff.verdict is not Came.SAME} == chosen
    assert [change.kind for diff in found for change in diff.changes] == [ChangeKind.ARGUMENTS] * planted
    assert sum(diff.divergences for diff in found) == planted


def test_tasks_come_out_in_the_order_of_the_recordings_and_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    replay = Replay("shop", "production", RELEASE, "v1", OTHER, "v2", parallel=3)
    with stage() as release:
        report = run_replay(
            release,
            release.playback,
            [retail(number) for number in range(9)],
            replay,
            lambda done, of, _: told.append((done, of)),
        )

    assert [diff.task for diff in report.tasks] == [f"t{number}" for number in range(9)]
    assert told == [(number, 9) for number in range(1, 10)]
    assert (report.baseline_version, report.candidate_version, report.summary.same) == ("v1", "v2", 9)


def test_the_requests_of_a_conversation_are_sent_in_order() -> None:
    heard: list[int] = []

    def alter(_: str, asked: Asked) -> Asked:
        heard.append(asked["calls"][0][1]["n"])
        return asked

    with stage(alter) as release:
        found = run(release, taped("t", *([("find", {"n": number})] for number in range(5))))

    assert (heard, came(found)) == ([0, 1, 2, 3, 4], [Came.SAME])


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_task_that_hangs_fails_by_name_and_the_others_go_on(parallel: int) -> None:
    def alter(task: str, asked: Asked) -> Asked:
        return {**asked, "hang": 3.0} if task == "t2" else asked

    with stage(alter) as release:
        began = time.monotonic()
        found = run(release, *(retail(number) for number in range(6)), timeout=0.3, parallel=parallel)

    assert came(found) == [Came.SAME, Came.SAME, Came.FAILED, Came.SAME, Came.SAME, Came.SAME]
    assert found[2].why == "POST /invocations got no answer within 0.3 s"
    assert release.starts >= 2
    assert time.monotonic() - began < 4.0


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_task_that_the_release_dies_of_fails_by_name_and_the_others_go_on(parallel: int) -> None:
    def alter(task: str, asked: Asked) -> Asked:
        return {**asked, "die": True} if task == "t1" else asked

    with stage(alter) as release:
        found = run(release, *(retail(number) for number in range(5)), parallel=parallel)

    assert came(found) == [Came.SAME, Came.FAILED, Came.SAME, Came.SAME, Came.SAME]
    assert "the release ended: Traceback / ZeroDivisionError" in found[1].why


def test_a_release_that_died_between_two_tasks_is_no_fault_of_the_next() -> None:
    with stage() as release:
        release.stop()
        found = run(release, retail(0), retail(1))

    assert (came(found), release.starts) == ([Came.SAME, Came.SAME], 2)


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_release_that_cannot_be_started_again_fails_what_is_left(parallel: int) -> None:
    with stage(lambda _, asked: {**asked, "die": True}) as release:
        release.breaks_at = 2
        found = run(release, *(retail(number) for number in range(4)), parallel=parallel)

    assert came(found) == [Came.FAILED] * 4
    assert found[3].why == "the release could not be started again: the agent ended before it was ready"


def test_bad_recordings_are_named_unusable_and_stop_nothing() -> None:
    good = retail(1)
    foreign = dataclasses.replace(retail(2), agent="other")
    older = dataclasses.replace(retail(3), release=OTHER, version="v0")
    cut = dataclasses.replace(retail(4), tools=(recorded_tool("find", whole=False),))
    bodyless = dataclasses.replace(retail(5), requests=(dataclasses.replace(retail(5).requests[0], body=None),))
    missing = Unreadable("t6", "its document is missing")
    with stage() as release:
        found = run(release, foreign, older, cut, missing, bodyless, good, good)

    assert came(found) == [*[Came.UNUSABLE] * 5, Came.SAME, Came.UNUSABLE]
    reasons = [diff.why for diff in found]
    assert reasons[0] == "it is a recording of the agent other, not of shop"
    assert reasons[1] == "it was answered by release v0, not by v1"
    assert "was cut" in reasons[2]
    assert reasons[3] == "its document is missing"
    assert "was left out" in reasons[4]
    assert reasons[6] == "the task is in the list twice"


def test_the_time_is_for_all_requests_of_a_task() -> None:
    with stage(lambda _, asked: {**asked, "hang": 0.4}) as release:
        found = run(release, taped("t", [], [], []), timeout=1.0)

    assert came(found) == [Came.FAILED]
    assert len(found[0].steps) == 2  # of the requests that were answered


def test_a_time_that_is_over_between_two_requests_fails_the_task_alone() -> None:
    with stage() as release, pytest.raises(Broken, match="got no answer within 0 s"):
        list(ask_task(release.url, taped("t", []), 0.0))


def test_another_status_is_another_outcome() -> None:
    with stage(lambda _, asked: {**asked, "status": 500}) as release:
        (found,) = run(release, taped("t", []))

    assert [change.kind for change in found.changes] == [ChangeKind.OUTCOME]


def test_what_patterns_took_out_of_a_recording_does_not_get_into_the_report_either() -> None:
    before = taped("t", [])
    kept = dataclasses.replace(before.requests[0], answer=b'{"text": "done [redacted]"}', redacted=True)
    with stage() as release:
        (found,) = run(release, dataclasses.replace(before, requests=(kept,)), answers=True, redact=("[0-9]+",))

    assert came((found,)) == [Came.SAME]
    assert [step.after for step in found.steps] == ['{"text":"done [redacted]"}']


def test_a_call_that_tells_no_task_is_found_in_the_task_that_made_it() -> None:
    with stage() as release:
        release.untold = frozenset({"t3"})
        recordings = [taped(f"t{number}", [], hang=0.02) for number in range(12)]
        found = run(release, *recordings, parallel=4)

    assert [diff.task for diff in found if diff.verdict is not Came.SAME] == ["t3"]
    assert found[3].divergences == 1


def test_a_call_of_no_task_lets_no_threshold_hold() -> None:
    replay = Replay("shop", "production", RELEASE, "v1", OTHER, "v2", timeout=5.0)
    with stage() as release:
        release.playback.diverged("gone", Divergence("tool", "refund", "not recorded"))
        report = run_replay(release, release.playback, [taped(f"t{number}", []) for number in range(60)], replay)

    assert (report.summary.same, report.strays) == (60, 1)
    assert not report.summary.holds(0.1)
    assert report.summary.describe().endswith("1 calls that belong to no task")


SLOW = "(a+)+$"


def test_an_answer_that_cannot_be_redacted_in_time_counts_as_another_and_its_outcome_still_does() -> None:
    before = taped("t", [])
    trap = json.dumps({"text": "a" * 5_000 + "!", "ok": False}).encode()
    ok = dataclasses.replace(before.requests[0], answer=b'{"text": "done 0", "ok": true}')
    with stage(lambda _, asked: {**asked, "says": trap.decode()}) as release:
        (found,) = run(release, dataclasses.replace(before, requests=(ok,)), redact=(SLOW,), rule="$.ok")

    assert [change.kind for change in found.changes] == [ChangeKind.ANSWER, ChangeKind.OUTCOME]
    assert "it could not be redacted in time" in found.changes[0].after


@pytest.mark.parametrize("own", [SLOW, "(?s).+"])
def test_patterns_of_the_candidate_hide_no_change(own: str) -> None:
    with stage(lambda _, asked: {**asked, "says": '{"text": "' + "a" * 5_000 + '!"}'}) as release:
        (found,) = run(release, taped("t", []), answers=True, redact=(), hide=(own,))

    assert found.verdict is Came.CHANGED
    assert "aaaa" not in found.changes[0].after


def test_what_the_release_logged_is_redacted_too() -> None:
    with stage(lambda _, asked: {**asked, "die": True}) as release:
        (found,) = run(release, taped("t", []), redact=("ZeroDivision",), hide=("division",))

    assert found.verdict is Came.FAILED
    assert "[redacted]Error: [redacted] by zero" in found.why
