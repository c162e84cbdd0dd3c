"""What the agent decides to do: the recorded actions of a task, or those with one mistake in them. Pure.

Mistakes come by chance, with a rate, independently for each run of a task; the same seed, task and run give the same
mistake. Or they are planted: the named tasks go wrong in one decision, in every run.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any

from recorded_tasks import Action, Task

Actions = tuple[Action, ...]
_LAST_DIGIT = re.compile(r"\d(?=\D*$)")


class Mistake(StrEnum):
    """How one decision can be wrong."""

    ARGUMENTS = "arguments"  # a call with another argument
    MISSING = "missing"  # a call that is left out
    EXTRA = "extra"  # a call too many
    ORDER = "order"  # two calls in the wrong order


@dataclass(frozen=True, slots=True)
class Mistakes:
    """How often the agent is wrong, and where. `planted`: by task, None lets the seed choose."""

    rate: float = 0.0
    seed: str = ""
    planted: Mapping[str, Mistake | None] = field(default_factory=dict)


def parse_mistakes(settings: Mapping[str, str]) -> Mistakes:
    """From ERROR_RATE, ERROR_SEED and PLANTED (`retail-3,retail-7:extra`). Raises `ValueError`."""
    rate = float(settings.get("ERROR_RATE") or "0")
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"ERROR_RATE is a share between 0 and 1, not {rate:g}")
    planted: dict[str, Mistake | None] = {}
    for entry in filter(None, (part.strip() for part in settings.get("PLANTED", "").split(","))):
        task, _, kind = entry.partition(":")
        planted[task] = Mistake(kind) if kind else None
    return Mistakes(rate, settings.get("ERROR_SEED", ""), planted)


def decide(task: Task, run: str, mistakes: Mistakes) -> Actions:
    """The calls to make, in order. `run` tells the runs of a task apart."""
    if task.id in mistakes.planted:
        chance = random.Random(f"{mistakes.seed}/{task.id}")
        return _with_mistake(task.actions, mistakes.planted[task.id], chance)
    if mistakes.rate <= 0.0:
        return task.actions
    chance = random.Random(f"{mistakes.seed}/{task.id}/{run}")
    return _with_mistake(task.actions, None, chance) if chance.random() < mistakes.rate else task.actions


def is_right(task: Task, calls: Sequence[Action]) -> bool:
    """Whether these are the recorded calls, in their order. Stricter than tau2, which compares what is in the end."""
    return [call.key for call in calls] == [action.key for action in task.actions]


def possible(actions: Actions) -> tuple[Mistake, ...]:
    """The mistakes that change something: a task without actions can only have one too many."""
    kinds = [Mistake.EXTRA]
    if actions:
        kinds += [Mistake.MISSING]
    if any(action.arguments for action in actions):
        kinds += [Mistake.ARGUMENTS]
    if any(_swaps(actions)):
        kinds += [Mistake.ORDER]
    return tuple(kinds)


def _with_mistake(actions: Actions, kind: Mistake | None, chance: random.Random) -> Actions:
    kinds = possible(actions)
    return _MAKE[kind if kind in kinds else chance.choice(kinds)](actions, chance)


def _other_arguments(actions: Actions, chance: random.Random) -> Actions:
    """In a call that writes, if there is one."""
    candidates = [place for place, action in enumerate(actions) if action.arguments]
    place = chance.choice([each for each in candidates if actions[each].writes] or candidates)
    before = actions[place]
    names = sorted(before.arguments)
    name = chance.choice([each for each in names if _has_number(before.arguments[each])] or names)
    arguments = {**before.arguments, name: _other(before.arguments[name])}
    return (*actions[:place], Action(before.tool, arguments, before.writes), *actions[place + 1 :])


def _one_less(actions: Actions, chance: random.Random) -> Actions:
    place = chance.randrange(len(actions))
    return actions[:place] + actions[place + 1 :]


def _one_more(actions: Actions, chance: random.Random) -> Actions:
    """The last call that writes once more, or the customer is handed to a person for no reason."""
    writes = [action for action in actions if action.writes]
    if writes and chance.random() < 0.5:
        return (*actions, writes[-1])
    handed_on = Action("transfer_to_human_agents", {"summary": "The agent gave up without a reason."}, writes=True)
    return (*actions, handed_on)


def _swapped(actions: Actions, chance: random.Random) -> Actions:
    place = chance.choice([place for place, swaps in enumerate(_swaps(actions)) if swaps])
    return (*actions[:place], actions[place + 1], actions[place], *actions[place + 2 :])


_MAKE: Mapping[Mistake, Callable[[Actions, random.Random], Actions]] = {
    Mistake.ARGUMENTS: _other_arguments,
    Mistake.MISSING: _one_less,
    Mistake.EXTRA: _one_more,
    Mistake.ORDER: _swapped,
}


def _swaps(actions: Actions) -> list[bool]:
    """By position: whether the call and its next one differ."""
    return [first.key != second.key for first, second in pairwise(actions)]


def _has_number(value: Any) -> bool:
    """Whether another value is likely to fit the schema of the argument: one with another number in it."""
    if isinstance(value, str):
        return _LAST_DIGIT.search(value) is not None
    if isinstance(value, list):
        return any(_has_number(each) for each in value)
    if isinstance(value, dict):
        return any(_has_number(each) for each in value.values())
    return isinstance(value, int | float) and not isinstance(value, bool)


def _other(value: Any) -> Any:
    """A value that differs in one place, of the same form."""
    if isinstance(value, str):
        changed, count = _LAST_DIGIT.subn(lambda digit: str((int(digit[0]) + 1) % 10), value)
        return changed if count else f"{value} or other"
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        place = next((number for number, each in enumerate(value) if _has_number(each)), 0)
        return [*value[:place], _other(value[place]), *value[place + 1 :]] if value else [{}]
    if isinstance(value, dict):
        name = next((name for name in sorted(value) if _has_number(value[name])), None)
        return {**value, name: _other(value[name])} if name is not None else {**value, "other": True}
    return "other"
