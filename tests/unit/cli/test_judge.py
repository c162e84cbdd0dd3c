"""`turnout judge`: a recorded stream in, a verdict with its evidence out; wrong lines named."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.command import CommandLine
from tests.unit.domain.judge.streams import Record, Start, feed, stream
from turnout.cli.evidence import show_evidence
from turnout.domain.judge import Judge, JudgeConfig, view_evidence

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "judge.md"
BLOCK = re.compile(
    r"<!-- (file: (?P<file>\S+)|run) -->\n```\w*\n(?P<text>.*?)```(\n\n```text\n(?P<prints>.*?)```)?", re.DOTALL
)
START = '{"start": "a", "arm": "stable", "probability": 0.5, "at": 1}'


def line(record: Record) -> str:
    if isinstance(record, Start):
        arm = "candidate" if record.candidate else "stable"
        return json.dumps({"start": record.task, "arm": arm, "probability": record.share, "at": record.at})
    known = {"failed": record.failed, "intervened": record.intervened, "cost": record.cost}
    return json.dumps({"outcome": record.task, "at": record.at, **known})


def write(folder: Path, lines: Sequence[str]) -> str:
    file = folder / "records.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def judged(records: Sequence[Record]) -> dict[str, Any]:
    """What the judge itself says, asked at the latest record."""
    judge = Judge()
    feed(judge, records)
    return view_evidence(judge.verdict(records[-1].at))


@pytest.fixture
def bad_release() -> list[Record]:
    return stream(1, units=600, candidate=0.6)


def test_json_is_what_the_judge_says(turnout: CommandLine, tmp_path: Path, bad_release: list[Record]) -> None:
    done = turnout("judge", write(tmp_path, [line(record) for record in bad_release]), "--json")
    assert done.code == 0
    assert done.json() == json.loads(json.dumps(judged(bad_release)))
    assert done.json()["kind"] == "fail"


def test_a_person_sees_verdict_evidence_arms_ratio_tasks_and_a_picture(
    turnout: CommandLine, tmp_path: Path, bad_release: list[Record]
) -> None:
    done = turnout("judge", write(tmp_path, [line(record) for record in bad_release]))
    view = judged(bad_release)
    assert done.code == 0
    assert done.out.startswith("fail (failed tasks): worse than the stable release")
    assert f"of {view['metrics']['failure']['candidate']['units']}" in done.out
    assert "as the router meant" in done.out
    assert view["weighed"][0]["task"] in done.out
    picture = next(text for text in done.out.splitlines() if text.startswith("  failed tasks "))
    assert picture.endswith("█")
    assert any(bar in picture for bar in "▁▂▃▄▅")


def test_the_records_may_come_from_standard_input(
    turnout: CommandLine, monkeypatch: pytest.MonkeyPatch, bad_release: list[Record]
) -> None:
    text = "\n\n".join(line(record) for record in bad_release)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert turnout("judge", "-", "--json").json()["kind"] == "fail"


def test_an_open_verdict_says_what_is_still_needed(turnout: CommandLine, tmp_path: Path) -> None:
    done = turnout("judge", write(tmp_path, [line(record) for record in stream(1, units=300)]))
    assert done.code == 0
    assert done.out.startswith("inconclusive")
    assert "failed tasks within +3 points: about " in done.out
    assert "more tasks of the candidate" in done.out


def test_a_share_that_the_router_did_not_mean_is_said(turnout: CommandLine, tmp_path: Path) -> None:
    done = turnout("judge", write(tmp_path, [line(record) for record in stream(1, units=900, routed=0.05)]))
    assert done.out.startswith("hold (share of the tasks)")
    assert "NOT what the router meant" in done.out


def test_an_empty_file_proves_nothing(turnout: CommandLine, tmp_path: Path) -> None:
    done = turnout("judge", write(tmp_path, [""]))
    assert done.code == 0
    assert done.out.startswith("inconclusive")
    assert "no task is over yet" in done.out


def test_records_after_the_time_that_is_asked_for_are_left_out(
    turnout: CommandLine, tmp_path: Path, bad_release: list[Record]
) -> None:
    file = write(tmp_path, [line(record) for record in bad_release])
    view = turnout("judge", file, "--json", "--at", "300").json()
    assert view["at"] == 300.0
    assert view["ratio"]["units"] == sum(isinstance(record, Start) and record.at <= 300 for record in bad_release)


def test_a_time_after_the_last_record_lets_what_is_missing_count(turnout: CommandLine, tmp_path: Path) -> None:
    file = write(tmp_path, [START])
    assert turnout("judge", file, "--json").json()["open_units"] == 1
    late = turnout("judge", file, "--json", "--at", "4000").json()
    assert late["metrics"]["failure"]["stable"]["missing"] == 1


def test_a_day_without_traffic_is_no_fault_of_a_clock_but_one_record_from_next_week_is(
    turnout: CommandLine, tmp_path: Path
) -> None:
    days = [f'{{"start": "{day}", "arm": "stable", "probability": 0.5, "at": {day * 90_000}}}' for day in range(4)]
    wrong = '{"start": "wrong", "arm": "stable", "probability": 0.5, "at": 900000}'
    assert turnout("judge", write(tmp_path, days), "--json").json()["ratio"]["units"] == 3  # nothing bears the last out
    days.append('{"start": "last", "arm": "stable", "probability": 0.5, "at": 270001}')
    view = turnout("judge", write(tmp_path, [*days[:2], wrong, *days[2:]]), "--json").json()
    assert view["ratio"]["units"] == 5
    assert view["bad"] == {"impossible time": 1}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "Expecting property name"),
        ("[1]", "a record is a JSON object"),
        ('"start"', "a record is a JSON object"),
        ("{}", "either a key 'start' or a key 'outcome'"),
        ('{"start": "a", "outcome": "a"}', "either a key 'start' or a key 'outcome'"),
        ('{"start": "a", "at": 1, "arm": "stable"}', "needs a key 'probability'"),
        ('{"outcome": "a"}', "needs a key 'at'"),
        ('{"outcome": "a", "at": 1, "fialed": true}', "no key 'fialed'"),
        ('{"outcome": "a", "at": 1, "failed": 1}', "'failed' is 1, which is not true, false or null"),
        ('{"outcome": "a", "at": "1"}', "'at' is \"1\", which is not a number"),
        ('{"outcome": "a", "at": true}', "'at' is true, which is not a number"),
        ('{"outcome": 7, "at": 1}', "'outcome' is 7, which is not text"),
        ('{"outcome": "a", "at": 1, "cost": "much"}', "which is not a number or null"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_wrong_line_is_named_with_its_file(turnout: CommandLine, tmp_path: Path, text: str, problem: str) -> None:
    file = write(tmp_path, [START, "", text, START])
    done = turnout("judge", file)
    assert done.code == 3
    assert f"{file}, line 3: " in done.err
    assert problem in done.err
    assert '"probability"' in done.err


def test_a_line_that_is_not_text_is_named(turnout: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00garbage\n")
    done = turnout("judge", str(tmp_path / "binary"))
    assert done.code == 3
    assert "line 1: " in done.err


def test_values_that_make_no_sense_are_counted_and_stop_nothing(turnout: CommandLine, tmp_path: Path) -> None:
    lines = [
        START,
        '{"start": "b", "arm": "canary", "probability": 0.5, "at": 2}',
        '{"start": "c", "arm": "stable", "probability": 5, "at": 3}',
        '{"outcome": "a", "at": NaN}',
        '{"outcome": "a", "at": 4, "cost": -1}',
        '{"outcome": "z", "at": 5}',
    ]
    done = turnout("judge", write(tmp_path, lines))
    assert done.code == 0
    for kind in ("unknown arm", "probability not between 0 and 1", "impossible time", "impossible cost"):
        assert f"1 × {kind}" in done.out


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("judge.toml", 'metrics = ["failure"]\nages = [1, 10]\n[margins]\nfailure = 0.1\n'),
        ("judge.json", '{"metrics": ["failure"], "ages": [1, 10], "margins": {"failure": 0.1}}'),
    ],
)
def test_settings_come_from_toml_or_json(turnout: CommandLine, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    view = turnout("judge", write(tmp_path, [START]), "--config", str(tmp_path / name), "--json", "--at", "20").json()
    assert list(view["metrics"]) == ["failure"]
    assert view["metrics"]["failure"]["levels"][-1]["margin"] == 0.1
    assert view["open_units"] == 0


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("judge.toml", "alpha = ", "cannot be read"),
        ("judge.json", "{", "cannot be read"),
        ("judge.json", '{"aplha": 1}', "no setting 'aplha'"),
        ("judge.toml", "alpha = 2.0", "alpha"),
    ],
)
def test_wrong_settings_are_named_with_their_file(
    turnout: CommandLine, tmp_path: Path, name: str, text: str, problem: str
) -> None:
    (tmp_path / name).write_text(text)
    done = turnout("judge", write(tmp_path, [START]), "--config", str(tmp_path / name))
    assert done.code == 3
    assert name in done.err
    assert problem in done.err


def test_a_file_that_is_not_there_is_wrong_usage(turnout: CommandLine, tmp_path: Path) -> None:
    done = turnout("judge", str(tmp_path / "nothing"))
    assert done.code == 2
    assert "nothing" in done.err


def test_the_name_of_a_task_does_not_act_on_the_terminal(turnout: CommandLine, tmp_path: Path) -> None:
    lines = [line(record).replace('"t', '"\\u001b[2Jt') for record in stream(1, units=600, candidate=0.9)]
    done = turnout("judge", write(tmp_path, lines))
    assert "\\x1b[2Jt" in done.out
    assert "\x1b[2J" not in done.out


@pytest.mark.parametrize("units", [0, 1, 3, 50])
def test_any_verdict_can_be_shown_after_it_was_json(units: int, capsys: pytest.CaptureFixture[str]) -> None:
    judge = Judge()
    feed(judge, stream(2, units=units))
    show_evidence(json.loads(json.dumps(view_evidence(judge.verdict(1e4)))))
    assert "evidence against the candidate" in capsys.readouterr().out


@pytest.mark.parametrize(("units", "running", "told"), [(0, True, False), (50, True, True), (50, False, False)])
def test_what_is_still_needed_is_told_where_rates_are_known_and_more_can_come(
    units: int, running: bool, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = Judge()
    feed(judge, stream(2, units=units))
    show_evidence(json.loads(json.dumps(view_evidence(judge.verdict(1e4)))), running=running)
    assert ("still needed for a pass" in capsys.readouterr().out) is told


def test_the_guide_works_and_prints_as_written(tmp_path: Path) -> None:
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    printed = 0
    for block in BLOCK.finditer(GUIDE.read_text(encoding="utf-8")):
        if block["file"]:
            (tmp_path / block["file"]).write_text(block["text"])
            continue
        done = subprocess.run(
            ["bash", "-ec", block["text"]],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        if block["prints"]:
            assert done.stdout == block["prints"]
            printed += 1
    assert printed == 1


def test_the_lines_that_the_guide_shows_are_understood(turnout: CommandLine, tmp_path: Path) -> None:
    shown = re.search(r"```text\n(\{\"start\".*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    view = turnout("judge", write(tmp_path, shown[1].splitlines()), "--json").json()
    assert (view["ratio"]["candidates"], view["bad"]) == (1, {})


def test_every_setting_is_in_the_guide() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    missing = [field.name for field in fields(JudgeConfig) if f"`{field.name}`" not in text]
    assert missing == ["half_life", "ratio_alpha", "listed_units"]  # tuning, and what is seen of it
