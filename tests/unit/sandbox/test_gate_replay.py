"""The process of a gate's replay keeps the release out of the whole state folder of its server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.domain.recorded import RELEASE
from turnout import replay_process
from turnout.domain.errors import InvalidRequest
from turnout.replay.engine import Replay
from turnout.replay.launch import Spec


def test_the_state_of_the_server_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def replay_release(*_: object, **named: Any) -> None:
        given.update(named)
        raise InvalidRequest("that was all")

    monkeypatch.setattr(replay_process, "found_release", lambda *_: None)
    monkeypatch.setattr(replay_process, "replay_release", replay_release)
    recordings = tmp_path / "recordings.jsonl"
    recordings.touch()
    replay = Replay("shop", "production", RELEASE, "v1", RELEASE, "v2")
    work = tmp_path / "replays" / "dep_1"
    spec = Spec(str(tmp_path), None, str(recordings), str(work / "report"), str(work / "work"), None, replay)
    with pytest.raises(InvalidRequest, match="that was all"):
        replay_process._run(spec)
    assert given["hidden"] == (tmp_path,)
