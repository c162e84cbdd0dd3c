"""The gate and the replay on tasks of tau2, in the real harness: releases, sandboxes, a gateway, a worker."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.evals_tau2 import Bench, measure_replays

from turnout.domain.models import Release

CASES = 8


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


def few_cases(source: Path) -> None:
    cases = source / "evals" / "cases.jsonl"
    cases.write_text("\n".join(cases.read_text().splitlines()[:CASES]))


def run_gate(bench: Bench, built: tuple[Release, Path], threshold: float) -> tuple[bool, int, tuple[str, ...]]:
    release, source = built
    few_cases(source)
    suite = bench.suite(source)
    demands = suite.require.model_copy(update={"success": threshold})
    verdict = bench.evaluate(release, source, suite.model_copy(update={"repeat": 1, "require": demands})).judge(None)
    assert verdict.problems == ()
    return verdict.passed, verdict.runs, verdict.failed


def test_the_gate_passes_a_right_agent_and_refuses_one_with_planted_mistakes(bench: Bench) -> None:
    right = run_gate(bench, bench.release(), 0.6)
    wrong = run_gate(bench, bench.release(planted=("retail-3", "retail-5:extra", "retail-7")), 0.6)

    assert right == (True, CASES, ())
    assert wrong[:2] == (False, CASES)
    assert sorted(wrong[2]) == ["retail-3", "retail-5", "retail-7"]


def test_a_replay_finds_what_was_planted_and_nothing_reaches_the_server(bench: Bench) -> None:
    figures = measure_replays(bench, tasks=10, planted=(3,))

    assert [(figure.name, figure.measured) for figure in figures] == [(figure.name, 0) for figure in figures]
    assert len(figures) == 5
