"""Suites that are run: workers, commands, and everything that they do wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from turnout.domain.errors import InvalidRequest
from turnout.evals.run import MOST_PROBLEMS, Outcome, Progress, run_suite
from turnout.evals.suite import stage_suite
from turnout.manifest.eval_schema import Evals

ECHO = """
import json, sys
for line in sys.stdin:
    case = json.loads(line)
    {before}
    print(json.dumps({{"id": case["id"], "passed": True}}), flush=True)
{after}
"""


class PlainBench:
    """Programs as they are, without a sandbox."""

    def __init__(self, folder: Path, revive: Callable[[], None] | None = None) -> None:
        self.folder, self._revive = folder, revive

    def start(self, command: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / "errors").open("ab") as errors:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=dict(env), cwd=self.folder
            )

    def end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()

    def said(self) -> str:
        lines = (self.folder / "errors").read_text().splitlines()
        return lines[-1] if lines else ""

    def revive(self) -> str | None:
        if self._revive:
            self._revive()
        return None

    def cost_of(self, task: str) -> float | None:
        return 0.5 if "c1" in task else None


def run(
    folder: Path,
    program: str,
    cases: int | None = 8,
    more: Mapping[str, str] | None = None,
    revive: Callable[[], None] | None = None,
    **fields: object,
) -> Outcome:
    """Run a program as the suite, by the case where there are cases. `more`: of what each case consists too."""
    folder.mkdir(exist_ok=True)
    (folder / "suite.py").write_text(program)
    given: dict[str, object] = {"name": "answers", "command": ["python", "suite.py"], "repeat": 1, "timeout": 5.0}
    given |= {"require": {"success": 0.5}, "files": ["**"], **fields}
    files = [("suite.py", folder / "suite.py")]
    if cases is not None:
        given["cases"] = "cases.jsonl"
        (folder / "cases.jsonl").write_text(
            "".join(json.dumps({"id": f"c{n}", "input": n, **(more or {})}) + "\n" for n in range(cases))
        )
        files.append(("cases.jsonl", folder / "cases.jsonl"))
    suite = stage_suite(Evals.model_validate(given), files, folder / "staged")
    bench = PlainBench(folder / "staged", revive)
    return run_suite(suite, (sys.executable, "-S", "-E", "suite.py"), bench, lambda _: None)


def test_every_case_is_run_as_often_as_it_is_to_be(tmp_path: Path) -> None:
    outcome = run(tmp_path, ECHO.format(before="", after=""), cases=5, repeat=3)
    assert sorted((run.case, run.repeat) for run in outcome.runs) == [(f"c{c}", r) for c in range(5) for r in range(3)]
    assert (outcome.problems, outcome.expected) == ((), tuple(f"c{n}" for n in range(5)))
    assert {run.cost for run in outcome.runs if run.case == "c1"} == {0.5}
    assert all(run.duration is not None and run.duration >= 0 for run in outcome.runs)


def test_a_worker_that_dies_is_replaced_and_its_case_tried_again(tmp_path: Path) -> None:
    once = "import os; (case['id'] == 'c3' and not os.path.exists('m')) and (open('m', 'w').close(), os._exit(9))"
    outcome = run(tmp_path, ECHO.format(before=once, after=""))
    assert {run.case: run.tries for run in outcome.runs if run.tries > 1} == {"c3": 2}
    assert (outcome.problems, len(outcome.runs)) == ((), 8)


def test_a_case_that_kills_every_worker_counts_as_not_passed(tmp_path: Path) -> None:
    outcome = run(tmp_path, ECHO.format(before="case['id'] == 'c3' and sys.exit('no such index')", after=""))
    assert [(run.case, run.error) for run in outcome.runs if run.error] == [("c3", "the worker ended; no such index")]
    assert len(outcome.runs) == 8


def test_a_case_that_hangs_counts_as_not_passed_and_holds_up_no_other(tmp_path: Path) -> None:
    hang = "import time; case['id'] == 'c3' and time.sleep(60)"
    outcome = run(tmp_path, ECHO.format(before=hang, after=""), timeout=0.3, retries=0)
    assert [(run.case, run.error) for run in outcome.runs if run.error] == [("c3", "no result within 0.3 s")]
    assert len(outcome.runs) == 8


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("", "sys.exit(3)", "it ended with exit code 3"),
        ("", "print('good bye')", "it wrote more than it was asked for: good bye"),
        ("print('hello')", "", "it wrote what is no result: no JSON object: hello"),
        ("print(json.dumps({'id': 'zz', 'passed': True}))", "", 'it wrote a result for "zz" when it was given "c0"'),
    ],
)
def test_what_a_worker_does_wrong_is_a_problem(tmp_path: Path, before: str, after: str, said: str) -> None:
    outcome = run(tmp_path, ECHO.format(before=before, after=after), cases=1)
    assert [problem for problem in outcome.problems if problem.startswith(said)]
    assert [run.success for run in outcome.runs] == [1.0]


def test_a_suite_that_takes_too_long_has_a_result_for_each_case_all_the_same(tmp_path: Path) -> None:
    slow = "import time; time.sleep(0.3)"
    outcome = run(tmp_path, ECHO.format(before=slow, after=""), limit=0.5, parallel=1, retries=0)
    assert len(outcome.runs) == 8
    assert "the suite took too long" in {run.error for run in outcome.runs}


def test_a_worker_that_does_not_read_a_large_case_holds_up_nothing(tmp_path: Path) -> None:
    large = {"doc": "x" * 200_000}
    began = time.monotonic()
    deaf = run(tmp_path / "a", "import time; time.sleep(60)", cases=1, more=large, timeout=0.5, retries=0)
    loud = run(tmp_path / "b", "while True: print('x' * 1000)", cases=1, more=large, timeout=0.5, retries=0)
    assert [item.error for outcome in (deaf, loud) for item in outcome.runs] == ["no result within 0.5 s"] * 2
    assert all(item.duration is not None for item in deaf.runs)
    assert time.monotonic() - began < 10


def test_a_worker_gets_a_large_case_whole_although_it_speaks_first(tmp_path: Path) -> None:
    program = """
