"""The part of the closed schema of `turnout.toml` that is about one ring: `[rings.NAME]`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from turnout.domain.budget import NANOS
from turnout.domain.judge.config import SHORTEST_AGE
from turnout.manifest.values import (
    MAX_INTEGER,
    Env,
    Faults,
    Flags,
    Seconds,
    Size,
    Text,
    basis_points,
)

FLAG_PREFIX = "FEATURE_"
LONGEST_RUN_WINDOW = 3_600.0  # seconds; each task in it is looked at, four times a second
SHORTEST_WINDOW = 1.0  # of a budget, seconds
LONGEST_WINDOW = 366 * 86_400.0


class Table(BaseModel):
    """A table of the file: unknown keys are errors, nothing is coerced, nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Canary(Table):
    """A share of the traffic to hold until both the time has passed and the tasks were served."""

    weight: float = Field(description="percent of the traffic, above 0 and up to 100", examples=[10])
    time: Seconds = Field(default=0.0, description="how long to stay at least", examples=["5m"])
    tasks: int = Field(default=0, ge=0, le=1_000_000_000, description="tasks to see at least", examples=[50])

    @model_validator(mode="after")
    def _weight_in_percent(self) -> Self:
        try:
            basis_points(self.weight)
        except ValueError as error:
            raise Faults((".weight", str(error))) from None
        return self


class MarginTable(Table):
    """How much worse a candidate may be."""

    failure: float = Field(default=0.03, ge=0, lt=1, allow_inf_nan=False, description="share of failed tasks")
    intervention: float = Field(default=0.025, ge=0, lt=1, allow_inf_nan=False, description="share of interventions")
    cost: float = Field(default=0.25, ge=0, le=100, allow_inf_nan=False, description="part of the mean cost of a task")


class Tolerances(MarginTable):
    """By how much worse a candidate may be without being taken back; inside the margins."""

    failure: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False, description="share of failed tasks")
    intervention: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False, description="share of interventions")
    cost: float = Field(default=0.0, ge=0, le=100, allow_inf_nan=False, description="part of the mean cost of a task")


