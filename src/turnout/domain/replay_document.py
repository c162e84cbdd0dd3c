"""Reports of replays ↔ JSON documents, which are stored under their digest. Pure.

    {"schema": 1, "agent": …, "baseline": …, "candidate": …, "tasks": [{"task": …, "verdict": "same", "steps": […]}]}

Keys are sorted, and there is no white space: equal reports give equal bytes. Reading is strict.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from turnout.domain.errors import InvalidRequest
from turnout.domain.models import Digest
from turnout.domain.replays import LONGEST_SIDE, Came, Change, ChangeKind, ReplayReport, ReplaySummary, TaskDiff

SCHEMA = 1
LARGEST_REPORT = 1 << 20  # bytes of one that an instance keeps, if it can be cut so far
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def render_report(report: ReplayReport) -> bytes:
    """The document, without a line feed."""
    document = {"schema": SCHEMA, **_plain(report)}
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain
    ).encode(errors="replace")


def render_within(report: ReplayReport, limit: int) -> bytes:
    """The document in at most so many bytes, if that can be: without steps that are the same, then with long texts cut.

    What the tasks add up to stays as it is.
    """
    content = render_report(report)
    if len(content) <= limit:
        return content
    told = tuple(replace(task, steps=task.changes) for task in report.tasks)
    for longest in (LONGEST_SIDE, 1_000, 100):
        cut = tuple(replace(task, steps=tuple(_shortened(step, longest) for step in task.steps)) for task in told)
        content = render_report(replace(report, tasks=cut))
        if len(content) <= limit:
            return content
    return render_report(replace(report, tasks=tuple(replace(task, steps=()) for task in told)))


def _shortened(step: Change, longest: int) -> Change:
    before, after = (text if len(text) <= longest else f"{text[:longest]}…" for text in (step.before, step.after))
    return replace(step, before=before, after=after)


def parse_report(content: bytes) -> ReplayReport:
    """The report of a document. Raises `InvalidRequest` that names the place which is wrong."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _invalid("", f"no JSON document ({error})") from None
    if not isinstance(document, dict) or document.pop("schema", None) != SCHEMA:
        raise _invalid("schema", f"expected an object with schema {SCHEMA}")
    report = _read(ReplayReport, document, "")
    assert isinstance(report, ReplayReport)  # noqa: S101  # for the type checker
    return report


def summary_document(summary: ReplaySummary) -> dict[str, Any]:
    """As a row of the database and the API hold it."""
    return _plain(summary)


def parse_summary(document: Mapping[str, Any]) -> ReplaySummary:
    """Raises `InvalidRequest`."""
    summary = _read(ReplaySummary, dict(document), "summary")
    assert isinstance(summary, ReplaySummary)  # noqa: S101  # for the type checker
    return summary


def _plain(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _read(kind: type, value: object, place: str) -> Any:
    if not isinstance(value, dict):
        raise _invalid(place, "expected an object")
    readers = _READERS[kind]
    for name in (*value.keys(), *readers.keys()):
        if name not in readers or name not in value:
            raise _invalid(_join(place, str(name)[:40]), "unknown key" if name in value else "is missing")
    return kind(**{name: read(value[name], _join(place, name)) for name, read in readers.items()})


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise _invalid(place, "expected a text")
    return value


def _flag(value: object, place: str) -> bool:
    if not isinstance(value, bool):
        raise _invalid(place, "expected true or false")
    return value


def _count(value: object, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _invalid(place, "expected a whole number of at least 0")
    return value


def _number(value: object, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise _invalid(place, "expected a number of at least 0")
    return float(value)


def _maybe_number(value: object, place: str) -> float | None:
    return None if value is None else _number(value, place)


def _digest(value: object, place: str) -> Digest:
    text = _text(value, place)
    if not _DIGEST.fullmatch(text):
        raise _invalid(place, "expected a digest")
    return Digest(text)


def _one_of(kind: type[Came] | type[ChangeKind]) -> Callable[[object, str], object]:
    def read(value: object, place: str) -> object:
        try:
            return kind(_text(value, place))
        except ValueError:
            raise _invalid(place, f"expected one of {', '.join(kind)}") from None

    return read


def _list_of(kind: type) -> Callable[[object, str], object]:
    def read(value: object, place: str) -> object:
        if not isinstance(value, list):
            raise _invalid(place, "expected a list")
        return tuple(_read(kind, item, f"{place}[{index}]") for index, item in enumerate(value))

    return read


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _invalid(place: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"not a report of a replay: {place}: {message}" if place else message)


_BY_TYPE: Mapping[str, Callable[[Any, str], object]] = {
    "str": _text,
    "bool": _flag,
    "int": _count,
    "float": _number,
    "float | None": _maybe_number,
    "Digest": _digest,
    "Came": _one_of(Came),
    "ChangeKind": _one_of(ChangeKind),
    "tuple[Change, ...]": _list_of(Change),
    "tuple[TaskDiff, ...]": _list_of(TaskDiff),
}
_READERS: Mapping[type, Mapping[str, Callable[[Any, str], object]]] = {
    kind: {field.name: _BY_TYPE[str(field.type)] for field in fields(kind)}
    for kind in (ReplayReport, TaskDiff, Change, ReplaySummary)
}
