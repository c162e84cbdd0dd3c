"""`turnout recordings`: what is sent, what is printed, and how it ends."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.command import CommandLine
from tests.unit.domain.test_recordings import RECORDING
from turnout.client import Problem
from turnout.domain.recording_document import render_recording

DOCUMENT = "sha256:" + "d" * 64


def view(task: str = "t1", **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "agent": "bot",
        "ring": "production",
        "task": task,
        "digest": "sha256:" + "a" * 64,
        "version": "v2",
        "document": f"{DOCUMENT}-{task}",
        "size": 12_345,
        "at": "2026-05-04T12:30:00.000000Z",
        "kept_until": "2026-06-04T12:30:00.000000Z",
        "requests": 1,
        "tool_calls": 2,
        "model_calls": 3,
        "faults": [],
        "model_faults": [],
        "problem": None,
    }
    return values | changes


@dataclass
class Server:
    """A client that has some recordings."""

    found: list[dict[str, Any]] = field(default_factory=lambda: [view()])
    damaged: set[str] = field(default_factory=set)
    asked: list[Any] = field(default_factory=list)

    def recordings(self, agent: str, **filters: Any) -> dict[str, Any]:
        self.asked.append((agent, {name: value for name, value in filters.items() if value is not None}))
        chosen = [item for item in self.found if filters.get("task") in (None, item["task"])]
        skip = filters.get("skip", 0)
        return {"recordings": chosen[skip : skip + filters.get("limit", 100)]}

    def recording(self, agent: str, document: str) -> bytes:
        self.asked.append((agent, document))
        if document in self.damaged:
            raise Problem(
                {"detail": f"the recording {document} is damaged", "type": "urn:turnout:problem:damaged_content"}, 500
            )
        return render_recording(RECORDING)

    def keep_recording(self, agent: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((agent, body))
        return self.found[0]

    def delete_recording(self, agent: str, document: str) -> None:
        self.asked.append((agent, document))


@pytest.fixture
def server(turnout: CommandLine) -> Server:
    made = Server()
    turnout.speaks_to(made)
    return made


def test_recordings_are_listed_with_whether_they_can_be_replayed(turnout: CommandLine, server: Server) -> None:
    server.found = [
        view(),
        view("t2", faults=["a result of tool x was cut at 4 bytes"]),
        view("t3", model_faults=["an answer of model y was left out"]),
    ]
    done = turnout("recordings", "list", "bot", "--ring", "production", "--release", "v2", "--limit", "7")
    assert server.asked == [("bot", {"ring": "production", "release": "v2", "limit": 7})]
    lines = done.out.splitlines()
    assert [line.split()[2] for line in lines[1:]] == ["t1", "t2", "t3"]
    assert lines[1].endswith("12,345  yes")
    assert lines[2].endswith("no: a result of tool x was cut at 4 bytes")
    assert lines[3].endswith("models live: an answer of model y was left out")
    assert done.code == 0
    assert turnout("recordings", "list", "bot", "--json").json() == {"recordings": server.found}


def test_no_recording_says_how_to_get_one(turnout: CommandLine, server: Server) -> None:
    server.found = []
    assert "[rings.NAME.record]" in turnout("recordings", "list", "bot").out


def test_a_damaged_one_is_named_and_the_exit_code_tells(turnout: CommandLine, server: Server) -> None:
    server.found = [view(), view("t2", problem="the recording is damaged")]
    done = turnout("recordings", "list", "bot")
    assert done.code == 1
    assert "t2: the recording is damaged" in done.err
    assert "t1" in done.out


def test_a_recording_is_shown_in_the_order_of_its_steps(turnout: CommandLine, server: Server) -> None:
    done = turnout("recordings", "show", "bot", "t1")
    assert server.asked[-1] == ("bot", f"{DOCUMENT}-t1")
    heads = [line for line in done.out.splitlines() if line and not line.startswith(" ")]
    assert heads == [
        "task t1 of 1.0 (1111111) in production",
        "POST /chat → 200",
        "tool shop/refund: done",
        "model anthropic/claude: done, cost 0.01",
    ]
    assert '  arguments: {"order":1}' in done.out
    assert turnout("recordings", "show", "bot", "t1", "--json").json() == json.loads(render_recording(RECORDING))


def test_a_task_without_a_recording_or_with_two_is_told(turnout: CommandLine, server: Server) -> None:
    assert turnout("recordings", "show", "bot", "t9").code == 4
    server.found = [view(), view(ring="staging")]
    done = turnout("recordings", "show", "bot", "t1")
    assert done.code == 3
    assert "production, staging" in done.err


def test_keep_prints_what_was_kept_and_its_faults(turnout: CommandLine, server: Server) -> None:
    server.found = [view(faults=["no request was recorded"])]
    done = turnout("recordings", "keep", "bot", "t1", "--ring", "production")
    assert server.asked == [("bot", {"task": "t1", "ring": "production"})]
    assert f"t1: recorded until 2026-06-04 12:30:00 as {DOCUMENT}-t1" in done.out
    assert "no request was recorded" in done.err


def test_export_writes_lines_and_leaves_out_what_is_damaged(
    turnout: CommandLine, server: Server, tmp_path: Path
) -> None:
    server.found = [view(f"t{number}") for number in range(4)]
    server.damaged = {f"{DOCUMENT}-t2"}
    path = tmp_path / "recordings.jsonl"
    done = turnout("recordings", "export", "bot", "-o", str(path))
    assert done.code == 1
    assert "t2: the recording" in done.err
    assert "3 recordings" in done.err
    assert path.read_bytes() == (render_recording(RECORDING) + b"\n") * 3
    few = turnout("recordings", "export", "bot", "--limit", "2")
    assert (few.code, len(few.out.splitlines())) == (0, 2)


def test_export_goes_through_all_pages(turnout: CommandLine, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnout.cli.recordings._PAGE", 3)
    server.found = [view(f"t{number}") for number in range(7)]
    assert len(turnout("recordings", "export", "bot").out.splitlines()) == 7
    assert len(turnout("recordings", "export", "bot", "--limit", "5").out.splitlines()) == 5


def test_delete_forgets_the_recording_of_a_task(turnout: CommandLine, server: Server) -> None:
    done = turnout("recordings", "delete", "bot", "t1")
    assert server.asked[-1] == ("bot", f"{DOCUMENT}-t1")
    assert done.out == "t1: the recording is deleted\n"
