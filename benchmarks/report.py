"""Prints what was measured: tables, and figures against their limits."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PRESSURE = Path("/proc/pressure/cpu")


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


@contextmanager
def on_this_machine() -> Iterator[None]:
    """Say what the numbers are measured on, and how long processes waited for a processor: a busy machine is slow."""
    kind = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    print(f"machine: {kind}; load average at the start {os.getloadavg()[0]:.1f}", flush=True)
    began, waited = time.monotonic(), _waited()
    yield
    took = time.monotonic() - began
    share = f"{(_waited() - waited) / took:.0%}" if PRESSURE.exists() else "an unknown part"
    print(f"measured for {took:.0f} s, of which some process waited for a processor for {share}\n", flush=True)


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


def _waited() -> float:
    """Seconds since the start of the machine in which a process was ready to run and had no processor."""
    if not PRESSURE.exists():
        return 0.0
    first = PRESSURE.read_text().splitlines()[0]
    return int(first.rpartition("total=")[2]) / 1e6
