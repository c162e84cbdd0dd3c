"""A picture of what judges do: how many equal releases they abort, and how many tasks a bad one takes. Plain SVG."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from html import escape
from typing import Protocol

EQUAL, BAD = "equal, 2 %", "−10 points, 2 %"
WIDTH, HEIGHT = 760, 430
LEFT, RIGHT, TOP, BOTTOM = 70, 500, 50, 370
CLOSE = 18  # between the middles of two points, at least
RATES = (0.001, 0.01, 0.05, 0.1, 1.0)
TASKS = (10, 30, 100, 300, 1000)
STYLE = (
    "text{font:13px sans-serif;fill:#222}.small{font-size:12px;fill:#555}.title{font-size:15px;font-weight:bold}"
    ".grid{stroke:#ddd}.limit{stroke:#c33;stroke-dasharray:5 4}.peer{fill:#8a94a6}.ours{fill:#1565c0}.number{fill:#fff}"
)


class Run(Protocol):
    """One judged stream."""

    @property
    def kind(self) -> str:
        """What the judge said; "fail" aborts."""

    @property
    def known(self) -> int:
        """Tasks of the candidate that had reported by then."""


def draw(found: Mapping[str, Mapping[str, Sequence[Run]]]) -> str:
    """The SVG: a numbered point for each judge, the first of them drawn as ours. From what `judge.simulate` found."""
    points = [(who, _rate(runs), _median(found[BAD][who])) for who, runs in found[EQUAL].items()]
    drawn: list[tuple[float, float]] = []
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>Judges of canaries: wrong aborts and tasks to decision</title><style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        _text(LEFT, 28, "A release that fails 10 points more: tasks until it is aborted, at a share of 2 %", "title"),
        *_axes(),
    ]
    for number, (who, rate, tasks) in enumerate(points, start=1):
        kind = "ours" if number == 1 else "peer"
        x, y, row = _x(rate), _y(tasks), TOP - 10 + 34 * number
        while any(math.hypot(x - other, y - height) < CLOSE for other, height in drawn):
            x -= CLOSE  # beside the point that is there
        drawn.append((x, y))
        seen = f"{rate:.1%} aborted, {tasks:.0f} tasks" if math.isfinite(tasks) else f"{rate:.1%} aborted, misses it"
        for at, height in ((x, y), (RIGHT + 24, row - 2)):
            parts.append(f'<circle class="{kind}" cx="{at:.1f}" cy="{height:.1f}" r="9"/>')
            parts.append(_text(at, height + 4, str(number), "number", "middle"))
        parts.append(_text(RIGHT + 40, row - 7, who))
        parts.append(_text(RIGHT + 40, row + 8, seen, "small"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _axes() -> list[str]:
    parts = []
    for rate in RATES:
        x, kind = _x(rate), "limit" if rate == 0.05 else "grid"
        parts.append(f'<line class="{kind}" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{BOTTOM}"/>')
        parts.append(_text(x, BOTTOM + 18, f"{rate:.1%}" if rate < 0.01 else f"{rate:.0%}", "small", "middle"))
    for tasks in TASKS:
        y = _y(tasks)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{RIGHT}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{tasks:,}", "small", "end"))
    parts.append(_text((LEFT + RIGHT) / 2, BOTTOM + 42, "equal releases that it aborts within 24 hours", "", "middle"))
    parts.append(_text(LEFT - 8, TOP - 4, "tasks", "small", "end"))
    return parts


def _rate(runs: Sequence[Run]) -> float:
    return sum(run.kind == "fail" for run in runs) / len(runs)


def _median(runs: Sequence[Run]) -> float:
    return statistics.median(float(run.known) if run.kind == "fail" else math.inf for run in runs)


def _x(rate: float) -> float:
    return LEFT + (RIGHT - LEFT) * _place(rate, RATES[0], RATES[-1])


def _y(tasks: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * _place(tasks, TASKS[0], TASKS[-1])


def _place(value: float, least: float, most: float) -> float:
    return math.log(min(max(value, least), most) / least) / math.log(most / least)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
