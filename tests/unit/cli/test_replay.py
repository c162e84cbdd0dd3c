"""`turnout replay`: which recordings it takes, what it prints, and how it ends. What the release does is not tried here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest

from tests.unit.cli.command import CommandLine
from tests.unit.domain.recorded import RELEASE, recorded_tool, recording
from turnout.cli import replay as replay_cli
from turnout.cli.exits import EXIT_CODES
from turnout.cli.replay_diff import show_task
from turnout.client import Problem
from turnout.domain.recording_document import render_recording
from turnout.domain.recordings import Recording
from turnout.domain.replay_document import parse_report, render_report, summary_document
from turnout.domain.replays import Came, ReplayReport, TaskDiff, Unreadable, what_changed
from turnout.replay.engine import Replay

OTHER = "sha256:" + "b" * 64


def stored(task: str, **changes: Any) -> dict[str, Any]:
    return {"task": task, "digest": RELEASE, "document": f"doc-{task}", **changes}


@dataclass
class Server:
    """A client that has recordings of the release v1, and keeps reports."""

    found: list[dict[str, Any]] = field(default_factory=lambda: [stored(f"t{number}") for number in range(3)])
    missing: set[str] = field(default_factory=set)
    kept: list[ReplayReport] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)

    def release(self, agent: str, ref: str) -> dict[str, Any]:
        digest = RELEASE if ref in ("v1", "ring:production") else OTHER
        return {"agent": agent, "digest": digest, "version": "v1" if digest == RELEASE else "v2", "success": "$.ok"}

    def recordings(self, _agent: str, **filters: Any) -> dict[str, Any]:
        self.asked.append({name: value for name, value in filters.items() if value is not None})
        chosen = [item for item in self.found if filters.get("task") in (None, item["task"])]
        skip = filters.get("skip") or 0
        return {"recordings": chosen[skip : skip + filters.get("limit", 100)]}

    def recording(self, _agent: str, document: str) -> bytes:
        if document in self.missing:
            raise Problem({"detail": "its document is missing", "type": "urn:turnout:problem:not_found"}, 404)
        return render_recording(recording([recorded_tool("refund", {"order": 1})], task=document.removeprefix("doc-")))

    def record_replay(self, _agent: str, document: str) -> dict[str, Any]:
        self.kept.append(parse_report(document.encode()))
        return self.replay("shop", "replay_1")

    def replay(self, _agent: str, replay: str) -> dict[str, Any]:
        self.asked.append({"replay": replay})
        return {"id": "replay_1", "document": render_report(self.kept[-1]).decode()}

    def replays(self, agent: str, **_: Any) -> dict[str, Any]:
        report = self.kept[-1]
        summary = {**summary_document(report.summary), "message": report.summary.describe()}
        view = {
            **{"id": "replay_1", "agent": agent, "ring": "production", "at": "2026-05-04T12:30:00.000000Z"},
            **{"baseline": RELEASE, "baseline_version": "v1", "candidate": OTHER, "candidate_version": "v2"},
            **{"actor": "ann", "deployment": None, "summary": summary, "report": OTHER},
        }
        return {"replays": [view]}


@dataclass
class Run:
    """A replay that was asked for, and what it shall find."""

    server: Server
    described: list[Replay] = field(default_factory=list)
    chosen: list[Recording | Unreadable] = field(default_factory=list)
    odd: set[str] = field(default_factory=set)
    strays: int = 0

    def replayed(self, _client: Any, described: Replay, chosen: Sequence[Any], gateway: Path | None) -> ReplayReport:
        assert gateway is None
        self.described.append(described)
        self.chosen[:] = chosen
        tasks = tuple(self._diff(item) for item in chosen)
        return ReplayReport(
            described.agent, described.ring, described.baseline, described.baseline_version, described.candidate,
            described.candidate_version, described.models, described.answers, 1.0, 2.0, self.strays, tasks,
        )  # fmt: skip

    def _diff(self, item: Recording | Unreadable) -> TaskDiff:
        if isinstance(item, Unreadable):
            return TaskDiff(item.task, Came.UNUSABLE, why=item.why)
        other = (recorded_tool("refund", {"order": 2}),) if item.task in self.odd else item.tools
        return what_changed(item, dataclasses.replace(item, tools=other))


@pytest.fixture
def run(turnout: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Run:
    server = Server()
    turnout.speaks_to(server)
    found = Run(server)
    monkeypatch.setattr(replay_cli, "_replayed", found.replayed)
    return found


def test_the_newest_recordings_are_asked_and_the_report_is_kept(turnout: CommandLine, run: Run) -> None:
    run.strays = 1
    done = turnout("replay", "ring:production", "v2", "--agent", "shop", "--tasks", "2", "--parallel", "3")

    assert done.code == 0
    assert run.server.asked[0] == {"ring": "production", "release": RELEASE, "limit": 2, "skip": 0}
    (described,) = run.described
    assert (described.ring, described.rule, described.parallel, described.models) == (
        "production",
        "$.ok",
        3,
        "recorded",
    )
    assert [item.task for item in run.chosen] == ["t0", "t1"]
    assert run.server.kept[0].candidate == OTHER
    assert "2 of 2 tasks came out the same" in done.out
    assert "1 calls that belong to no task" in done.out


def test_named_tasks_and_bad_recordings_are_taken_as_they_are(turnout: CommandLine, run: Run) -> None:
    run.server.missing = {"doc-t1"}
    done = turnout("replay", "run", "v1", "v2", "--agent", "shop", "--tasks", "t0,t1,t9")

    assert [type(item) for item in run.chosen] == [Recording, Unreadable, Unreadable]
    assert "its document is missing" in done.out
    assert "no recording of it is kept" in done.out


def test_a_file_of_recordings_is_read(turnout: CommandLine, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "recordings.jsonl"
    path.write_bytes(b"\n".join(render_recording(recording(task=f"f{number}")) for number in range(2)))
    turnout("replay", "v1", "v2", "--agent", "shop", "--tasks", str(path))

    assert [item.task for item in run.chosen] == ["f0", "f1"]
    assert run.described[0].ring == "production"


@pytest.mark.parametrize(("most", "code"), [("0.7", 0), ("0.1", EXIT_CODES["replay_not_held"])])
def test_the_exit_code_tells_a_threshold_that_is_not_held(turnout: CommandLine, run: Run, most: str, code: int) -> None:
    done = turnout("replay", "v1", "v2", "--agent", "shop", "--max-changed", most)

    assert done.code == code
    assert ("it is not proven" in done.err) == (code != 0)


def test_without_recordings_it_says_what_to_do(turnout: CommandLine, run: Run) -> None:
    run.server.found = []
    done = turnout("replay", "v1", "v2", "--agent", "shop")

    assert done.code == EXIT_CODES["not_found"]
    assert "rings.NAME.record" in done.err


def test_a_replay_and_any_task_of_it_are_shown(turnout: CommandLine, run: Run) -> None:
    run.odd = {"t1"}
    turnout("replay", "v1", "v2", "--agent", "shop")
    short = turnout("replay", "show", "--agent", "shop")
    whole = turnout("replay", "show", "replay_1", "--agent", "shop", "--all")
    task = turnout("replay", "show", "replay_1", "t1", "--agent", "shop")
    plain = turnout("replay", "show", "replay_1", "t1", "--agent", "shop", "--json").json()
    unknown = turnout("replay", "show", "replay_1", "t9", "--agent", "shop")
    listed = turnout("replay", "list", "shop")

    assert {"replay": "latest"} in run.server.asked
    assert ("t1" in short.out, "t0" in short.out, "t0" in whole.out) == (True, False, True)
    assert '{"order":1}' in task.out
    assert '{"order":2}' in task.out
    assert plain["verdict"] == "changed"
    assert unknown.code == EXIT_CODES["not_found"]
    assert "33.3%" in listed.out


def test_both_sides_stand_beside_each_other_and_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    before = recording([recorded_tool("refund", {"note": "x" * 60}), recorded_tool("find", {"id": 1})])
    after = recording([recorded_tool("refund", {"note": "\u001b[2J"})])
    diff = what_changed(before, after)
    report = ReplayReport("shop", "production", RELEASE, "v1", RELEASE, "v2", "recorded", False, 1.0, 2.0, 0, (diff,))
    show_task(report, diff, width=60)
    lines = click.unstyle(capsys.readouterr().out).splitlines()

    assert "~ call 1: refund (arguments)" in lines
    assert "- call 2: find (missing)" in lines
    sides = [line.partition(" │ ") for line in lines if " │ " in line][1:]
    assert "".join(left.strip() for left, _, _ in sides[:3]) == json.dumps({"note": "x" * 60}, separators=(",", ":"))
    assert "\x1b" not in "".join(lines)


def test_progress_counts_what_did_not_come_out_the_same() -> None:
    said: list[tuple[str, bool]] = []
    on_progress = replay_cli._count("v2", lambda text, over: said.append((text, over)))
    for done in range(1, 4):
        on_progress(done, 3, TaskDiff(f"t{done}", Came.CHANGED if done == 2 else Came.SAME))

    assert said[0] == ("replay   v2: 1 of 3 tasks, 0 not the same", False)
    assert said[-1] == ("replay   v2: 3 of 3 tasks, 1 not the same", True)
