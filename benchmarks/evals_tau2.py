"""The tasks of tau2 in the real harness: suites and replays of the example agent, in sandboxes, and what the harness costs.

Each function takes a `Bench`, prints what it measured, and returns figures.
"""

from __future__ import annotations

import json
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from tests.tau2_recordings import record_tasks
from tests.tau2_world import tau2_server, tau2_tasks, write_tau2_agent

from benchmarks.report import Figure, show_table
from turnout.artifacts.build import build_release
from turnout.artifacts.layout import OciLayoutStore
from turnout.domain.eval_report import EvalReport
from turnout.domain.models import Release
from turnout.domain.recordings import Recording
from turnout.domain.replays import Came, ReplayReport
from turnout.evals.run import Progress
from turnout.evaluation import Subject, evaluate
from turnout.manifest import load_manifest
from turnout.manifest.eval_schema import Evals
from turnout.replay.engine import Replay
from turnout.replay_process import found_release, replay_release
from turnout.runtimes.environment import Environments

THRESHOLD = 0.9
AWAY = 0.05
PLANTED = (1, 5, 20)
OVERHEAD = 20.0  # milliseconds a case, at most
MEMORY = 500.0  # MB, at most
PARALLEL = 8


@dataclass
class Bench:
    """A folder with an artifact store, environments, and as many releases of the agent as are asked for."""

    folder: Path
    made: int = 0

    def __post_init__(self) -> None:
        self.store = OciLayoutStore(self.folder / "artifacts")
        self.environments = Environments(self.folder / "envs")

    def release(self, **settings: Any) -> tuple[Release, Path]:
        """A release, and the folder it was built from. `settings`: as `write_tau2_agent` takes them."""
        source = write_tau2_agent(self.new_folder(), **settings)
        built = build_release(source, load_manifest(source), self.store)
        return found_release(self.store, built.digest, f"v{self.made}"), source

    def suite(self, source: Path, **changes: Any) -> Evals:
        """The suite of the agent in a folder, with changes."""
        return load_manifest(source).evals[0].model_copy(update=changes)

    def evaluate(
        self, release: Release, source: Path, suite: Evals, on_progress: Callable[[Progress], None] = lambda _: None
    ) -> EvalReport:
        """Run a suite in a sandbox of its own."""
        return evaluate(
            Subject(release, self.store),
            suite,
            source,
            self.new_folder(),
            environments=self.environments,
            on_progress=on_progress,
        )

    def replay(
        self, baseline: Release, candidate: Release, recordings: Sequence[Recording], **how: Any
    ) -> ReplayReport:
        """Replay what the baseline did. `how`: as `Replay` has it, and `gateway`."""
        gateway = how.pop("gateway", None)
        replay = Replay(
            agent=candidate.agent,
            ring="production",
            baseline=baseline.digest,
            baseline_version=baseline.version,
            candidate=candidate.digest,
            candidate_version=candidate.version,
            **how,
        )
        return replay_release(
            candidate,
            self.store,
            recordings,
            replay,
            self.new_folder(),
            environments=self.environments,
            gateway=gateway,
        )

    def new_folder(self) -> Path:
        """A path that nothing is at."""
        self.made += 1
        return self.folder / f"part-{self.made}"


def run_suites(bench: Bench, times: int = 1) -> list[Figure]:
    """Whole suites of agents that are 5 points off the threshold: what the gate says of them."""
    rows, wrong = [], 0
    for away in (-AWAY, AWAY):
        for number in range(times):
            settings = {"error_rate": 1.0 - THRESHOLD - away, "env": {"ERROR_SEED": f"suite {number}"}}
            release, source = bench.release(**settings)
            suite = bench.suite(source, parallel=PARALLEL)
            began = time.monotonic()
            verdict = bench.evaluate(release, source, suite).judge(None)
            took = time.monotonic() - began
            finding = verdict.findings[0]
            wrong += verdict.passed != (away > 0) or bool(verdict.problems)
            said = "passed" if verdict.passed else "refused"
            rows.append(
                (
                    f"truly {THRESHOLD + away:.0%}, seed {number}",
                    str(verdict.runs),
                    f"{finding.mean or 0:.1%}",
                    f"{finding.bound or 0:.1%}",
                    said,
                    f"{took:.0f} s",
                )
            )
    print(f"suites of tau2 in the harness, threshold {THRESHOLD:.0%}\n")
    show_table(("agent", "runs", "passed runs", "lower bound", "gate", "took"), rows)
    return [Figure(f"wrong verdicts of {len(rows)} whole suites", wrong, 0)]


