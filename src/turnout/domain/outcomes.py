"""What became of a task: reports from several sources; of each value the first that was received counts. Pure."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from enum import StrEnum

from turnout.domain.errors import InvalidRequest
from turnout.domain.models import Digest, Task

HEADER = "x-turnout-outcome"
REPORT, SILENCE = "report", "silence"  # rules by which answers tell of failures alone
LARGEST_COST = 1_000_000.0
TALLY_SECONDS = 10
MOST_REPORTS = 16  # of one task; more are refused
VALUES = ("failed", "intervened", "cost")  # what can be known of a task
_PATH = re.compile(r"\$(\.[A-Za-z_][A-Za-z0-9_-]*|\[\d+\])+")


class Source(StrEnum):
    """Where an outcome comes from."""

    REPORT = "report"  # somebody said so: HTTP, SDK, response header
    EVALUATION = "evaluation"  # an evaluation event of OpenTelemetry
    RULE = "rule"  # the agent's own answer, by the rule in its manifest
    GATEWAY = "gateway"  # what the task's calls of models cost


@dataclass(frozen=True, slots=True)
class Outcome:
    """One report about a task. None is unknown. `at` is when it was received, seconds since the epoch."""

    task: str
    source: Source
    at: float
    failed: bool | None = None
    intervened: bool | None = None
    cost: float | None = None
    reporter: str = ""
    detail: str = ""  # for people, such as why it failed
    agent: str | None = None  # where the task was, if the reporter said so
    ring: str | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a report.

    `state`: "counted"; "repeated" (known already); "waiting" (no such task has been seen yet); "contradicts" (kept; what was
    said before counts); "foreign" (kept; of another agent or ring than the task); "refused" (too many reports of one task).
    """

    task: str
    state: str
    agent: str | None = None  # the ring that the task was in, once it is known
    ring: str | None = None


def check_outcome(outcome: Outcome) -> Outcome:
    """As it can be stored, or `InvalidRequest` for what no task can have."""
    if not outcome.task or len(outcome.task) > 256:
        raise InvalidRequest("the id of a task has 1 to 256 characters")
    if outcome.task != _storable(outcome.task):
        raise InvalidRequest("the id of a task is a text in UTF-8 without the character NUL")
    if outcome.failed is None and outcome.intervened is None and outcome.cost is None:
        raise InvalidRequest(
            f"the report of task {outcome.task[:40]} says nothing", hint="give success, intervention or cost"
        )
    if outcome.cost is not None and not (math.isfinite(outcome.cost) and 0 <= outcome.cost <= LARGEST_COST):
        raise InvalidRequest(
            f"{outcome.cost} cannot be the cost of task {outcome.task[:40]}",
            hint=f"a cost is a number from 0 to {LARGEST_COST:,.0f}",
        )
    detail = _storable(outcome.detail)
    return outcome if detail == outcome.detail else replace(outcome, detail=detail)


def _storable(text: str) -> str:
    """What every database can hold of a text. Half of a surrogate pair is what is left of a character cut in two."""
    return text.replace("\0", "").encode(errors="replace").decode()


def parse_header(text: str) -> tuple[bool | None, bool | None, float | None]:
    """(failed, intervened, cost) of a header such as `failure; intervention; cost=0.12`. Raises `InvalidRequest`."""
    failed: bool | None = None
    intervened: bool | None = None
    cost: float | None = None
    for part in (piece.strip().lower() for piece in re.split("[;,]", text)):
        name, _, value = part.partition("=")
        if name in ("success", "failure") and not value:
            failed = name == "failure"
        elif name == "intervention" and not value:
            intervened = True
        elif name == "cost":
            try:
                cost = float(value)
            except ValueError:
                raise InvalidRequest(f"{value[:40]!r} is not a cost") from None
        elif part:
            raise InvalidRequest(
                f"{part[:40]!r} is not an outcome",
                hint="success, failure, intervention, cost=NUMBER, split by semicolons",
            )
    return failed, intervened, cost


