"""The canary part of a deployment: its steps, and what must hold at each. Pure."""

from __future__ import annotations

from turnout.domain.models import FULL_WEIGHT, CanaryStep, Deployment, Kind, Pointer, Ramp, RingSettings, Rollout
from turnout.domain.verdicts import choose_judge

EVIDENCE_STEPS = (CanaryStep(500), CanaryStep(2_500), CanaryStep(5_000))


def canary_steps(
    deployment: Deployment, pointer: Pointer, settings: RingSettings, stable: RingSettings | None = None
) -> tuple[CanaryStep, ...]:
    """The steps of a deployment. None where there is no stable release to compare with, and none for a rollback."""
    if deployment.kind is Kind.ROLLBACK or pointer.stable is None or pointer.stable == deployment.digest:
        return ()
    return choose_canary(settings, stable)


def choose_canary(settings: RingSettings, stable: RingSettings | None) -> tuple[CanaryStep, ...]:
    """A release that declares no canary goes through the one of the stable release: it cannot leave it out for itself.

    Where neither does and evidence is asked for, the ramp is the usual one.
    """
    declared = settings.canary or (stable.canary if stable is not None else ())
    judged = choose_judge(settings, stable).ramp is not Ramp.WATCH
    if judged:  # where everybody comes to the candidate, nothing is compared and nothing can be proven
        declared = tuple(step for step in declared if step.weight < FULL_WEIGHT)
    return declared or (EVIDENCE_STEPS if judged else ())


def step_is_over(rollout: Rollout, step: CanaryStep, tasks: int, now: float) -> bool:
    """Whether both the time and the number of tasks of the step have been reached."""
    return now - rollout.entered_at >= step.duration and tasks >= step.tasks


def describe_step(index: int, steps: tuple[CanaryStep, ...]) -> str:
    """Such as `step 1 of 3: 10 % until 60 s and 50 tasks`."""
    return f"step {index + 1} of {len(steps)}: {describe_target(steps[index])}"


def describe_target(step: CanaryStep) -> str:
    """Such as `10 % until 60 s and 50 tasks`."""
    limits = [f"{step.duration:g} s"] if step.duration else []
    limits += [f"{step.tasks} tasks"] if step.tasks else []
    return f"{format_weight(step.weight)} until {' and '.join(limits)}" if limits else format_weight(step.weight)


def format_weight(weight: int) -> str:
    """Basis points as a percentage for people."""
    return f"{weight * 100 / FULL_WEIGHT:g} %"
