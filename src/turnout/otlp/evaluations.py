"""Evaluation events of the GenAI conventions → reports about tasks.

An event is a log record or an event of a span, called `gen_ai.evaluation.result`. It says what it evaluated by the
attribute `turnout.task`, else by the id of the conversation, on the event itself, on its span, or on the resource. All other
records are passed over: they are none of turnout's business.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from turnout.domain.errors import InvalidRequest
from turnout.domain.outcomes import Outcome, Source, check_outcome
from turnout.otlp.events import Attributes, Value

# The conventions have moved between repositories, so the names are kept here.
NAME = "gen_ai.evaluation.name"
SCORE = "gen_ai.evaluation.score.value"
LABEL = "gen_ai.evaluation.score.label"
EXPLANATION = "gen_ai.evaluation.explanation"
TASK = "turnout.task"
THRESHOLD = "turnout.threshold"
INTERVENTION = "turnout.intervention"
CONVERSATIONS = ("session.id", "gen_ai.conversation.id")
DEFAULT_THRESHOLD = 0.5

_PASSES = {"pass", "passed", "success", "successful", "succeeded", "correct", "relevant", "good", "ok", "true", "yes"}
_FAILS = {"fail", "failed", "failure", "unsuccessful", "incorrect", "not_relevant", "irrelevant", "bad", "false", "no"}
_LONGEST_DETAIL = 1_000


class Read(NamedTuple):
    """What a request says of tasks, and why some of its evaluation events say nothing that can be used."""

    outcomes: list[Outcome]
    rejected: list[str]


def read_evaluations(events: Iterable[tuple[Attributes, ...]]) -> Read:
    """The reports that some events make. One that cannot be used does not hinder the others."""
    read = Read([], [])
    for event, *around in events:
        try:
            read.outcomes.append(read_evaluation(event, *around))
        except InvalidRequest as error:
            read.rejected.append(f"{error.message}; {error.hint}" if error.hint else error.message)
    return read


def read_evaluation(event: Attributes, *around: Attributes) -> Outcome:
    """The report that one event makes; `around` are the attributes of its span and resource, the nearest first.

    The label decides if it is a known one, else the score: from the threshold on (0.5 unless `turnout.threshold` says
    otherwise) the task succeeded. Raises `InvalidRequest` when it names no task, or says nothing of one.
    """
    places = (event, *around)
    task = _find_task(places)
    name = str(event.get(NAME, "evaluation"))
    succeeded = _succeeded(event, places)
    intervened = _first(places, (INTERVENTION,))
    shown = event.get(LABEL, event.get(SCORE, ""))
    explanation = event.get(EXPLANATION, "")
    detail = "; ".join(part for part in (f"{name}: {shown}" if shown != "" else name, str(explanation)) if part)
    return check_outcome(
        Outcome(
            task,
            Source.EVALUATION,
            0.0,  # the time is the server's, and is set where the report is taken in
            failed=None if succeeded is None else not succeeded,
            intervened=intervened if isinstance(intervened, bool) else None,
            detail=detail[:_LONGEST_DETAIL],
        )
    )


def _find_task(places: Iterable[Attributes]) -> str:
    searched = list(places)
    task = _first(searched, (TASK,))
    if task is None:
        task = _first(searched, CONVERSATIONS)
    if not isinstance(task, str) or not task:
        raise InvalidRequest("an evaluation names no task", hint=f"set the attribute {TASK}, or {CONVERSATIONS[0]}")
    return task


def _succeeded(event: Attributes, places: Iterable[Attributes]) -> bool | None:
    label = event.get(LABEL)
    said = str(label).strip().lower().replace(" ", "_").replace("-", "_") if label is not None else ""
    if said in _PASSES or said in _FAILS:
        return said in _PASSES
    score = _number(event.get(SCORE))
    if score is None:
        return None
    threshold = _number(_first(places, (THRESHOLD,)))
    return score >= (DEFAULT_THRESHOLD if threshold is None else threshold)


def _number(value: Value | None) -> float | None:
    """A finite number; True and False count as 1 and 0."""
    if value is None or isinstance(value, str):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if math.isfinite(number) else None


def _first(places: Iterable[Attributes], names: Iterable[str]) -> Value | None:
    """What the nearest place says."""
    wanted = tuple(names)
    return next((place[name] for place in places for name in wanted if name in place), None)
