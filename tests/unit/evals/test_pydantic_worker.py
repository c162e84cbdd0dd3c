"""Datasets of pydantic-evals, run by the worker that is shipped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from turnout.evals import pydantic_worker
from turnout.evals.contract import parse_result

DATASET = """
name: answers
cases:
- name: right
  inputs: {say: "yes"}
  expected_output: "yes"
- name: wrong
  inputs: {say: "no"}
  expected_output: "yes"
- inputs: {say: 7}
  expected_output: 7
evaluators:
- EqualsExpected
"""
TASK = """
def answer(inputs):
    print("asked")
    if inputs["say"] == 7:
        raise ValueError("the agent is gone")
    return inputs["say"]
"""


def run(folder: Path, *arguments: str, orders: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, pydantic_worker.__file__, "answers.yaml", *arguments]
    return subprocess.run(command, input=orders, capture_output=True, text=True, cwd=folder, timeout=60, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "answers.yaml").write_text(DATASET)
    (tmp_path / "ask.py").write_text(TASK)
    return tmp_path


def test_a_dataset_names_its_cases_and_runs_them(folder: Path) -> None:
    listed = run(folder, "--list")
    assert [json.loads(line)["id"] for line in listed.stdout.splitlines()] == ["right", "wrong", "case-3"]
    orders = "".join(json.dumps({"id": name, "task": f"t-{name}"}) + "\n" for name in ("wrong", "right", "case-3"))
    done = run(folder, "--task", "ask:answer", orders=orders)
    runs = [parse_result(line.encode(), 0) for line in done.stdout.splitlines()]
    assert [(run.case, run.success, bool(run.error)) for run in runs] == [
        ("wrong", 0.0, False),
        ("right", 1.0, False),
        ("case-3", 0.0, True),
    ]
    assert (runs[0].detail, "the agent is gone" in runs[2].error) == ("not held: EqualsExpected", True)
    assert (done.returncode, done.stdout.count("asked")) == (0, 0)


def test_a_dataset_that_is_none_is_an_error(folder: Path) -> None:
    (folder / "answers.yaml").write_text("cases: 7")
    assert run(folder, "--list").returncode != 0
