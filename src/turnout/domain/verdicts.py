"""From the settings of a ring to its judge, and from what a judge says to what a rollout may do. Pure."""

from __future__ import annotations

from dataclasses import replace

from turnout.domain.judge import History, JudgeConfig, Kind, Verdict
from turnout.domain.judge.evidence import MetricEvidence
from turnout.domain.models import Inconclusive, Judgement, JudgeSettings, Ramp, RingSettings, Rollout
from turnout.domain.outcomes import REPORT, Tally

WATCHED = JudgeSettings()
_HISTORY_UNITS = 1_000.0  # the past weighs no more than this many tasks


def choose_judge(candidate: RingSettings, stable: RingSettings | None) -> JudgeSettings:
    """How a rollout is judged: as the serving release says. The first rules are the candidate's own."""
    if stable is not None and stable.judge is not None:
        return stable.judge
    return candidate.judge or WATCHED


def build_judge_config(settings: JudgeSettings, success: str, past: Tally) -> JudgeConfig:
    """The configuration of a judge. `past`: what became of the tasks of the stable release lately."""
    config = JudgeConfig(
        metrics=("failure", "intervention") if settings.ceiling is None else ("failure", "intervention", "cost"),
        ages=settings.ages,
        margins=settings.margins,
        tolerance=settings.tolerance,
        minimum_units=settings.minimum_tasks,
        missing_fails=success == REPORT,  # by the other rules what failed is told: see `Judging.settle`
        history=_history(past),
    )
    return config if settings.ceiling is None else replace(config, ceiling=settings.ceiling)


def _history(past: Tally) -> History:
    """Of all requests, as breakers count: of a conversation that goes well, most answers tell nothing."""
    if past.requests < 1:
        return History()
    cost = past.cost / past.requests if past.cost > 0 else None
    return History(
        failure=min(past.errors / past.requests, 1.0),
        intervention=min(past.interventions / past.requests, 1.0),
        cost=cost,
        units=min(max(past.requests, 30.0), _HISTORY_UNITS),
    )


def summarise(verdict: Verdict) -> Judgement:
    """What a plan needs of a verdict."""
    evidence = verdict.evidence
    candidates = evidence.ratio.candidates
    if verdict.kind is Kind.FAIL and verdict.metric is not None:
        what = f"{verdict.metric}{_compare(evidence.metrics[verdict.metric])}"
        text = f"the judge says fail: {what} after {candidates} tasks (evidence {evidence.against:.3g})"
    elif verdict.kind is Kind.HOLD:
        text = f"{str(verdict.metric).replace('_', ' ')} speaks against it (evidence {evidence.against:.3g})"
        if verdict.metric == "sample_ratio":
            text = (
                f"{candidates} of {evidence.ratio.units} tasks came to the candidate where "
                f"{evidence.ratio.expected:.0f} should have: the comparison cannot be trusted"
            )
    elif verdict.kind is Kind.PASS:
        text = f"proven no worse than stable after {candidates} tasks"
    elif candidates == 0:
        text = "no task came to the candidate yet"
    else:
        text = f"{candidates} tasks; {verdict.metric} is not proven yet"
    return Judgement(
        verdict.kind.value, verdict.metric, evidence.proven, len(evidence.config.levels), evidence.against, text
    )


def step_is_earned(settings: JudgeSettings, judgement: Judgement | None, step: int, steps: int) -> bool:
    """Whether the evidence lets a rollout leave a step (counted from 0)."""
    if settings.ramp is Ramp.WATCH:
        return True
    if settings.ramp is Ramp.TIMED and step + 1 < steps:
        return True
    if judgement is None:
        return False
    return judgement.proven >= max(judgement.levels - (steps - 1 - step), 1)


def is_out_of_time(settings: JudgeSettings, judgement: Judgement | None, rollout: Rollout, now: float) -> bool:
    """Whether a rollout that cannot be decided has to end, one way or another. What is proven is decided."""
    if settings.inconclusive is Inconclusive.EXTEND or (judgement is not None and judgement.kind == "pass"):
        return False
    return now - rollout.began_at > settings.limit


def _compare(found: MetricEvidence) -> str:
    """The rates at the last age; nothing where an early age decided before that one had seen a task of each arm."""
    if not (found.candidate.units and found.stable.units):
        return ""
    return (
        f" {_number(found.metric, found.candidate.mean)} against {_number(found.metric, found.stable.mean)} of stable"
    )


def _number(metric: str, value: float) -> str:
    return f"{value:.4g}" if metric == "cost" else f"{value:.1%}"
