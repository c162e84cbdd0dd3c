"""The picture of an incident as inline SVG: the course of what decided, and the line that it crossed. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from turnout.alerts.page import format_span, format_value, is_judged, metric_name, series_of
from turnout.schemas import WhyView

_WIDTH, _HEIGHT = 820.0, 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 130.0, 12.0, 26.0
_COLOURS = ("var(--a)", "var(--b)", "var(--c)", "var(--d)")


def draw_chart(why: WhyView, lead: str) -> str:
    """A line a metric over time, `lead` above all. Of evidence by powers of ten."""
    judged = is_judged(why)
    points = why["series"]
    names = [lead, *sorted({name for point in points for name in point["against"]} - {lead})][: len(_COLOURS)]
    lines = {name: series_of(points, name, judged=judged) for name in names}
    limits = _limits(why, judged=judged)
    every = [value for line in lines.values() for value in line] + [height for height, _ in limits]
    low, high = min([0.0, *every]), max(every)
    high = high if high > low else low + 1.0
    seconds = [point["seconds"] for point in points]

    def place(at: float, value: float) -> tuple[float, float]:
        span = seconds[-1] - seconds[0] or 1.0
        x = _LEFT + (at - seconds[0]) / span * (_WIDTH - _LEFT - _RIGHT)
        return x, _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    drawn = [_axis(place(seconds[0], low)[1])]
    drawn += [_limit(place(seconds[0], height)[1], text) for height, text in limits]
    tips: list[float] = []
    for colour, (name, line) in zip(_COLOURS, lines.items(), strict=False):
        spots = [place(at, value) for at, value in zip(seconds, line, strict=True)]
        drawn.append(_line(spots, colour, wide=name == lead))
        tips.append(_free(spots[-1][1], tips))
        x = spots[-1][0] + 6
        drawn.append(f'<text x="{x:.0f}" y="{tips[-1]:.0f}" style="fill:{colour}">{escape(metric_name(name))}</text>')
    drawn += [_label(place(seconds[0], height)[1], text) for height, text in _scale(low, high, judged=judged)]
    span = format_span(seconds[-1] - seconds[0])
    drawn.append(f'<text x="{_LEFT:.0f}" y="{_HEIGHT - 8:.0f}">0</text>')
    drawn.append(f'<text x="{_WIDTH - _RIGHT:.0f}" y="{_HEIGHT - 8:.0f}" text-anchor="end">{span}</text>')
    title = f"{'evidence against the release' if judged else metric_name(lead)} over {span}"
    return (
        f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" aria-label="{escape(title)}">\n'
        f"<title>{escape(title)}</title>\n" + "\n".join(drawn) + "\n</svg>"
    )


def _limits(why: WhyView, *, judged: bool) -> list[tuple[float, str]]:
    evidence, tripped = why["evidence"], why["breaker"]
    if judged and evidence is not None:
        return [
            (math.log10(evidence["hold_at"]), "hold"),
            (math.log10(evidence["abort_at"]), "take back"),
        ]
    return [(tripped["above"], "limit")] if tripped is not None else []


def _scale(low: float, high: float, *, judged: bool) -> list[tuple[float, str]]:
    """At most six labels: powers of ten, or the two ends."""
    if not judged:
        return [
            (low, format_value("rate" if high <= 1 else "cost", low)),
            (high, format_value("rate" if high <= 1 else "cost", high)),
        ]
    powers = range(math.ceil(low), math.floor(high) + 1)
    step = max(1, math.ceil(len(powers) / 6))
    return [(float(power), f"{10.0**power:g}") for power in powers if power % step == 0]


def _line(spots: Sequence[tuple[float, float]], colour: str, *, wide: bool) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    width = "2.5" if wide else "1.4"
    style = f"stroke:{colour};stroke-width:{width};stroke-linejoin:round"
    return f'<polyline points="{points}" fill="none" style="{style}"/>'


def _axis(y: float) -> str:
    return f'<line x1="{_LEFT:.0f}" x2="{_WIDTH - _RIGHT:.0f}" y1="{y:.1f}" y2="{y:.1f}" style="stroke:var(--line)"/>'


def _limit(y: float, text: str) -> str:
    return (
        f'<line x1="{_LEFT:.0f}" x2="{_WIDTH - _RIGHT:.0f}" y1="{y:.1f}" y2="{y:.1f}" style="stroke:var(--soft)" '
        f'stroke-dasharray="4 4"/>\n<text x="{_LEFT + 6:.0f}" y="{y - 4:.1f}">{text}</text>'
    )


def _label(y: float, text: str) -> str:
    return f'<text x="{_LEFT - 6:.0f}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'


def _free(y: float, taken: Sequence[float]) -> float:
    """A height for a label that covers no other one."""
    wanted = y + 4
    while any(abs(wanted - other) < 13 for other in taken):
        wanted += 13
    return wanted
