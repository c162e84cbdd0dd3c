"""Runs of eval cases → whether a suite is passed. Pure.

Cases are what was sampled, and repeats of one case resemble each other, so every bound is over cases: the share of passed
runs by Clopper and Pearson at the effective number of runs, and so are own scores that lie between 0 and 1; other means by
Student over the means of cases, costs and times by a bound that holds for skewed ones; and what is compared with the stable
release over the differences of the same cases. See `intervals.py`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Literal

from turnout.domain.intervals import clustered_share_bounds, difference_bounds, mean_bounds, skewed_mean_bound

SUCCESS, COST, LATENCY, SCORE = "success", "cost", "latency", "scores."
NAMED = 5  # cases that a sentence names

Kind = Literal["at_least", "at_most", "no_worse"]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one case. `success` from 0 to 1; `cost` in dollars, `duration` in seconds."""

    case: str
    repeat: int  # from 0
    success: float
    scores: Mapping[str, float] = field(default_factory=dict)
    cost: float | None = None
    duration: float | None = None
    detail: str = ""
    error: str = ""  # why there is no result; it counts as not passed
    tries: int = 1


@dataclass(frozen=True, slots=True)
class Bar:
    """What a suite demands, by metric: success, cost, latency, scores.NAME."""

    confidence: float = 0.9  # of bounds on one side
    at_least: Mapping[str, float] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)
    no_worse: Mapping[str, float] = field(default_factory=dict)  # success in points, cost and latency as a part


