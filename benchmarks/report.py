"""Prints what was measured: tables, and figures against their limits."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number and its limit: at most, or with `at_least` the least, that it may be."""

    name: str
    measured: float
    limit: float
    unit: str = ""
    at_least: bool = False

    @property
    def reached(self) -> bool:
        """Whether the limit is kept."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


def show_machine() -> None:
    """What the numbers were measured on."""
    load = os.getloadavg()[0]
    kind = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    print(f"machine: {kind}; load average at the start {load:.1f}\n", flush=True)


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as what they hold; the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, ["-" * width for width in widths], *rows]:
        cells = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    print(flush=True)


def judge(figures: Sequence[Figure]) -> int:
    """Print the figures. Returns the exit code: 0 when all are reached, else 1, with a last line that names the others."""
    rows = [
        (
            figure.name,
            _format(figure.measured, figure.unit),
            f"{'≥' if figure.at_least else '≤'} {_format(figure.limit, figure.unit)}",
            "reached" if figure.reached else "NOT REACHED",
        )
        for figure in figures
    ]
    show_table(("figure", "measured", "limit", ""), rows)
    missed = [figure.name for figure in figures if not figure.reached]
    print(f"not reached: {'; '.join(missed)}" if missed else "all figures are reached", flush=True)
    return 1 if missed else 0


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _format(value: float, unit: str) -> str:
    number = f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
    return f"{number} {unit}".strip()
