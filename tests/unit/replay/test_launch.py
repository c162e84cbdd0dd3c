"""A replay in a process of its own, as the server starts it: progress, faults, and its end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.domain.recorded import RELEASE
from turnout.domain.errors import BuildFailed, InvalidRequest
from turnout.replay import launch
from turnout.replay.engine import Replay
from turnout.replay.launch import ReplayRunner, parse_spec

REPLAY = Replay("shop", "production", RELEASE, "v1", RELEASE, "v2", parallel=3)
_PROGRAM = """
import json, pathlib, sys, time
spec = json.loads(pathlib.Path(sys.argv[1]).read_bytes())
"""
Played = Callable[[str], ReplayRunner]


@pytest.fixture
def plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    """A runner whose process does something else: `play("code")`."""

    def play(code: str) -> ReplayRunner:
        program = tmp_path / "program.py"
        program.write_text(_PROGRAM + code)
        monkeypatch.setattr(launch, "PROGRAM", (sys.executable, str(program)))
        return ReplayRunner(tmp_path, None, tmp_path / "replays", tmp_path / "gateway.toml")

    return play


def test_recordings_go_in_and_the_report_comes_out(plays: Played, tmp_path: Path) -> None:
    runner = plays(
        """
lines = pathlib.Path(spec["recordings"]).read_text().splitlines()
for number in range(1, 3):
    verdict = "same" if number == 1 else "changed"
    print(json.dumps({"done": number, "of": 2, "task": "t", "verdict": verdict}), flush=True)
pathlib.Path(spec["report"]).write_text(" ".join([*lines, str(spec["replay"]["parallel"]), str(spec["gateway"])]))
print(json.dumps({"report": "sha256:0"}), flush=True)
"""
    )
    said: list[str] = []

    found = runner.run("dep_1", [b"one", b"two"], REPLAY, said.append)

    assert found == b"one two 3 None"
    assert said[-1] == "replayed 2 of 2 recorded tasks, 1 not the same"
    assert not (tmp_path / "replays" / "dep_1").exists()


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ('print(json.dumps({"error": "the agent ended"}), flush=True)\nsys.exit(1)', "the agent ended"),
        ('sys.stderr.write("Traceback\\nno luck\\n")\nsys.exit(3)', "ended without a report: no luck"),
        ("sys.exit(0)", "it said nothing"),
    ],
)
def test_a_process_without_a_report_is_a_fault_with_its_reason(plays: Played, code: str, why: str) -> None:
    with pytest.raises(BuildFailed, match=why):
        plays(code).run("dep_1", [], REPLAY, lambda _: None)


def test_one_that_is_wanted_no_more_is_ended_by_closing_its_input(plays: Played, tmp_path: Path) -> None:
    mark = tmp_path / "ended"
    runner = plays(f"sys.stdin.read()\npathlib.Path({str(mark)!r}).write_text('well')")

    with pytest.raises(BuildFailed, match="wanted no more"):
        runner.run("dep_1", [], REPLAY, lambda _: None, wanted=lambda: False)

    assert mark.read_text() == "well"


def test_one_that_does_not_end_is_killed(plays: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "END_SECONDS", 0.2)

    with pytest.raises(BuildFailed, match="wanted no more"):
        plays("time.sleep(600)").run("dep_1", [], REPLAY, lambda _: None, wanted=lambda: False)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"replay": {}}', b"[1]"])
def test_a_description_that_is_none_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not the description of a replay"):
        parse_spec(content)


def test_replays_wait_for_a_slot_until_they_are_wanted_no_more(plays: Played) -> None:
    runner = plays('pathlib.Path(spec["report"]).write_text("it ran"); print(json.dumps({"report": "x"}), flush=True)')
    said: list[str] = []
    for _ in range(launch.SLOTS):
        runner.slots.acquire()

    with pytest.raises(BuildFailed, match="wanted no more"):
        runner.run("dep_1", [], REPLAY, said.append, lambda: False)
    assert said == ["waits until other replays are over"]

    runner.slots.release()
    assert runner.run("dep_1", [], REPLAY, said.append) == b"it ran"
    assert runner.slots.acquire(blocking=False)  # it was given back