import json, sys
sys.stderr.write("x" * 100)
for line in sys.stdin:
    case = json.loads(line)
    print(json.dumps({"id": case["id"], "passed": len(case["doc"]) == 200_000, "detail": "y" * 1000}), flush=True)
"""
    outcome = run(tmp_path, program, cases=3, more={"doc": "x" * 200_000})
    assert [item.success for item in outcome.runs] == [1.0] * 3
    assert outcome.problems == ()


def test_half_a_character_in_a_case_reaches_the_worker(tmp_path: Path) -> None:
    outcome = run(
        tmp_path, ECHO.format(before="assert case['q'] == '\\ud83d'", after=""), cases=3, more={"q": "\ud83d"}
    )
    assert [item.success for item in outcome.runs] == [1.0] * 3


def test_the_agent_is_revived_in_the_thread_that_runs_the_suite(tmp_path: Path) -> None:
    seen: set[int] = set()
    run(tmp_path, ECHO.format(before="", after=""), revive=lambda: seen.add(threading.get_ident()))
    assert seen == {threading.get_ident()}


def test_what_breaks_a_worker_s_thread_is_a_problem_and_not_that_it_took_too_long(tmp_path: Path) -> None:
    def fail() -> None:
        raise ValueError("no agent")

    outcome = run(tmp_path, ECHO.format(before="", after=""), revive=fail)
    assert outcome.problems == ("a worker could not go on: ValueError: no agent",)
    assert {item.error for item in outcome.runs} == {"no worker was left to run it"}


def test_a_command_that_writes_garbage_is_ended(tmp_path: Path) -> None:
    program = "import itertools\nfor n in itertools.count(): print('garbage', n, flush=True)"
    outcome = run(tmp_path, program, cases=None, repeat=1)
    assert len(outcome.problems) == MOST_PROBLEMS


LISTS = """
import json, os, sys, time
for n in range(4):
    print(json.dumps({"id": f"c%d" % n, "passed": n != 2}), flush=True)
