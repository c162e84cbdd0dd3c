"""Reports of replays ↔ JSON documents, which are stored under their digest. Pure.

    {"schema": 1, "agent": …, "baseline": …, "candidate": …, "tasks": [{"task": …, "verdict": "same", "steps": […]}]}

See `strict_documents.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from turnout.domain.replays import LONGEST_SIDE, Came, Change, ChangeKind, ReplayReport, ReplaySummary, TaskDiff
from turnout.domain.strict_documents import StrictDocuments

SCHEMA = 1
LARGEST_REPORT = 1 << 20  # bytes of one that an instance keeps, if it can be cut so far


def render_report(report: ReplayReport) -> bytes:
    """The document, without a line feed."""
    return _documents.render(report)


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
    return _documents.parse(content, ReplayReport)


def summary_document(summary: ReplaySummary) -> dict[str, Any]:
    """As a row of the database and the API hold it."""
    return asdict(summary)


def parse_summary(document: Mapping[str, Any]) -> ReplaySummary:
    """Raises `InvalidRequest`."""
    return _documents.read(document, ReplaySummary, "summary")


_documents = StrictDocuments(
    "a report of a replay", SCHEMA, (ReplayReport, TaskDiff, Change, ReplaySummary), (Came, ChangeKind)
)
