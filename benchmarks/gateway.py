"""The gateway for models and tools: budgets that hold, what it adds to a call, faults of providers, loops, tools.

    python -m benchmarks.gateway [--seeds 20] [--calls 1000] [--rounds 5] [--only budget,latency,faults,runaway,tools]

Each part can be run by itself: `gateway_budget.py` (the ledger without HTTP, also on PostgreSQL), `gateway_latency.py`,
`gateway_faults.py`, `gateway_tools.py`. Here calls race for a budget over HTTP, through four real processes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from benchmarks import gateway_faults, gateway_latency, gateway_tools
from benchmarks.gateway_budget import race_figures, show_races
from benchmarks.gateway_http import run_http_race
from benchmarks.gateway_runaway import measure_runaway, runaway_figures, show_runaway
from benchmarks.report import Figure, judge, on_this_machine

PARTS = ("budget", "latency", "faults", "runaway", "tools")


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="the gateway for models and tools")
    parser.add_argument("--seeds", type=int, default=20, help="races for a budget (default 20)")
    parser.add_argument("--calls", type=int, default=1_000, help="that race at once (default 1,000)")
    parser.add_argument("--rounds", type=int, default=5, help="agents that run in circles (default 5)")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, split by commas (default: all)")
    options = parser.parse_args()
    parts: dict[str, Callable[[], list[Figure]]] = {
        "budget": lambda: measure_budget(options.seeds, options.calls),
        "latency": gateway_latency.measure,
        "faults": measure_faults,
        "runaway": lambda: measure_loops(options.rounds),
        "tools": gateway_tools.measure,
    }
    with on_this_machine():
        figures = [figure for name in options.only.split(",") for figure in parts[name]()]
    return judge(figures)


def measure_budget(seeds: int, calls: int) -> list[Figure]:
    """Calls over HTTP that race for a budget which fits a hundred of them."""
    results = [run_http_race(seed, calls) for seed in range(seeds)]
    show_races(results)
    # A call that was cut or cancelled settles an estimate: what callers think they took is no figure here.
    return [figure for figure in race_figures(results) if not figure.name.startswith("nano-dollars")]


def measure_faults() -> list[Figure]:
    """Providers that go wrong."""
    ends = gateway_faults.measure_faults(1)
    gateway_faults.show(ends)
    return gateway_faults.fault_figures(ends)


def measure_loops(rounds: int) -> list[Figure]:
    """Agents that run in circles."""
    results = measure_runaway(rounds)
    show_runaway(results)
    return runaway_figures(results)


if __name__ == "__main__":
    sys.exit(main())
