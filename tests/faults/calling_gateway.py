"""Writes calls into a journal as a process of the gateway does, until it is told to end: `FOLDER NAME LARGEST`.

Prints how many it wrote. Files are small, so that they rotate often.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from turnout.domain.calls import Call, ModelCall, ToolCall
from turnout.domain.models import Digest
from turnout.gateway.journal import Journal

RELEASE = Digest("sha256:" + "a" * 64)
TASK = "task-of-{name}"


def main(folder: str, name: str, largest: str) -> None:
    """Write until SIGTERM."""
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: ended.append(number))
    journal, number = Journal(Path(folder), name, largest=int(largest)), 0
    while not ended:
        journal.write(_call(name, number))
        number += 1
        time.sleep(0.001)
    journal.close()
    print(number, flush=True)


def _call(name: str, number: int) -> Call:
    kind = ToolCall if number % 5 == 0 else ModelCall
    what = {"server": "docs", "tool": "search"} if kind is ToolCall else {"provider": "openai", "model": "large"}
    if kind is ModelCall:
        what["endpoint"] = "messages"
    where = ("support", "production", RELEASE, TASK.format(name=name))
    return kind(f"{name}-{number}", time.time(), 0.01, *where, **what)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
