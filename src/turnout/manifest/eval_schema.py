"""The part of the closed schema of `turnout.toml` that is about eval suites: `[[evals]]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from turnout.manifest.ring_schema import Table
from turnout.manifest.values import Faults, Glob, LockPath, RelativePath, RingName, Seconds, Shown, Text, check_slug


def _check_suite(value: str) -> str:
    return check_slug(value, 32)


SuiteName = Annotated[str, AfterValidator(_check_suite), Shown("name")]
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Numbers = Annotated[Mapping[Text, _Number], Shown("table of numbers")]
_Command = Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]
_Commands = Annotated[Mapping[Text, _Command], Shown("table of commands")]


class Require(Table):
    """What the runs of a suite must show. Each is held against the bound of its confidence interval, not the mean."""

    success: float | None = Field(
        default=None, gt=0, le=1, allow_inf_nan=False, description="share of passed runs at least", examples=[0.9]
    )
    cost: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="mean dollars of a run at most", examples=[0.05]
    )
    latency: Seconds | None = Field(default=None, description="mean time of a run at most", examples=["5s"])
    scores: _Numbers = Field(
        default_factory=dict, description="means of own scores at least", examples=[{"politeness": 0.8}]
    )


class NoWorse(Table):
    """By how much a release may be worse than the stable one, on the same cases."""

    success: float | None = Field(
        default=None, gt=0, lt=1, allow_inf_nan=False, description="share of passed runs", examples=[0.05]
    )
    cost: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="part of the mean cost", examples=[0.25]
    )
    latency: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="part of the mean time", examples=[0.5]
    )
    scores: _Numbers = Field(
        default_factory=dict, description="of own scores, in their own unit", examples=[{"politeness": 0.1}]
    )


class Evals(Table):
    """A suite that a release must pass before it leaves the build. Give `cases`, a `command`, or a `dataset`."""

    name: SuiteName = Field(description="name of the suite", examples=["answers"])
    command: tuple[Text, ...] = Field(
        default=(),
        strict=False,
        description="writes one JSON object a case; with cases it is given one a line",
        examples=[["python", "evals/check.py"]],
    )
    cases: RelativePath | None = Field(
        default=None, description="JSON lines with an id each, given to the command", examples=["evals/cases.jsonl"]
    )
    dataset: RelativePath | None = Field(
        default=None, description="dataset of pydantic-evals; instead of command", examples=["evals/answers.yaml"]
    )
    task: Text | None = Field(
        default=None,
        description="module:function that asks the agent, for a dataset",
        examples=["evals.ask:answer"],
    )
    evaluators: Text | None = Field(
        default=None, description="module:names of own evaluators, for a dataset", examples=["evals.checks:EVALUATORS"]
    )
    files: tuple[Glob, ...] = Field(
        default=("evals/**",),
        strict=False,
        min_length=1,
        description="its cases and evaluators: kept out of the release, attested with the result",
        examples=[["evals/**"]],
    )
    lock: LockPath | None = Field(
        default=None,
        description="locked dependencies of its own; else those of the release",
        examples=["evals/requirements.txt"],
    )
    repeat: int = Field(default=5, ge=1, le=100, description="how often each case is run")
    parallel: int = Field(default=4, ge=1, le=64, description="runs at the same time")
    timeout: Seconds = Field(default=60.0, gt=0, description="how long one run may take")
    retries: int = Field(default=1, ge=0, le=10, description="how often a run that broke off is tried again")
    limit: Seconds = Field(default=3_600.0, gt=0, description="how long the suite may take")
    confidence: float = Field(
        default=0.9,
        ge=0.5,
        le=0.999_999,
        allow_inf_nan=False,
        description="of the one-sided interval that is held against",
    )
    require: Require = Field(default_factory=Require, description="what its runs must show")
    no_worse: NoWorse | None = Field(default=None, description="how much worse than the stable release is too much")
    against: RingName | None = Field(
        default=None, description="ring whose stable release that is; the last one without it", examples=["production"]
    )
    tool_servers: _Commands = Field(
        default_factory=dict,
        description="commands that stand in for tool servers",
        examples=[{"orders": ["python", "evals/orders.py"]}],
    )

    @model_validator(mode="after")
    def _one_way_to_run(self) -> Self:
        faults = []
        if bool(self.command) == (self.dataset is not None):
            faults.append(("", "say how to run it: a command, or a dataset"))
        if self.dataset is not None and self.cases is not None:
            faults.append((".cases", "the dataset holds the cases"))
        if self.dataset is None:
            faults += [(f".{key}", "only for a dataset") for key in ("task", "evaluators") if getattr(self, key)]
        if self.require == Require() and self.no_worse in (None, NoWorse()):
            faults.append((".require", "say what it must show, such as { success = 0.9 }"))
        if faults:
            raise Faults(*faults)
        return self
