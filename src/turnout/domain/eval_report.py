"""The report of a suite: everything that was run and what it was held against, as one JSON document. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from turnout.domain.errors import InvalidRequest
from turnout.domain.evals import COST, LATENCY, SCORE, SUCCESS, Bar, Finding, Run, Verdict, judge_suite
from turnout.domain.models import Digest

SCHEMA = 1
MOST_RUNS = 1_000_000
_ALL = 1 << 20  # more characters than a text of a run has
_RUN_FIELDS = tuple(item.name for item in fields(Run))


@dataclass(frozen=True, slots=True)
class EvalReport:
    """One run of a suite against one release. Times in seconds since the epoch."""

    agent: str
    release: Digest
    suite: str
    suite_digest: Digest  # of its definition, cases and evaluators
    bar: Bar
    repeat: int
    expected: tuple[str, ...]  # the cases that there had to be
    runs: tuple[Run, ...]
    problems: tuple[str, ...] = ()
    stable: Digest | None = None  # what it was compared with, if it was
    baseline: bool = False  # made of a stable release, for another to be compared with: no evidence of its own
    began: float = 0.0
    ended: float = 0.0
    made_by: Mapping[str, str] = field(default_factory=dict)  # versions of turnout, Python, the machine

    def judge(self, stable: EvalReport | None, problems: Sequence[str] = ()) -> Verdict:
        """What comes of it. `stable`: the report of the release that it was compared with.

        `problems`: more than the report tells itself.
        """
        return judge_suite(
            self.bar,
            self.runs,
            expected=self.expected,
            repeat=self.repeat,
            problems=(*self.problems, *problems),
            stable=stable.runs if stable is not None else None,
            stable_problems=stable.problems if stable is not None else (),
        )

    def can_be_compared_with(self) -> bool:
        """Whether its runs can stand for what a stable release does: nothing broke off."""
        return not self.problems and bool(self.runs) and not any(run.error for run in self.runs)

    def within(self, size: int) -> EvalReport:
        """The same in so many bytes of a request, by leaving out what was said of passed runs, then of all.

        Raises `InvalidRequest` where that is not enough.
        """
        for passed, other in ((_ALL, _ALL), (0, _ALL), (0, 200), (0, 0)):
            shorter = replace(
                self, runs=tuple(_shorten(run, passed if run.success >= 1 else other) for run in self.runs)
            )
            if request_size(shorter) <= size:
                return shorter
        raise InvalidRequest(
            f"the report of {self.suite} has {len(self.runs):,} runs, more than a server takes",
            hint="use fewer cases or repeats, or divide the suite into several",
        )


def render_report(report: EvalReport) -> bytes:
    """As JSON, the same bytes for the same report."""
    document = {
        "schema": SCHEMA,
        "agent": report.agent,
        "release": report.release,
        "suite": report.suite,
        "suite_digest": report.suite_digest,
        "bar": {
            "confidence": report.bar.confidence,
            "at_least": dict(report.bar.at_least),
            "at_most": dict(report.bar.at_most),
            "no_worse": dict(report.bar.no_worse),
        },
        "repeat": report.repeat,
        "expected": list(report.expected),
        "problems": list(report.problems),
        "stable": report.stable,
        "baseline": report.baseline,
        "began": report.began,
        "ended": report.ended,
        "made_by": dict(report.made_by),
        "runs": [_run_document(run) for run in report.runs],
    }
    text = json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode(errors="replace")  # half a character, as of an emoji that was cut, has no bytes


def request_size(report: EvalReport) -> int:
    """How many bytes it takes as a text within a JSON document."""
    return len(json.dumps(render_report(report).decode(), ensure_ascii=False).encode())


def parse_report(content: bytes) -> EvalReport:
    """The inverse. Raises `InvalidRequest` that names what is wrong."""
    try:
        document = json.loads(content)
        json.dumps(document, ensure_ascii=False).encode()  # escaped halves of characters can be kept nowhere
    except (ValueError, RecursionError):
        raise InvalidRequest("the report of a suite is no JSON") from None
    reader = _Reader(document, "report")
    if reader.get("schema", int) != SCHEMA:
        raise InvalidRequest(f"the report of a suite is of another version than {SCHEMA}")
    runs = reader.get("runs", list)
    if len(runs) > MOST_RUNS:
        raise InvalidRequest(f"the report has more than {MOST_RUNS:,} runs")
    bar = _Reader(reader.get("bar", dict), "bar")
    stable = document.get("stable")
    return EvalReport(
        agent=reader.get("agent", str),
        release=_digest(reader.get("release", str)),
        suite=reader.get("suite", str),
        suite_digest=_digest(reader.get("suite_digest", str)),
        bar=Bar(
            confidence=_between(bar.number("confidence"), 0.5, 0.999_999, "bar.confidence"),
            at_least=bar.numbers("at_least"),
            at_most=bar.numbers("at_most"),
            no_worse=bar.numbers("no_worse"),
        ),
        repeat=int(_between(reader.get("repeat", int), 1, 100, "repeat")),
        expected=reader.texts("expected"),
        runs=tuple(_read_run(item, f"runs[{at}]") for at, item in enumerate(runs)),
        problems=reader.texts("problems"),
        stable=_digest(stable) if stable is not None else None,
        baseline=reader.get("baseline", bool) if "baseline" in document else False,
        began=reader.number("began"),
        ended=reader.number("ended"),
        made_by={str(key)[:100]: str(value)[:200] for key, value in reader.get("made_by", dict).items()},
    )


def verdict_document(verdict: Verdict, report: EvalReport) -> dict[str, Any]:
    """The verdict of a report as plain values, for tables and the wire."""
    return {
        "baseline": report.baseline,
        "confidence": report.bar.confidence,
        "passed": verdict.passed,
        "cases": verdict.cases,
        "runs": verdict.runs,
        "failed": list(verdict.failed),
        "problems": list(verdict.problems),
        "findings": [
            {item.name: getattr(finding, item.name) for item in fields(Finding)} for finding in verdict.findings
        ],
    }


def _run_document(run: Run) -> dict[str, Any]:
    """Without what says nothing."""
    given = {name: getattr(run, name) for name in _RUN_FIELDS}
    given["scores"] = dict(run.scores)
    return {
        name: value for name, value in given.items() if value not in (None, "", {}) and (name, value) != ("tries", 1)
    }


def _read_run(item: object, place: str) -> Run:
    reader = _Reader(item, place)
    if unknown := sorted(reader.content.keys() - set(_RUN_FIELDS)):
        raise InvalidRequest(f'{place}: "{unknown[0]}" is no part of a run')
    optional = reader.content
    return Run(
        case=reader.get("case", str),
        repeat=int(_between(reader.get("repeat", int), 0, 99, f"{place}.repeat")),
        success=_between(reader.number("success"), 0, 1, f"{place}.success"),
        scores=reader.numbers("scores") if "scores" in optional else {},
        cost=_between(reader.number("cost"), 0, 1e9, f"{place}.cost") if "cost" in optional else None,
        duration=_between(reader.number("duration"), 0, 1e9, f"{place}.duration") if "duration" in optional else None,
        detail=reader.get("detail", str) if "detail" in optional else "",
        error=reader.get("error", str) if "error" in optional else "",
        tries=int(_between(reader.get("tries", int), 1, 100, f"{place}.tries")) if "tries" in optional else 1,
    )


def _shorten(run: Run, length: int) -> Run:
    """An error is never left out: it decides."""
    return replace(run, detail=run.detail[:length], error=run.error[: max(length, 60)])


def finite(value: object) -> float | None:
    """A number of a JSON document; None for what is none, or too large to be one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


