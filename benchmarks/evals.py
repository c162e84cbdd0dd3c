"""Is the gate of an eval suite right as often as it says, does a replay find what differs, and what does running them cost?

    python -m benchmarks.evals [--quick] [--jobs N] [--only calibration|decisions|suites|replay|harness]

Calibration draws whole suites (164 cases, five runs each: the tasks of tau2, the default of `repeat`) with a known share of
passed runs, and asks the shipped judge. Repeats of one case resemble each other by an intra-case correlation. Then the same
with the decisions of the example agent on the tasks of tau2, its rate of mistakes set so that the truth is known; then some
suites in the real harness: release, sandbox, gateway, worker. Replay and harness: see `evals_tau2.py`.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.tau2_world import tau2_tasks

from benchmarks.evals_tau2 import Bench, measure_harness, measure_replays, run_suites
from benchmarks.report import Figure, judge, on_this_machine, show_table
from turnout.domain.evals import SUCCESS, Bar, Run, judge_suite

from decisions import Mistakes, decide  # isort: skip  # from the folder of the example

CASES = 164  # of tau2's retail and airline
REPEAT = 5
THRESHOLDS = (0.8, 0.85, 0.9)
ALIKE = (0.0, 0.1, 0.2)  # intra-case correlations
AWAY = 0.05  # from the threshold
WRONG = 0.05  # passes of a release below the threshold, at most
RIGHT = 0.90  # passes of a release above it, at least
NOISE = 2.33  # standard errors that few runs are allowed: once in a hundred it is more
PARTS = ("calibration", "decisions", "suites", "replay", "harness")


@dataclass(frozen=True, slots=True)
class World:
    """A release whose runs pass with a known chance. `alike`: correlation of the runs of a case."""

    threshold: float
    truth: float
    alike: float = 0.0

    @property
    def name(self) -> str:
        """For the table."""
        return f"threshold {self.threshold:.0%}, correlation {self.alike:g}"


def main() -> int:
    """Measure, print, compare with the limits."""
    parser = argparse.ArgumentParser(description="evals: the gate, replay, the harness")
    parser.add_argument("--quick", action="store_true", help="fewer runs; figures are allowed the noise of so few")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--only", choices=PARTS, help="only this part")
    options = parser.parse_args()
    parts = [options.only] if options.only else list(PARTS)
    figures: list[Figure] = []
    with on_this_machine():
        sample = Sample(100, NOISE, options.jobs) if options.quick else Sample(1_000, 0.0, options.jobs)
        if "calibration" in parts:
            figures += measure_calibration(sample)
        if "decisions" in parts:
            figures += measure_decisions(sample)
        with tempfile.TemporaryDirectory(prefix="evals-") as folder:
            bench = Bench(Path(folder))
            if "suites" in parts:
                figures += run_suites(bench, times=1 if options.quick else 3)
            if "replay" in parts:
                figures += measure_replays(bench)
            if "harness" in parts:
                figures += measure_harness(bench, cases=200 if options.quick else 1_000)
    return judge(figures)


def measure_calibration(runs: int, jobs: int) -> list[Figure]:
    """How often the gate passes a release that is 5 points below or above its threshold."""
    print(f"{runs} suites of {CASES} cases, {REPEAT} runs each, drawn with a known share of passed runs\n")
    worlds = [
        World(threshold, threshold + away, alike)
        for threshold in THRESHOLDS
        for alike in ALIKE
        for away in (-AWAY, AWAY)
    ]
    return _report(worlds, _passes(count_passes, worlds, runs, jobs), runs, "simulated")


def measure_decisions(runs: int, jobs: int) -> list[Figure]:
    """The same with what the example agent decides on the tasks of tau2."""
    print(f"{runs} suites of tau2's {len(tau2_tasks())} tasks, {REPEAT} runs each, as the example agent decides\n")
    worlds = [World(threshold, threshold + away) for threshold in THRESHOLDS for away in (-AWAY, AWAY)]
    return _report(worlds, _passes(count_decided_passes, worlds, runs, jobs), runs, "tau2")


def count_passes(world: World, seed: int, runs: int) -> int:
    """Of so many drawn suites, how many pass."""
    chance = random.Random(f"{world}/{seed}")
    return sum(passes(world.threshold, draw_suite(world, chance)) for _ in range(runs))


def count_decided_passes(world: World, seed: int, runs: int) -> int:
    """Of so many suites that the agent decided, how many pass."""
    tasks = tau2_tasks()
    passed = 0
    for number in range(runs):
        mistakes = Mistakes(1.0 - world.truth, f"{seed}.{number}")
        suite = [
            [float(decide(task, str(repeat), mistakes) == task.actions) for repeat in range(REPEAT)] for task in tasks
        ]
        passed += passes(world.threshold, suite)
    return passed


def draw_suite(world: World, chance: random.Random) -> list[list[float]]:
    """By case its runs, 1.0 for one that passed: cases differ by a beta distribution, which gives the correlation."""
    suite = []
    for _ in range(CASES):
        share = world.truth
        if world.alike > 0:
            spread = 1.0 / world.alike - 1.0
            share = chance.betavariate(world.truth * spread, (1.0 - world.truth) * spread)
        suite.append([float(chance.random() < share) for _ in range(REPEAT)])
    return suite


def passes(threshold: float, suite: Sequence[Sequence[float]]) -> bool:
    """What the shipped judge says of a suite with the default confidence."""
    runs = [Run(f"case-{at}", number, value) for at, case in enumerate(suite) for number, value in enumerate(case)]
    cases = [f"case-{at}" for at in range(len(suite))]
    return judge_suite(Bar(at_least={SUCCESS: threshold}), runs, expected=cases, repeat=REPEAT).passed


def _passes(count: Callable[[World, int, int], int], worlds: Sequence[World], runs: int, jobs: int) -> list[float]:
    """By world the share of suites that pass."""
    part = max(1, runs // (4 * jobs))
    parts = [min(part, runs - begin) for begin in range(0, runs, part)]
    with ProcessPoolExecutor(jobs) as pool:
        found = [[pool.submit(count, world, seed, size) for seed, size in enumerate(parts)] for world in worlds]
        return [sum(future.result() for future in futures) / runs for futures in found]


def _report(worlds: Sequence[World], shares: Sequence[float], runs: int, where: str) -> list[Figure]:
    below = {world.name: share for world, share in zip(worlds, shares, strict=True) if world.truth < world.threshold}
    above = {world.name: share for world, share in zip(worlds, shares, strict=True) if world.truth > world.threshold}
    rows = [(name, f"{below[name]:.2%}", f"{above[name]:.2%}") for name in below]
    show_table(("gate", "passes 5 points below", "passes 5 points above"), rows)
    return list(_figures(below, above, runs, where))


def _figures(below: dict[str, float], above: dict[str, float], runs: int, where: str) -> Iterator[Figure]:
    for name, share in below.items():
        noise = NOISE * (WRONG * (1 - WRONG) / runs) ** 0.5
        yield Figure(f"{where}, {name}: passes 5 points below", 100 * share, 100 * (WRONG + noise), "%")
    for name, share in above.items():
        noise = NOISE * (RIGHT * (1 - RIGHT) / runs) ** 0.5
        yield Figure(f"{where}, {name}: passes 5 points above", 100 * share, 100 * (RIGHT - noise), "%", at_least=True)


if __name__ == "__main__":
    sys.exit(main())
