"""The tasks of tau2 are read as they are, and the agent that follows them errs as it is told to."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tau2_world import EXAMPLE, PACKAGE, tau2_pins, tau2_tasks, write_tau2_agent
from turnout.manifest.json_schema import JsonSchema

# From the folder of the example, which `tests.tau2_world` puts on the path.
from adapter import case, parse_tasks, read_tasks  # isort: skip
from decisions import Mistake, Mistakes, decide, is_right, parse_mistakes, possible  # isort: skip
from recorded_tasks import Action, Fault, Task, load_tasks, write_tasks  # isort: skip
from tool_sources import read_tools  # isort: skip

TASK = {
    "id": "7",
    "user_scenario": {"instructions": {"reason_for_call": "Cancel it.", "known_info": None}},
    "evaluation_criteria": {
        "actions": [{"name": "cancel_pending_order", "arguments": {"order_id": "#W1", "reason": "no longer needed"}}]
    },
}


def test_all_tasks_of_both_domains_are_read_in_order() -> None:
    tasks = tau2_tasks()

    assert Counter(task.domain for task in tasks) == {"retail": 114, "airline": 50}
    assert len({task.id for task in tasks}) == 164
    assert [task.id for task in tasks[:2]] == ["retail-0", "retail-1"]
    assert sum(len(task.actions) for task in tasks) == 701
    assert tasks[0].wants.startswith("You received your order #W2378156")
    assert [action.tool for action in tasks[0].actions][-1] == "exchange_delivered_order_items"
    assert [action.writes for action in tasks[0].actions] == [False, False, False, False, True]


def test_every_recorded_action_fits_the_pinned_schema_of_its_tool() -> None:
    schemas = {pin.name: JsonSchema(pin.description["inputSchema"]) for pin in tau2_pins()}

    faults = [
        (task.id, action.tool, fault)
        for task in tau2_tasks()
        for action in task.actions
        if (fault := schemas[action.tool].fault(action.arguments))
    ]

    assert faults == []


def test_the_tool_manifest_holds_the_tools_of_the_package_and_marks_those_that_write() -> None:
    tools = read_tools(PACKAGE)

    assert {pin.name: pin.side_effects for pin in tau2_pins()} == {name: tool.writes for name, tool in tools.items()}
    assert {pin.name: pin.description["inputSchema"] for pin in tau2_pins()} == {
        name: tool.schema for name, tool in tools.items()
    }


def change(path: tuple[str | int, ...], value: Any) -> Callable[[Any], None]:
    def apply(task: Any) -> None:
        *outer, last = path
        for step in outer:
            task = task[step]
        task[last] = value

    return apply


ACTION = ("evaluation_criteria", "actions", 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change(("id",), None), "position 0 has no id"),
        (change(("user_scenario",), None), "task 7: user_scenario is missing"),
        (change(("user_scenario", "instructions"), "x"), "task 7: user_scenario: instructions is no dict"),
        (change(("evaluation_criteria", "actions"), None), "task 7: evaluation_criteria: actions is missing"),
        (change(ACTION, "x"), r"task 7: actions\[0\]: expected an object"),
        (change((*ACTION, "name"), "refund"), r"task 7: actions\[0\]: there is no tool refund"),
        (change((*ACTION, "arguments"), []), r"task 7: actions\[0\]: arguments is no dict"),
        (change((*ACTION, "arguments"), {"order": 1}), "order is not one of its arguments; order_id is missing"),
    ],
)
def test_a_wrong_task_is_named_with_what_is_wrong(change: Callable[[Any], None], said: str) -> None:
    task: dict[str, Any] = copy.deepcopy(TASK)
    change(task)

    with pytest.raises(Fault, match=said):
        list(parse_tasks("retail", [task], read_tools(PACKAGE)))


def test_a_task_that_is_there_twice_and_a_file_that_is_missing_are_named(tmp_path: Path) -> None:
    (tmp_path / "tau2").mkdir()
    (tmp_path / "tau2" / "domains").symlink_to(PACKAGE / "tau2" / "domains")
    tasks = tmp_path / "tau2" / "data" / "tau2" / "domains" / "retail" / "tasks.json"
    with pytest.raises(Fault, match=r"retail/tasks\.json.*No such file"):
        read_tasks(tmp_path, ["retail"])
    tasks.parent.mkdir(parents=True)
    tasks.write_text(json.dumps([TASK, TASK]))

    with pytest.raises(Fault, match="the task retail-7 is there twice"):
        read_tasks(tmp_path, ["retail"])


def test_the_adapter_writes_what_agent_and_evals_read(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "adapter.py", "--package", PACKAGE, "--folder", tmp_path],
        cwd=EXAMPLE,
        capture_output=True,
        text=True,
        check=True,
    )

    cases = [json.loads(line) for line in (tmp_path / "evals" / "cases.jsonl").read_text().splitlines()]
    assert done.stdout == "164 tasks, 701 actions\n"
    assert tuple(load_tasks(tmp_path / "tasks" / "tasks.jsonl").values()) == tau2_tasks()
    assert cases == [case(task) for task in tau2_tasks()]


def test_a_line_of_the_tasks_that_is_cut_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    write_tasks(path, tau2_tasks()[:2])
    path.write_text(path.read_text()[:-20])

    with pytest.raises(Fault, match=r"tasks\.jsonl:2: no task"):
        load_tasks(path)


def test_an_agent_without_mistakes_does_what_was_recorded() -> None:
    assert all(decide(task, run, Mistakes()) == task.actions for task in tau2_tasks() for run in ("0", "1"))


def test_mistakes_come_at_their_rate_independently_and_again_the_same() -> None:
    mistakes = Mistakes(rate=0.2, seed="one")
    runs = [[is_right(task, decide(task, str(run), mistakes)) for run in range(20)] for task in tau2_tasks()]

    wrong = sum(not right for task in runs for right in task)
    assert abs(wrong / 3280 - 0.2) < 0.02  # 0.02: 2.9 standard errors
    assert runs == [[is_right(task, decide(task, str(run), mistakes)) for run in range(20)] for task in tau2_tasks()]
    other = Mistakes(rate=0.2, seed="two")
    assert runs != [[is_right(task, decide(task, str(run), other)) for run in range(20)] for task in tau2_tasks()]
    always = sum(not any(task) for task in runs)
    assert always == 0  # were repeats of a task the same, a fifth of the tasks would never be right


@pytest.mark.parametrize("kind", list(Mistake))
def test_a_planted_mistake_changes_one_decision_wherever_it_can(kind: Mistake) -> None:
    able = [task for task in tau2_tasks() if kind in possible(task.actions)]
    for task in able:
        calls = decide(task, "any", Mistakes(planted={task.id: kind}))
        before, after = [action.key for action in task.actions], [action.key for action in calls]
        more = {Mistake.MISSING: -1, Mistake.EXTRA: 1}.get(kind, 0)
        assert before != after
        assert len(after) - len(before) == more
        assert (Counter(before) == Counter(after)) == (kind is Mistake.ORDER)
        if kind is Mistake.ARGUMENTS:
            assert sum(first != second for first, second in zip(before, after, strict=True)) == 1
    assert len(able) > 100


def test_a_changed_argument_still_fits_the_schema_so_that_it_reaches_the_tool() -> None:
    schemas = {pin.name: JsonSchema(pin.description["inputSchema"]) for pin in tau2_pins()}
    for task in tau2_tasks():
        if task.actions:
            calls = decide(task, "", Mistakes(planted={task.id: Mistake.ARGUMENTS}))
            assert [fault for call in calls if (fault := schemas[call.tool].fault(call.arguments))] == []


def test_a_task_without_actions_can_only_have_one_too_many() -> None:
    task = Task("t", "retail", "", ())

    assert len(decide(task, "", Mistakes(planted={"t": Mistake.MISSING}))) == 1
    assert not is_right(task, decide(task, "", Mistakes(rate=1.0)))
    assert is_right(task, ())


def test_settings_are_read_and_wrong_ones_refused() -> None:
    read = parse_mistakes({"ERROR_RATE": "0.1", "ERROR_SEED": "s", "PLANTED": "retail-3, retail-7:extra"})

    assert read == Mistakes(0.1, "s", {"retail-3": None, "retail-7": Mistake.EXTRA})
    assert parse_mistakes({}) == Mistakes()
    for wrong in ({"ERROR_RATE": "5"}, {"ERROR_RATE": "x"}, {"PLANTED": "retail-3:never"}):
        with pytest.raises(ValueError, match=r"between 0 and 1|could not convert|not a valid Mistake"):
            parse_mistakes(wrong)


def test_equal_calls_have_equal_keys() -> None:
    assert Action("t", {"a": 1, "b": [2]}).key == Action("t", {"b": [2], "a": 1}, writes=True).key
    assert Action("t", {"a": 1}).key != Action("t", {"a": "1"}).key


def test_an_agent_that_is_written_for_a_test_has_what_was_asked_for(tmp_path: Path) -> None:
    folder = write_tau2_agent(tmp_path, error_rate=0.1, planted=("retail-3:extra",), rings="[rings.dev]\n")

    manifest = (folder / "turnout.toml").read_text()
    assert 'ERROR_RATE = "0.1"' in manifest
    assert 'PLANTED = "retail-3:extra"' in manifest
    assert manifest.endswith("[rings.dev]\n")
    assert "[rings.production]" not in manifest
    assert len(load_tasks(folder / "tasks" / "tasks.jsonl")) == 164