class Judge(Table):
    """How rollouts are judged by what becomes of tasks. Without it a canary is watched, and taken back when it is worse."""

    ramp: Literal["watch", "timed", "evidence"] = Field(
        default="evidence",
        description="evidence at each step; timed, with proof at the end; or watch, without",
    )
    ages: tuple[Seconds, ...] = Field(
        default=(120.0, 600.0, 3600.0),
        strict=False,
        min_length=1,
        max_length=6,
        description="ages at which a task is judged; after the last one silence is failure",
        examples=[["2m", "10m", "1h"]],
    )
    ceiling: float | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="what one task may cost at most; without it cost is not judged",
        examples=[2.0],
    )
    margins: MarginTable = Field(default_factory=MarginTable, description="how much worse is too much to be promoted")
    tolerance: Tolerances = Field(default_factory=Tolerances, description="how much worse is no reason to take it back")
    minimum_tasks: int = Field(
        default=20, ge=1, le=1_000_000, description="tasks of the candidate before it can be proven"
    )
    limit: Seconds = Field(default=259_200.0, gt=0, description="how long a rollout may take to be decided")
    inconclusive: Literal["hold", "extend", "back"] = Field(
        default="hold", description="what then: wait for a person, wait for more tasks, or take it back"
    )
    bake: Seconds = Field(default=0.0, description="how long the judge stays on after 100 %", examples=["1h"])
    holdback: float | None = Field(
        default=None, description="percent that last-good keeps meanwhile; 2 if there is a bake", examples=[2]
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        faults = []
        if any(a >= b for a, b in zip(self.ages, self.ages[1:], strict=False)) or self.ages[0] < SHORTEST_AGE:
            faults.append((".ages", f"ages grow, and none is under {SHORTEST_AGE:g} s"))
        for name in ("failure", "intervention", "cost"):
            if getattr(self.margins, name) <= 0:
                faults.append((f".margins.{name}", "a margin is above 0"))
            elif getattr(self.tolerance, name) >= getattr(self.margins, name):
                faults.append((f".tolerance.{name}", "must be less than the margin"))
        if self.holdback is not None:
            try:
                basis_points(self.holdback)
            except ValueError as error:
                faults.append((".holdback", str(error)))
            if self.holdback > 50:
                faults.append((".holdback", "at most 50"))
            if not self.bake:
                faults.append((".bake", "say how long last-good keeps its share"))
        if faults:
            raise Faults(*faults)
        return self


class BreakerTable(Table):
    """A rule that takes the active release back by itself."""

    scope: Literal["run", "deployment", "workspace"] = Field(
        default="deployment", description="over a single task, over this ring, or over everything that runs here"
    )
    metric: Literal["error_rate", "intervention_rate", "model_error_rate", "cost"] = Field(
        description="what is looked at; for a single task its failed requests, interventions, cost",
        examples=["error_rate"],
    )
    above: float = Field(
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="it trips above this: a share, a number, a cost",
        examples=[0.3],
    )
    window: Seconds = Field(default=300.0, ge=10, le=86_400, description="over how long it looks back")
    tasks: int = Field(default=20, ge=1, le=1_000_000, description="fewer tasks say nothing about a rate")

    @model_validator(mode="after")
    def _short_for_tasks(self) -> Self:
        if self.scope == "run" and self.window > LONGEST_RUN_WINDOW:
            raise Faults((".window", f"at most {LONGEST_RUN_WINDOW:g} s for a single task"))
        return self


class BudgetTable(Table):
    """What may be spent on models and tools. A call that could exceed it is refused."""

    scope: Literal["task", "deployment", "ring"] = Field(
        description="who shares it: one task, this release in this ring, or all releases in it", examples=["task"]
    )
    unit: Literal["usd", "tokens", "calls"] = Field(default="usd", description="what is counted")
    limit: float = Field(gt=0, allow_inf_nan=False, description="how much: dollars, or a number", examples=[0.5])
    window: Seconds | None = Field(
        default=None,
        description="in any time of this length; without it in all, which a ring never ends",
        examples=["1h"],
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        faults = []
        if self.unit != "usd" and self.limit != int(self.limit):
            faults.append((".limit", f"{self.unit} are counted in whole numbers"))
        if not 1 <= self.limit * (NANOS if self.unit == "usd" else 1) <= MAX_INTEGER:
            faults.append((".limit", "from a nano-dollar to nine million dollars, or a number up to 9e15"))
        if self.window is None and self.scope == "ring":
            faults.append((".window", "a ring never ends: say in which time"))
        if self.window is not None and not SHORTEST_WINDOW <= self.window <= LONGEST_WINDOW:
            faults.append((".window", "between 1 s and 366 days"))
        if faults:
            raise Faults(*faults)
        return self


class CaptureTable(Table):
    """What is kept of requests and answers, for lineage and replay. Nothing without it."""

    size: Size = Field(default=4096, gt=0, le=1 << 20, description="bytes of each, at most", examples=["4KB"])
    redact: tuple[Text, ...] = Field(
        default=(),
        strict=False,
        max_length=50,
        description="regular expressions; what they match is not kept",
        examples=[["[0-9]{13,16}"]],
    )

    @model_validator(mode="after")
    def _patterns(self) -> Self:
        faults = []
        for index, pattern in enumerate(self.redact):
            try:
                re.compile(pattern.encode())
            except re.error as error:
                faults.append((f".redact[{index}]", f"not a regular expression: {error}"))
        if faults:
            raise Faults(*faults)
        return self


class ChangeTable(Table):
    """What a change of some components needs. Without any a change of model or tools needs every declared suite."""

    of: tuple[Literal["code", "model", "prompts", "tools", "data", "config"], ...] = Field(
        strict=False, min_length=1, description="the components", examples=[["model", "tools"]]
    )
    evals: tuple[Text, ...] = Field(
        default=(), strict=False, description="suites that must have passed", examples=[["answers"]]
    )
    approvals: int = Field(default=0, ge=0, le=100, description="people who must approve", examples=[1])
    approvers: tuple[Text, ...] = Field(
        default=(), strict=False, max_length=100, description="of whom one must", examples=[["safety-lead"]]
    )


class RecordTable(Table):
    """Which tasks of the stable release are kept so that they can be replayed, without what [capture] redacts."""

    share: float = Field(default=1.0, gt=0, le=1, allow_inf_nan=False, description="share of the tasks", examples=[0.1])
    keep: Seconds = Field(default=2_592_000.0, gt=0, description="how long a recording is kept")
    models: bool = Field(default=True, description="keep what models answered too")
    size: Size = Field(
        default=256_000,
        le=1 << 20,
        description="bytes of one payload, at most; a task with a larger one cannot be replayed",
    )


class ReplayTable(Table):
    """Recorded tasks that a release is asked, apart from all traffic, before it starts in the ring."""

    source: Text = Field(alias="from", description="the ring whose tasks were recorded", examples=["production"])
    tasks: int = Field(default=50, ge=1, le=10_000, description="how many of them, the newest")
    changed: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        allow_inf_nan=False,
        description="share of tasks that may come out otherwise, held against the upper bound",
        examples=[0.1],
    )
    models: Literal["recorded", "live"] = Field(default="recorded", description="what answers calls of models")
    answers: bool = Field(default=False, description="whether another text of an answer counts")
    parallel: int = Field(default=1, ge=1, le=64, description="tasks at a time")
    timeout: Seconds = Field(default=60.0, gt=0, description="time for all requests of a task")


class Ring(Table):
    """What the release asks of one ring. The order of the rings in the file is the order of promotion."""

    replicas: int = Field(default=1, ge=1, le=1_000, description="processes that share the traffic")
    env: Env = Field(
        default_factory=dict, description="environment in this ring, over [env]", examples=[{"LOG_LEVEL": "info"}]
    )
    flags: Flags = Field(
        default_factory=dict, description="feature flags in this ring, over [flags]", examples=[{"citations": True}]
    )
    approvals: int = Field(default=0, ge=0, le=100, description="people who must approve, the author not alone")
    approval_expiry: Seconds = Field(default=86_400.0, gt=0, description="how long an approval counts")
    require: tuple[Literal["provenance", "test-result", "approval"], ...] = Field(
        default=(),
        strict=False,
        description="signed statements that a release must have to start here",
        examples=[["provenance"]],
    )
    evals: tuple[Text, ...] = Field(
        default=(), strict=False, description="suites that every release must have passed", examples=[["answers"]]
    )
    eval_age: Seconds = Field(default=2_592_000.0, gt=0, description="how old the result of a suite may be")
    changes: tuple[ChangeTable, ...] = Field(
        default=(), strict=False, max_length=20, description="what a change of some components needs; repeatable"
    )
    canary: tuple[Canary, ...] = Field(
        default=(), strict=False, description="steps of growing traffic before the release becomes active"
    )
    warm: Seconds = Field(default=600.0, description="how long a release that left the traffic keeps running")
    drain: Seconds = Field(default=30.0, description="how long requests in flight may take to finish")
    stop_grace: Seconds = Field(default=10.0, description="time between SIGTERM and SIGKILL")
    floating_models: bool = Field(
        default=False, description="accept models whose name changes its meaning, such as -latest"
    )
    judge: Judge | None = Field(default=None, description="how rollouts are judged by what becomes of tasks")
    breakers: tuple[BreakerTable, ...] = Field(
        default=(), strict=False, max_length=20, description="rules that take the active release back by themselves"
    )
    capture: CaptureTable | None = Field(default=None, description="what is kept of requests and answers")
    budgets: tuple[BudgetTable, ...] = Field(
        default=(), strict=False, max_length=20, description="what may be spent on models and tools; repeatable"
    )
    record: RecordTable | None = Field(default=None, description="which tasks are kept for replay")

    replay: ReplayTable | None = Field(default=None, description="recorded tasks that a release is asked before")

    def suites_asked(self) -> Iterator[tuple[str, str]]:
        """(place, name) of each suite that is asked for."""
        yield from ((f".evals[{at}]", name) for at, name in enumerate(self.evals))
        for number, change in enumerate(self.changes):
            yield from ((f".changes[{number}].evals[{at}]", name) for at, name in enumerate(change.evals))

    @model_validator(mode="after")
    def _weights_grow(self) -> Self:
        faults = [
            (f".canary[{index + 1}].weight", f"must be more than {before.weight:g}, the weight of the step before")
            for index, (before, step) in enumerate(zip(self.canary, self.canary[1:], strict=False))
            if basis_points(step.weight) <= basis_points(before.weight)
        ]
        if faults:
            raise Faults(*faults)
        return self

    @model_validator(mode="after")
    def _steps_fit_the_limit(self) -> Self:
        if self.judge is not None and sum(step.time for step in self.canary) >= self.judge.limit:
            raise Faults((".judge.limit", "must be longer than all canary steps together"))
        return self

    @model_validator(mode="after")
    def _no_double_flag(self) -> Self:
        refuse_double_flags(self.env, self.flags)
        return self


def flag_variable(name: str) -> str:
    """The environment variable of a feature flag."""
    return FLAG_PREFIX + name.upper()


def refuse_double_flags(env: Mapping[str, str], flags: Mapping[str, object]) -> None:
    """Raise `Faults` for a flag whose variable is in the environment too."""
    faults = [
        (f".flags.{name}", f"{flag_variable(name)} is in env too; keep one")
        for name in flags
        if flag_variable(name) in env
    ]
    if faults:
        raise Faults(*faults)