@dataclass(frozen=True, slots=True)
class Finding:
    """One demand and what was found. `bound` is the end of the interval that is held against `limit`."""

    metric: str
    kind: Kind
    limit: float
    mean: float | None  # None: nothing told it
    bound: float | None
    passed: bool
    stable: float | None = None  # the mean of the stable release, where it was compared
    note: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a suite. `problems`: why its runs cannot be believed, a sentence each."""

    passed: bool
    findings: tuple[Finding, ...]
    problems: tuple[str, ...]
    cases: int
    runs: int
    failed: tuple[str, ...]  # cases of which a run was not passed, worst first


def judge_suite(
    bar: Bar,
    runs: Sequence[Run],
    *,
    expected: Iterable[str],
    repeat: int,
    problems: Sequence[str] = (),
    stable: Sequence[Run] | None = None,
    stable_problems: Sequence[str] = (),
) -> Verdict:
    """Hold the runs against the bar. A suite that has a problem, runs nothing or loses runs is never passed.

    `expected`: the cases that there had to be. `stable`: the runs of the stable release with the same suite; None: there is
    none, and nothing to be worse than. `stable_problems`: why those cannot be believed; then nothing is held against them.
    """
    found = [*problems, *_find_losses(runs, expected, repeat), *_find_emptiness(bar, runs)]
    findings = [*_hold_levels(bar, runs), *_compare_all(bar, runs, stable, stable_problems)]
    passed = not found and all(finding.passed for finding in findings)
    return Verdict(passed, tuple(findings), tuple(found), len(_by_case(runs)), len(runs), _find_failed(runs))


def metric_value(run: Run, metric: str) -> float | None:
    """What a run says of a metric; None where it does not."""
    if metric == SUCCESS:
        return run.success
    if metric == COST:
        return run.cost
    if metric == LATENCY:
        return run.duration
    return run.scores.get(metric.removeprefix(SCORE))


def _find_losses(runs: Sequence[Run], expected: Iterable[str], repeat: int) -> Iterable[str]:
    wanted = {(case, number) for case in expected for number in range(repeat)}
    have = Counter((run.case, run.repeat) for run in runs)
    if not have:
        yield "it ran no case"
        return
    if lost := sorted(wanted - have.keys()):
        yield f"{len(lost)} of {len(wanted)} runs have no result: {_name_runs(lost)}"
    if foreign := sorted(have.keys() - wanted):
        yield f"{len(foreign)} results are of no case of the suite: {_name_runs(foreign)}"
    if doubled := sorted(key for key, count in have.items() if count > 1):
        yield f"{len(doubled)} runs have more than one result: {_name_runs(doubled)}"


def _find_emptiness(bar: Bar, runs: Sequence[Run]) -> Iterable[str]:
    """Why a bar that is held shows nothing."""
    if not (bar.at_least or bar.at_most or bar.no_worse):
        yield "nothing was demanded of it"
    if runs and not any(run.success > 0 for run in runs):
        yield "no run was passed"
    broken = sum(bool(run.error) for run in runs)
    if broken and SUCCESS not in {**bar.at_least, **bar.no_worse}:
        yield f"{broken} of {len(runs)} runs broke off, and the suite demands nothing of success"


def _name_runs(keys: Sequence[tuple[str, int]]) -> str:
    named = ", ".join(f"{case} (repeat {number + 1})" for case, number in keys[:NAMED])
    return f"{named}, …" if len(keys) > NAMED else named


def _hold_levels(bar: Bar, runs: Sequence[Run]) -> Iterable[Finding]:
    for metric, limit in bar.at_least.items():
        yield _hold(bar, runs, metric, "at_least", limit)
    for metric, limit in bar.at_most.items():
        yield _hold(bar, runs, metric, "at_most", limit)


def _hold(bar: Bar, runs: Sequence[Run], metric: str, kind: Kind, limit: float) -> Finding:
    values, silent = _values(runs, metric)
    if silent or not values:
        return Finding(metric, kind, limit, None, None, passed=False, note=_silence(silent, runs))
    bound = _bound(metric, kind, values, bar.confidence)
    passed = bound >= limit if kind == "at_least" else bound <= limit
    return Finding(metric, kind, limit, _mean(values), bound, passed)


def _bound(metric: str, kind: Kind, values: Mapping[str, Sequence[float]], confidence: float) -> float:
    if metric == SUCCESS or (metric.startswith(SCORE) and _are_shares(values)):
        low, high = clustered_share_bounds(list(values.values()), confidence)
        return low if kind == "at_least" else high
    means = [fmean(items) for items in values.values()]
    return mean_bounds(means, confidence)[0] if kind == "at_least" else skewed_mean_bound(means, confidence)


def _are_shares(values: Mapping[str, Sequence[float]]) -> bool:
    """Whether all lie from 0 to 1; then equal ones prove no more than as many cases can."""
    return all(0.0 <= value <= 1.0 for items in values.values() for value in items)


def _compare_all(
    bar: Bar, runs: Sequence[Run], stable: Sequence[Run] | None, stable_problems: Sequence[str]
) -> Iterable[Finding]:
    for metric, margin in bar.no_worse.items():
        ours, silent = _values(runs, metric)
        if silent or not ours:
            yield Finding(metric, "no_worse", margin, None, None, passed=False, note=_silence(silent, runs))
        elif stable is None:
            note = "there is no stable release to compare with"
            yield Finding(metric, "no_worse", margin, _mean(ours), None, passed=True, note=note)
        elif fault := _find_fault(metric, runs, stable, stable_problems):
            yield Finding(metric, "no_worse", margin, _mean(ours), None, passed=False, note=fault)
        else:
            yield _compare(metric, margin, bar.confidence, ours, _stable_values(stable, metric))


def _find_fault(metric: str, runs: Sequence[Run], stable: Sequence[Run], stable_problems: Sequence[str]) -> str:
    """Why runs cannot be compared with those of the stable release; "" where they can."""
    if stable_problems:
        return f"the runs of the stable release cannot be believed: {stable_problems[0]}"
    if all(run.error for run in stable):
        return "every run of the stable release broke off"
    ours, theirs = {run.case for run in runs}, {run.case for run in stable}
    if missing := theirs - ours:
        return f"{len(missing)} cases of the stable release are not there any more"
    told = _stable_values(stable, metric)
    return "the stable release has no result for some cases" if ours - told.keys() else ""


def _stable_values(stable: Sequence[Run], metric: str) -> dict[str, list[float]]:
    """By case. A run of the stable release that broke off counts as passed: it must not make it easier to be no worse."""
    if metric != SUCCESS:
        return _values(stable, metric)[0]
    return _values([replace(run, success=1.0) if run.error else run for run in stable], metric)[0]


def _compare(
    metric: str,
    margin: float,
    confidence: float,
    ours: Mapping[str, Sequence[float]],
    theirs: Mapping[str, Sequence[float]],
) -> Finding:
    """`ours` and `theirs` by the same cases."""
    worse = [_worse(metric, fmean(ours[case]), fmean(theirs[case])) for case in ours]
    before = fmean(fmean(theirs[case]) for case in ours)
    limit = margin * before if metric in (COST, LATENCY) else margin
    if metric == SUCCESS or (metric.startswith(SCORE) and _are_shares(ours) and _are_shares(theirs)):
        high = difference_bounds(worse, confidence)[1]
    elif metric in (COST, LATENCY):
        high = skewed_mean_bound(worse, confidence)
    else:
        high = mean_bounds(worse, confidence)[1]
    return Finding(metric, "no_worse", margin, _mean(ours), high, passed=high <= limit, stable=before)


def _worse(metric: str, ours: float, theirs: float) -> float:
    """By how much: less success, lower scores, more cost and time."""
    return ours - theirs if metric in (COST, LATENCY) else theirs - ours


def _values(runs: Sequence[Run], metric: str) -> tuple[dict[str, list[float]], int]:
    """(by case what its runs say, how many say nothing where they should).

    A run that broke off may say nothing but that it failed, as long as another run of its case says something.
    """
    values: dict[str, list[float]] = {}
    silent = 0
    for run in runs:
        value = metric_value(run, metric)
        if value is not None:
            values.setdefault(run.case, []).append(value)
        elif not run.error:
            silent += 1
    mute = sum(bool(run.error) and run.case not in values for run in runs)
    return values, silent + mute


def _silence(silent: int, runs: Sequence[Run]) -> str:
    return f"{silent} of {len(runs)} runs do not tell it" if silent else "no run tells it"


def _mean(values: Mapping[str, Sequence[float]]) -> float:
    return fmean(fmean(items) for items in values.values())


def _by_case(runs: Sequence[Run]) -> dict[str, list[Run]]:
    cases: dict[str, list[Run]] = {}
    for run in runs:
        cases.setdefault(run.case, []).append(run)
    return cases


def _find_failed(runs: Sequence[Run]) -> tuple[str, ...]:
    means = {case: fmean(run.success for run in items) for case, items in _by_case(runs).items()}
    failed = [case for case, mean in means.items() if not math.isclose(mean, 1.0)]
    return tuple(sorted(failed, key=lambda case: (means[case], case)))
