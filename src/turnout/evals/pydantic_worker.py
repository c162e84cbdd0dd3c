"""Runs the cases of a pydantic-evals dataset, as a worker of a suite. Started in the environment of the suite.

    python pydantic_worker.py DATASET [--task MODULE:FUNCTION] [--evaluators MODULE:NAMES] [--list]

It imports pydantic-evals and nothing of turnout, which need not be there. `--list` writes the ids of the cases. Without a
function that asks the agent the inputs are sent as JSON to its root, and its JSON answer is the output.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import inspect
import json
import os
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TIMEOUT = 600.0  # seconds; the suite has one of its own


def main() -> int:
    """List the cases, or run those that are asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--task")
    parser.add_argument("--evaluators")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    results = sys.stdout
    sys.stdout = sys.stderr  # what evaluators print is no result
    sys.path.insert(0, str(Path.cwd()))
    dataset = _load(options.dataset, options.evaluators)
    cases = dict(_named(dataset.cases))
    if options.list:
        for name in cases:
            _write(results, {"id": name})
        return 0
    task = _find(options.task) if options.task else _ask
    for line in sys.stdin:
        order = json.loads(line)
        _write(results, asyncio.run(_run(dataset, cases[order["id"]], task, order)))
    return 0


def _load(path: Path, evaluators: str | None) -> Any:
    try:
        from pydantic_evals import Dataset
    except ImportError:
        sys.exit("pydantic-evals is not in this environment: add it to the lock of the suite or the release")
    own = tuple(_find(evaluators)) if evaluators else ()
    return Dataset[Any, Any, Any].from_file(path, custom_evaluator_types=own)


def _find(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _named(cases: list[Any]) -> Iterator[tuple[str, Any]]:
    """Cases without a name are called by their place."""
    for number, case in enumerate(cases, start=1):
        yield case.name or f"case-{number}", case


async def _run(dataset: Any, case: Any, task: Callable[..., Any], order: dict[str, Any]) -> dict[str, Any]:
    name = order["id"]
    from pydantic_evals import Dataset

    def asked(inputs: Any) -> Any:
        os.environ["TURNOUT_EVAL_TASK"] = order["task"]
        return task(inputs)

    async def asked_async(inputs: Any) -> Any:
        os.environ["TURNOUT_EVAL_TASK"] = order["task"]
        return await task(inputs)

    one: Any = Dataset(name=dataset.name or "suite", cases=[case], evaluators=dataset.evaluators)
    with contextlib.redirect_stdout(sys.stderr):
        report = await one.evaluate(
            asked_async if inspect.iscoroutinefunction(task) else asked, progress=False, max_concurrency=1
        )
    if report.failures:
        return {"id": name, "error": report.failures[0].error_message}
    result = report.cases[0]
    asserted = {key: bool(item.value) for key, item in result.assertions.items()}
    scores = {key: float(item.value) for key, item in result.scores.items()}
    failed = [key for key, passed in asserted.items() if not passed]
    faults = [f"{item.name}: {item.error_message}" for item in result.evaluator_failures]
    answer: dict[str, Any] = {"id": name, "duration": result.task_duration, "scores": scores}
    if faults:
        return {"id": name, "error": "; ".join(faults)}
    if asserted:
        return answer | {"passed": not failed, "detail": f"not held: {', '.join(failed)}" if failed else ""}
    if scores and all(0 <= value <= 1 for value in scores.values()):
        return answer | {"score": sum(scores.values()) / len(scores)}
    return {"id": name, "error": "no evaluator asserts anything, or gives a score from 0 to 1"}


def _ask(inputs: Any) -> Any:
    """POST the inputs to the agent."""
    body = json.dumps(inputs).encode()
    headers = {"content-type": "application/json", "x-turnout-task": os.environ["TURNOUT_EVAL_TASK"]}
    request = urllib.request.Request(os.environ["TURNOUT_AGENT_URL"], body, headers)  # noqa: S310  (of the sandbox)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
        text = answer.read().decode()
    try:
        return json.loads(text)
    except ValueError:
        return text


def _write(stream: Any, content: dict[str, Any]) -> None:
    stream.write(json.dumps(content, ensure_ascii=False) + "\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
