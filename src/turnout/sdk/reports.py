"""One report as it is sent, and what cannot be reported. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

Report = Mapping[str, Any]

LONGEST_TASK = 256
LONGEST_DETAIL = 1_000
LARGEST_COST = 1_000_000
LARGEST_BODY = (
    512 << 10
)  # bytes of a request: half of what proxies let through by default, an eighth of what turnout does


def build_report(task: str, said: Mapping[str, Any], detail: str, agent: str | None, ring: str | None) -> Report:
    """A report as the server reads it; what is not known is left out."""
    report = {"task": task, **{name: value for name, value in said.items() if value is not None}}
    for name, text in (("detail", detail), ("agent", agent), ("ring", ring)):
        if text:
            report[name] = str(text)[:LONGEST_DETAIL]
    return report


def pack(reports: Iterable[Report]) -> tuple[int, bytes]:
    """The body of a request, and how many of the reports are in it: as many of the first as it may hold, at least one."""
    texts, size = list[bytes](), 0
    for report in reports:
        text = json.dumps(report, ensure_ascii=False).encode(errors="replace")
        size += len(text) + 1
        if texts and size > LARGEST_BODY:
            break
        texts.append(text)
    return len(texts), b'{"outcomes":[%s]}' % b",".join(texts)


def find_fault(task: str | None, said: Mapping[str, Any]) -> str | None:
    """Why something cannot be reported: what the server would refuse must not be sent again and again with the rest."""
    if not isinstance(task, str) or not 1 <= len(task) <= LONGEST_TASK:
        return f"the id of a task has 1 to {LONGEST_TASK} characters"
    if task.encode(errors="replace").decode() != task:
        return "the id of a task is a text in UTF-8"
    for name in ("success", "intervention"):
        if not isinstance(said.get(name), bool | None):
            return f"{name} is True, False or None"
    cost = said.get("cost")
    if cost is not None:
        if isinstance(cost, bool) or not isinstance(cost, int | float):
            return "a cost is a number"
        if not 0 <= cost <= LARGEST_COST:
            return f"a cost is from 0 to {LARGEST_COST:,}"
    return "it says nothing" if all(value is None for value in said.values()) else None
