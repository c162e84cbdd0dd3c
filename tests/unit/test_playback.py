"""Which recorded answer a call gets, and what becomes of one that was not recorded."""

from __future__ import annotations

import threading
import time

from tests.unit.domain.recorded import recorded_model, recorded_tool, recording
from turnout.domain.calls import ToolCall
from turnout.domain.models import Digest
from turnout.domain.recordings import RecordedTool
from turnout.domain.replays import Divergence
from turnout.playback import Playback


def tool_call(task: str | None) -> ToolCall:
    return ToolCall("c1", 1.0, 0.1, "shop", "sandbox", Digest("sha256:" + "a" * 64), task, "shop", "refund")


def digest_of(call: RecordedTool) -> str:
    return call.arguments_digest


def test_equal_calls_get_their_answers_in_order_and_the_last_one_again() -> None:
    first, second = (recorded_tool("stock", {"id": 1}, result=f"{number}") for number in (1, 2))
    playback = Playback()
    playback.begin(recording([first, recorded_tool("stock", {"id": 2}), second]))

    given = [playback.tool_call("t1", "stock", digest_of(first)) for _ in range(3)]

    assert given == [(first, True), (second, True), (second, False)]


def test_a_call_with_other_arguments_of_another_tool_or_another_task_is_not_found() -> None:
    call = recorded_tool("refund", {"id": 1})
    playback = Playback()
    playback.begin(recording([call]))
    playback.begin(recording(task="t2"))

    assert playback.tool_call("t1", "refund", "0" * 64) == (None, False)
    assert playback.tool_call("t1", "cancel", digest_of(call)) == (None, False)
    assert playback.tool_call("t2", "refund", digest_of(call)) == (None, False)
    assert playback.tool_call("t3", "refund", digest_of(call)) == (None, False)


def test_answers_of_models_run_out_and_streams_are_apart() -> None:
    whole, stream = (
        recorded_model("{}"),
        recorded_model("data: {}\n\n", content_type="text/event-stream; charset=utf-8"),
    )
    playback = Playback()
    playback.begin(recording(models=[whole, stream]))

    def ask(stream: bool) -> object:
        return playback.model_call("t1", "chat/completions", "d1", stream=stream)

    assert [ask(True), ask(False), ask(False), ask(True)] == [stream, whole, None, None]


def test_a_call_without_a_task_belongs_to_the_only_one_under_way() -> None:
    playback = Playback()
    assert playback.find(None) is None
    playback.begin(recording())
    assert (playback.find(None), playback.find("t1"), playback.find("other")) == ("t1", "t1", None)
    playback.begin(recording(task="t2"))
    assert playback.find(None) is None


def test_a_call_without_a_task_makes_all_under_way_unclear_and_one_of_another_task_is_a_stray() -> None:
    playback, divergence = Playback(), Divergence("tool", "refund", "not recorded")
    playback.diverged(None, divergence)  # before any task
    playback.begin(recording())
    playback.diverged("t9", divergence)
    playback.begin(recording(task="t2"))
    assert len(playback.strays) == 2
    playback.diverged(None, divergence)
    playback.begin(recording(task="t3"))

    assert [playback.end(task).unclear for task in ("t1", "t2", "t3")] == [True, True, False]
    assert len(playback.strays) == 2


def test_what_a_task_did_is_told_once_and_what_comes_late_is_left_out() -> None:
    playback, divergence = Playback(), Divergence("tool", "refund", "not recorded")
    playback.begin(recording())
    playback.write(tool_call("t1"))
    playback.write(tool_call(None))
    playback.diverged("t1", divergence)

    played = playback.end("t1")
    playback.write(tool_call("t1"))
    playback.diverged("t1", divergence)

    assert (len(played.calls), played.divergences) == (1, (divergence,))
    assert playback.end("t1").calls == ()
    assert playback.strays == (divergence,)


def test_the_end_of_a_task_waits_for_calls_that_are_under_way() -> None:
    playback = Playback()
    playback.begin(recording())
    begun, go = threading.Event(), threading.Event()

    def call() -> None:
        with playback.calling("t1"):
            begun.set()
            go.wait(5)
            playback.write(tool_call("t1"))

    caller = threading.Thread(target=call)
    caller.start()
    begun.wait(5)
    threading.Timer(0.05, go.set).start()
    played = playback.end("t1", patience=5.0)
    caller.join()

    assert len(played.calls) == 1


def test_the_end_of_a_task_does_not_wait_for_ever() -> None:
    playback = Playback()
    playback.begin(recording())
    with playback.calling("t1"):
        began = time.monotonic()
        playback.end("t1", patience=0.05)

    assert 0.04 < time.monotonic() - began < 2.0