class _Reader:
    """Takes values out of an object, and says which is not what it has to be."""

    def __init__(self, content: object, place: str) -> None:
        if not isinstance(content, dict):
            raise InvalidRequest(f"{place} has to be an object")
        self.content: dict[str, Any] = content
        self._place = place

    def get(self, key: str, kind: type) -> Any:
        value = self.content.get(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise InvalidRequest(f"{self._place}.{key} is missing, or not what it has to be")
        return value

    def number(self, key: str) -> float:
        value = self.content.get(key)
        number = finite(value)
        if number is None:
            raise InvalidRequest(f"{self._place}.{key} has to be a number")
        return number

    def numbers(self, key: str) -> dict[str, float]:
        inner = _Reader(self.content.get(key), f"{self._place}.{key}")
        return {name: inner.number(name) for name in inner.content}

    def texts(self, key: str) -> tuple[str, ...]:
        values: Sequence[object] = self.get(key, list)
        if not all(isinstance(value, str) for value in values):
            raise InvalidRequest(f"{self._place}.{key} has to be a list of texts")
        return tuple(map(str, values))


def _between(value: float, low: float, high: float, place: str) -> float:
    if not low <= value <= high:
        raise InvalidRequest(f"{place} has to be from {low:g} to {high:g}")
    return value


def _digest(text: object) -> Digest:
    if not isinstance(text, str) or len(text) != 71 or not text.startswith("sha256:"):
        raise InvalidRequest("a digest in the report is none")
    return Digest(text)


def metric_name(metric: str) -> str:
    """How a metric is called for people."""
    return {SUCCESS: "success", COST: "cost", LATENCY: "time"}.get(metric, metric.removeprefix(SCORE))