"""


def test_a_command_that_knows_its_cases_is_run_once_a_repeat(tmp_path: Path) -> None:
    outcome = run(tmp_path, LISTS, cases=None, repeat=2)
    assert outcome.expected == ("c0", "c1", "c2", "c3")
    assert sorted((run.case, run.repeat) for run in outcome.runs if run.success < 1) == [("c2", 0), ("c2", 1)]
    assert outcome.problems == ()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("sys.exit(3)", "it ended with exit code 3"),
        ("print('{')", "it wrote what is no result: no JSON object: {"),
        ('print(json.dumps({"id": "c1", "passed": True}))', 'it wrote more than one result for "c1" in repeat 1'),
        ("time.sleep(60)", "the command wrote no result for 0.5 s"),
    ],
)
def test_what_a_command_does_wrong_is_a_problem(tmp_path: Path, more: str, said: str) -> None:
    outcome = run(tmp_path, LISTS + more, cases=None, timeout=0.5)
    assert [problem for problem in outcome.problems if problem.startswith(said)], outcome.problems


def test_a_program_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    table = Evals.model_validate({"name": "answers", "command": ["x"], "require": {"success": 0.5}, "repeat": 1})
    suite = stage_suite(table, [], tmp_path / "staged")
    (tmp_path / "staged").mkdir()
    outcome = run_suite(suite, ("/no/such/program",), PlainBench(tmp_path / "staged"), lambda _: None)
    assert outcome.problems == ("/no/such/program cannot be started: No such file or directory",)


def test_progress_is_told(tmp_path: Path) -> None:
    seen: list[Progress] = []
    (tmp_path / "suite.py").write_text(LISTS)
    table = Evals.model_validate({"name": "answers", "command": ["x"], "require": {"success": 0.5}, "repeat": 1})
    suite = stage_suite(table, [("suite.py", tmp_path / "suite.py")], tmp_path / "staged")
    run_suite(suite, (sys.executable, "-S", "-E", "suite.py"), PlainBench(tmp_path / "staged"), seen.append)
    assert [(item.done, item.total, item.failed) for item in seen] == [
        (1, None, 0),
        (2, None, 0),
        (3, None, 1),
        (4, None, 1),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "cases.jsonl holds 0 cases"),
        ("[]\n", "cases.jsonl, line 1: no JSON object: []"),
        ('{"id": "a"}\n{"id": "a"}\n', 'cases.jsonl, line 2: the case "a" is there twice'),
        ('{"id": "a", "task": 1}\n', 'cases.jsonl, line 1: "task" is what a run is given'),
        ('{"ID": "a"}\n', 'cases.jsonl, line 1: "id" has to be'),
    ],
)
def test_cases_that_are_none_are_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "cases.jsonl").write_text(content)
    table = Evals.model_validate(
        {"name": "answers", "command": ["x"], "cases": "cases.jsonl", "require": {"success": 0.5}}
    )
    with pytest.raises(InvalidRequest) as raised:
        stage_suite(table, [("cases.jsonl", tmp_path / "cases.jsonl")], tmp_path / "staged")
    assert said in raised.value.message


def test_the_digest_of_a_suite_is_of_what_decides(tmp_path: Path) -> None:
    (tmp_path / "check.py").write_text("1")
    base = {"name": "answers", "command": ["x"], "require": {"success": 0.5}}

    def digest(number: int, **more: object) -> str:
        table = Evals.model_validate({**base, **more})
        return stage_suite(table, [("check.py", tmp_path / "check.py")], tmp_path / f"staged{number}").digest

    first = digest(1)
    assert digest(2, parallel=9, limit=10.0) == first
    assert first not in (digest(5, timeout=1.0), digest(6, retries=10))
    assert digest(3, require={"success": 0.6}) != first
    (tmp_path / "check.py").write_text("2")
    assert digest(4) != first
