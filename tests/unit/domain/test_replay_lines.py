"""Recordings in a file: bad lines are named and stop nothing."""

from __future__ import annotations

from tests.unit.domain.recorded import recording
from turnout.domain.recording_document import render_recording
from turnout.domain.replay_lines import read_recordings, unreadable_line
from turnout.domain.replays import Unreadable


def test_lines_are_read_and_bad_ones_are_named() -> None:
    good, missing = recording(), Unreadable("t9", "its document is missing")
    lines = [render_recording(good), b"", b'{"task": "t8", "schema": 1}', b"garbage", unreadable_line(missing), b"[1]"]

    read = list(read_recordings(lines))

    assert [read[0], read[3]] == [good, missing]
    named = [item.task for item in read if isinstance(item, Unreadable)]
    assert named == ["t8", "line 4", "t9", "line 6"]