def read_task(task: Task, rule: str) -> Outcome | None:
    """What an answer that is over says of its task: by the agent's header, else by the rule of its release. None: nothing.

    Rules: `status`: below 400 is a success. `report` and `silence`: reports decide, and the answer tells of failures alone.
    An answer in a conversation, whose caller named the task, tells of failures alone too: the next one may fail.
    A path such as `$.result.ok` into a JSON answer: a value that is not empty, 0, false or null is a success, an answer
    without it is a failure, and one that was captured only in part tells nothing. A status of 500 and more, and a
    connection that broke, is a failure by every rule, whatever the header promised.
    """
    if task.duration is None:
        return None
    at = task.at + task.duration
    ruled = _read_by_rule(task, rule, at)
    try:
        said = check_outcome(Outcome(task.task, Source.REPORT, at, *parse_header(task.report or ""), HEADER))
    except InvalidRequest:
        return ruled  # what cannot be read, or says nothing, says nothing
    if ruled is not None and (said.failed is None or _is_broken(task)):
        return replace(said, failed=ruled.failed, detail=ruled.detail)
    return said


def _read_by_rule(task: Task, rule: str, at: float) -> Outcome | None:
    failed, detail = _is_broken(task), f"status {task.status}" if task.status >= 100 else "the connection broke"
    if not failed and rule in (REPORT, SILENCE):
        return None
    if not failed and rule == "status":
        failed = task.status >= 400
    elif not failed:
        found = _read_answer(task, rule)
        if found is None:
            return None
        failed, detail = not found, f"{rule} says {'success' if found else 'failure'}"
    if not failed and task.task != task.request:
        return None
    return Outcome(task.task, Source.RULE, at, failed, reporter="rule", detail=detail)


def _is_broken(task: Task) -> bool:
    return task.status >= 500 or task.status < 100


def is_path(rule: str) -> bool:
    """Whether a rule is a path into a JSON answer."""
    return _PATH.fullmatch(rule) is not None


def _read_answer(task: Task, path: str) -> bool | None:
    if task.answer is None or len(task.answer) < task.bytes_out:
        return None
    try:
        value = json.loads(task.answer)
        for name, index in re.findall(r"\.([A-Za-z_][A-Za-z0-9_-]*)|\[(\d+)\]", path):
            value = value[name] if name else value[int(index)]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        return False
    return bool(value)


TaskKey = tuple[str, str, str]  # task, agent and ring: one name may be in use in several


@dataclass(frozen=True, slots=True)
class Known:
    """What counts of all reports of one task."""

    failed: bool | None = None
    intervened: bool | None = None
    cost: float | None = None

    def learn(self, more: Known) -> Known:
        """What is known with what else is known; what was known before stays."""
        values = {name: getattr(more, name) for name in VALUES if getattr(self, name) is None}
        return replace(self, **values)

    def take(self, outcome: Outcome) -> tuple[Known, Known, str]:
        """(what is known now, what of it is new, the state of the report): for each value the first report counts."""
        new, contradicts = {}, False
        for name in VALUES:
            before, said = getattr(self, name), getattr(outcome, name)
            if said is not None and before is None:
                new[name] = said
            contradicts = contradicts or (said is not None and before is not None and said != before)
        state = "counted" if new else "contradicts" if contradicts else "repeated"
        return replace(self, **new), Known(**new), state


@dataclass(frozen=True, slots=True)
class Observation:
    """What the judge of a rollout is fed with, in order: a task that began (`arm` is given), or what became of one."""

    seq: int
    task: str
    at: float
    arm: str | None = None
    probability: float | None = None
    failed: bool | None = None
    intervened: bool | None = None
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over the tasks of one release in one ring, for a while.

    `cost`: as reported, and what the calls of tasks cost that nobody reported the cost of.
    """

    requests: int = 0
    errors: int = 0
    interventions: int = 0
    cost: float = 0.0
    calls: int = 0  # of models, but for those that the gateway refused
    failed_calls: int = 0


@dataclass(frozen=True, slots=True)
class TallyKey:
    """Of what a tally is."""

    agent: str
    ring: str
    release: Digest
