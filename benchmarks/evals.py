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
from collections.abc import Callable, Sequence
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
    """A gate, and how the runs of a case resemble each other. `alike`: their correlation."""

    threshold: float
    alike: float = 0.0

    @property
    def name(self) -> str:
        """For the table."""
        return f"threshold {self.threshold:.0%}, correlation {self.alike:g}"


@dataclass(frozen=True, slots=True)
class Sample:
    """How many suites are drawn of each kind. `noise`: standard errors by which a figure may miss its limit."""

    runs: int
    noise: float
    jobs: int

    def allowance(self, share: float) -> float:
        """By how much a share may be off."""
        return float(self.noise * (share * (1.0 - share) / self.runs) ** 0.5)


Count = Callable[[World, float, int, int], int]  # (world, distance of the truth, seed, how many) → how many pass


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


def measure_calibration(sample: Sample) -> list[Figure]:
    """How often the gate passes a release that is 5 points below or above its threshold."""
    print(f"{sample.runs} suites of {CASES} cases, {REPEAT} runs each, drawn with a known share of passed runs\n")
    worlds = [World(threshold, alike) for threshold in THRESHOLDS for alike in ALIKE]
    return _report(count_passes, worlds, sample, "simulated")


def measure_decisions(sample: Sample) -> list[Figure]:
    """The same with what the example agent decides on the tasks of tau2."""
    print(
        f"{sample.runs} suites of tau2's {len(tau2_tasks())} tasks, {REPEAT} runs each, as the example agent decides\n"
    )
    return _report(count_decided_passes, [World(threshold) for threshold in THRESHOLDS], sample, "tau2")


def count_passes(world: World, away: float, seed: int, runs: int) -> int:
    """Of so many suites, drawn with a truth that is so far from the threshold, how many pass."""
    chance = random.Random(f"{world}/{away}/{seed}")
    truth = world.threshold + away
    return sum(passes(world.threshold, draw_suite(truth, world.alike, chance)) for _ in range(runs))


def count_decided_passes(world: World, away: float, seed: int, runs: int) -> int:
    """Of so many suites that the agent decided, how many pass."""
    tasks = tau2_tasks()
    passed = 0
    for number in range(runs):
        mistakes = Mistakes(1.0 - world.threshold - away, f"{seed}.{number}")
        suite = [
            [float(decide(task, str(repeat), mistakes) == task.actions) for repeat in range(REPEAT)] for task in tasks
        ]
        passed += passes(world.threshold, suite)
    return passed


def draw_suite(truth: float, alike: float, chance: random.Random) -> list[list[float]]:
    """By case its runs, 1.0 for one that passed: cases differ by a beta distribution, which gives the correlation."""
    suite = []
    for _ in range(CASES):
        share = truth
        if alike > 0:
            spread = 1.0 / alike - 1.0
            share = chance.betavariate(truth * spread, (1.0 - truth) * spread)
        suite.append([float(chance.random() < share) for _ in range(REPEAT)])
    return suite


def passes(threshold: float, suite: Sequence[Sequence[float]]) -> bool:
    """What the shipped judge says of a suite with the default confidence."""
    runs = [Run(f"case-{at}", number, value) for at, case in enumerate(suite) for number, value in enumerate(case)]
    cases = [f"case-{at}" for at in range(len(suite))]
    return judge_suite(Bar(at_least={SUCCESS: threshold}), runs, expected=cases, repeat=REPEAT).passed


def _report(count: Count, worlds: Sequence[World], sample: Sample, where: str) -> list[Figure]:
    """A row a world: how often the gate passes below, at and above the threshold."""
    part = max(1, sample.runs // (4 * sample.jobs))
    parts = [min(part, sample.runs - begin) for begin in range(0, sample.runs, part)]
    with ProcessPoolExecutor(sample.jobs) as pool:
        begun = {
            (world, away): [pool.submit(count, world, away, seed, size) for seed, size in enumerate(parts)]
            for world in worlds
            for away in (-AWAY, 0.0, AWAY)
        }
        share = {key: sum(future.result() for future in futures) / sample.runs for key, futures in begun.items()}
    rows = [(world.name, *(f"{share[world, away]:.1%}" for away in (-AWAY, 0.0, AWAY))) for world in worlds]
    show_table(("gate passes a release that is truly", "5 points below", "at the threshold", "5 points above"), rows)
    figures = []
    for world in worlds:
        name = f"{where}, {world.name}: passes 5 points"
        most, least = WRONG + sample.allowance(WRONG), RIGHT - sample.allowance(RIGHT)
        figures.append(Figure(f"{name} below", 100 * share[world, -AWAY], 100 * most, "%"))
        figures.append(Figure(f"{name} above", 100 * share[world, AWAY], 100 * least, "%", at_least=True))
    return figures


if __name__ == "__main__":
    sys.exit(main())