def measure_replays(bench: Bench, tasks: int = 114, planted: Sequence[int] = PLANTED) -> list[Figure]:
    """Retail tasks against the release that did them, and against releases with planted changes."""
    retail = tau2_tasks("retail")[:tasks]
    stable, source = bench.release()
    rows, figures = [], []
    with tau2_server() as server:
        recordings = record_tasks(source, server, stable, retail)
        before = server.counts.document()["writes"]
        gateway = bench.folder / "gateway.toml"
        gateway.write_text(server.config())
        itself = bench.replay(stable, stable, recordings, parallel=4)
        rows.append(_row("itself", itself, frozenset()))
        figures.append(Figure("replay against itself: divergences", itself.summary.divergences, 0))
        figures.append(Figure("replay against itself: tasks that differ", tasks - itself.summary.same, 0))
        for count in planted:
            names = frozenset(random.Random(count).sample([task.id for task in retail], count))
            candidate, _ = bench.release(planted=tuple(sorted(names)))
            for live in (False, True):
                how = {"parallel": 4, "live_tools": live, "gateway": gateway if live else None}
                report = bench.replay(stable, candidate, recordings, **how)
                name = f"{count} planted{', reads live' if live else ''}"
                rows.append(_row(name, report, names))
                figures.append(Figure(f"replay, {name}: missed or found in vain", _errors(report, names), 0))
        reached = server.counts.document()["writes"] - before
    figures.append(Figure("calls of tools with side effects that reached the server", reached, 0))
    print(f"replay of {tasks} retail tasks\n")
    show_table(("candidate", "changed", "found of planted", "divergences", "a task"), rows)
    return figures


def measure_harness(bench: Bench, cases: int = 1_000) -> list[Figure]:
    """Time of the harness beside the agent's own, one run at a time; and the memory of many runs at eight at a time."""
    release, source = bench.release(env={"TOOLS": "off"})
    lines = (source / "evals" / "cases.jsonl").read_text().splitlines()
    named = [{**json.loads(lines[at % len(lines)]), "id": f"case-{at}"} for at in range(cases)]
    (source / "evals" / "cases.jsonl").write_text("".join(f"{json.dumps(case)}\n" for case in named))
    ends: list[float] = []
    suite = bench.suite(source, repeat=1, parallel=1, tool_servers={})
    report = bench.evaluate(release, source, suite, lambda _: ends.append(time.monotonic()))
    gaps = [after - before for before, after in pairwise(ends)]
    own = [run.duration or 0.0 for run in report.runs][1:]
    beside = sorted(1e3 * (gap - seconds) for gap, seconds in zip(gaps, own, strict=True))
    with _watched_memory() as most:
        wide = bench.evaluate(release, source, suite.model_copy(update={"parallel": PARALLEL}))
    assert len(wide.runs) == len(report.runs) == cases
    print(f"harness, {cases} cases\n")
    show_table(
        ("", "median", "95 %", "mean"),
        [
            ("agent and evaluator, ms a case", *_three([1e3 * seconds for seconds in own])),
            ("harness beside them, ms a case", *_three(beside)),
        ],
    )
    return [
        Figure("harness beside the agent, mean of a case", statistics.fmean(beside), OVERHEAD, "ms"),
        Figure(f"memory, {cases} cases, {PARALLEL} at a time", max(most) / 1e6, MEMORY, "MB"),
    ]


def _row(name: str, report: ReplayReport, planted: frozenset[str]) -> tuple[str, ...]:
    changed = _changed(report)
    seconds = report.duration / len(report.tasks)
    found = f"{len(changed & planted)} of {len(planted)}"
    return name, str(len(changed)), found, str(report.summary.divergences), f"{1e3 * seconds:.0f} ms"


def _errors(report: ReplayReport, planted: frozenset[str]) -> int:
    return len(_changed(report) ^ planted) + report.summary.failed + report.summary.unusable


def _changed(report: ReplayReport) -> set[str]:
    return {diff.task for diff in report.tasks if diff.verdict is Came.CHANGED}


def _three(values: Sequence[float]) -> tuple[str, str, str]:
    ordered = sorted(values)
    high = ordered[int(0.95 * len(ordered))]
    return f"{statistics.median(ordered):.1f}", f"{high:.1f}", f"{statistics.fmean(ordered):.1f}"


@contextmanager
def _watched_memory() -> Iterator[list[float]]:
    """Bytes that this process and all that it started hold, looked at ten times a second. Shared pages count once."""
    found: list[float] = [0.0]
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(found, over))
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


def _watch(found: list[float], over: threading.Event) -> None:
    own = psutil.Process()
    while not over.wait(0.1):
        held = 0.0
        for process in [own, *own.children(recursive=True)]:
            try:
                held += process.memory_full_info().pss
            except (psutil.Error, OSError):  # it has ended
                continue
        found.append(held)
