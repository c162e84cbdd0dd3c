"""Which task a call belongs to, as its headers tell it. Pure."""

from __future__ import annotations

from urllib.parse import unquote_plus

TASK_HEADER = "x-turnout-task"
BAGGAGE_MEMBER = "turnout.task"
LONGEST_TASK = 256  # characters, as the proxy has it
NO_TASK = f"{TASK_HEADER} has to be 1 to {LONGEST_TASK} printable characters"


def is_task(text: str) -> bool:
    """Whether a text can be the id of a task."""
    return 0 < len(text) <= LONGEST_TASK and text.isprintable() and "\ufffd" not in text


def task_in_baggage(baggage: str) -> str | None:
    """The task that a W3C baggage header names. Baggage that makes no sense is not the agent's doing: no task."""
    for member in baggage.split(","):
        name, _, value = member.partition(";")[0].partition("=")
        if name.strip() == BAGGAGE_MEMBER:
            task = unquote_plus(value.strip())  # OpenTelemetry writes a space as a plus, and a plus as %2B
            return task if is_task(task) else None
    return None
