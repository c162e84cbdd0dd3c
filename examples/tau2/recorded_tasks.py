"""What a task is, as agent, evaluator and adapter share it: frozen values, and their JSON lines.

Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Fault(ValueError):
    """A file that cannot be used; the message names the file and the task."""


@dataclass(frozen=True, slots=True)
class Action:
    """One call of a tool. `writes`: whether it changes anything."""

    tool: str
    arguments: Mapping[str, Any]
    writes: bool = False

    @property
    def key(self) -> str:
        """Canonical JSON of what is called: equal for equal calls."""
        return json.dumps([self.tool, self.arguments], sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Task:
    """What a user wants, and the calls that do it, in order. `id`: the domain and its number, such as retail-17."""

    id: str
    domain: str
    wants: str
    actions: tuple[Action, ...]


def write_tasks(path: Path, tasks: Iterable[Task]) -> None:
    """As JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(_document(task), ensure_ascii=False)}\n" for task in tasks), encoding="utf-8")


def load_tasks(path: Path) -> dict[str, Task]:
    """The tasks of a file that `write_tasks` wrote, by id. Raises `Fault`, and `OSError`."""
    tasks: dict[str, Task] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            task = _task(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise Fault(f"{path}:{number}: no task: {type(error).__name__}: {error}") from error
        if task.id in tasks:
            raise Fault(f"{path}:{number}: the task {task.id} is there twice")
        tasks[task.id] = task
    return tasks


def action_document(action: Action) -> dict[str, Any]:
    """An action as JSON has it."""
    return {"tool": action.tool, "arguments": dict(action.arguments), "writes": action.writes}


def _document(task: Task) -> dict[str, Any]:
    actions = [action_document(action) for action in task.actions]
    return {"id": task.id, "domain": task.domain, "wants": task.wants, "actions": actions}


def _task(document: Any) -> Task:
    actions = (Action(each["tool"], dict(each["arguments"]), bool(each["writes"])) for each in document["actions"])
    return Task(document["id"], document["domain"], document["wants"], tuple(actions))
