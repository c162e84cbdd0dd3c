"""Evaluates runs of the agent: reads a case a line, gives the task to the agent, compares its calls with the recorded ones.

A case is {"id", "input": {"task"}, "expected": {"actions": [{"tool", "arguments"}]}, "repeat", "task"}; the agent is at
TURNOUT_AGENT_URL. For each case one line goes out: {"id", "repeat", "passed", "score", "cost", "duration", "detail"}. It
passes when the calls are the recorded ones, in their order; the score is the share of calls that both have. Standard library
only.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

TIMEOUT = 60.0  # seconds


def main() -> None:
    """Answer each line with a line, until there are no more."""
    url = os.environ["TURNOUT_AGENT_URL"].rstrip("/") + "/invocations"
    for line in sys.stdin:
        print(json.dumps(check(line, url), ensure_ascii=False), flush=True)


def check(line: str, url: str) -> dict[str, Any]:
    """The result of one case. What is wrong with the case or the agent is a result that has not passed."""
    began = time.monotonic()
    case: dict[str, Any] = {}
    try:
        case = json.loads(line)
        verdict = judge(_calls(case["expected"]["actions"]), *ask(url, case))
    except (ValueError, KeyError, TypeError) as error:
        verdict = _failed(f"no case, or no answer of this agent: {type(error).__name__}: {error}")
    except OSError as error:
        verdict = _failed(f"the agent did not answer: {error}")
    known = case if isinstance(case, dict) else {}
    about = {name: known[name] for name in known if name in {"id", "repeat"}}
    return {"id": "", **about, **verdict, "duration": round(time.monotonic() - began, 6)}


def ask(url: str, case: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """What the agent answered; why it could not, when it could not. Raises `OSError`, `ValueError`."""
    run = case.get("repeat", 0)
    body = json.dumps({**case["input"], "run": run}).encode()
    headers = {"Content-Type": "application/json", "x-turnout-task": case.get("task") or f"{case['id']}.{run}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=TIMEOUT) as response:
            return json.load(response), ""
    except urllib.error.HTTPError as error:
        return {}, f"the agent answered {error.code}: {error.read().decode(errors='replace')[:500]}"


def judge(expected: Sequence[str], answer: dict[str, Any], problem: str) -> dict[str, Any]:
    """Compare what was done with what was expected."""
    if problem:
        return _failed(problem)
    made = _calls(answer["calls"])
    same = sum(block.size for block in SequenceMatcher(None, expected, made, autojunk=False).get_matching_blocks())
    passed = made == list(expected) and answer["done"] is True
    cost = {"cost": answer["cost"]} if isinstance(answer.get("cost"), int | float) else {}
    score = same / max(len(expected), len(made)) if expected or made else 1.0
    detail = "" if passed else _difference(expected, made) or str(answer.get("reply", ""))
    return {"passed": passed, "score": round(score, 4), **cost, "detail": detail}


def _calls(actions: list[dict[str, Any]]) -> list[str]:
    return [f"{each['tool']} {json.dumps(each['arguments'], sort_keys=True, ensure_ascii=False)}" for each in actions]


def _difference(expected: Sequence[str], made: Sequence[str]) -> str:
    """The first place where they part."""
    for place, (wanted, done) in enumerate(zip(expected, made, strict=False), 1):
        if wanted != done:
            return f"call {place} is {done}, expected {wanted}"
    if len(expected) > len(made):
        return f"call {len(made) + 1} is missing: {expected[len(made)]}"
    return f"call {len(expected) + 1} is one too many: {made[len(expected)]}" if len(made) > len(expected) else ""


def _failed(detail: str) -> dict[str, Any]:
    return {"passed": False, "score": 0.0, "detail": detail}


if __name__ == "__main__":
    main()
