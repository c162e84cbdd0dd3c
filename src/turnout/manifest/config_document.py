"""The strict shape of the config component, as it comes back from a store or over the network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from turnout.domain.budget import Budget, BudgetScope, Unit
from turnout.domain.errors import InvalidRequest
from turnout.domain.judge import Margins
from turnout.domain.models import (
    FULL_WEIGHT,
    Breaker,
    BreakerScope,
    CanaryStep,
    Capture,
    ChangeRule,
    HealthCheck,
    Inconclusive,
    JudgeSettings,
    Limits,
    Ramp,
    Record,
    ReleaseSpec,
    ReplaySettings,
    RingSettings,
    SmokeTask,
)
from turnout.domain.outcomes import Tally, is_path
from turnout.domain.verdicts import build_judge_config
from turnout.manifest import ring_schema
from turnout.manifest.values import (
    MAX_INTEGER,
    AgentName,
    EnvName,
    Headers,
    HttpPath,
    LockPath,
    Method,
    PythonVersion,
    RingName,
    Text,
    path_fault,
)


def _check_component_path(value: str) -> str:
    fault = None if value == "." else path_fault(value)
    if fault:
        raise ValueError(fault)
    return value


def _check_pattern(value: str) -> str:
    try:
        re.compile(value.encode())
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return value


def _check_rule(value: str) -> str:
    if value not in ("status", "report", "silence") and not is_path(value):
        raise ValueError("not a rule for success")
    return value


_Duration = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
_Positive = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
_ComponentPath = Annotated[Text, AfterValidator(_check_component_path)]
_EnvDocument = Mapping[EnvName, Text]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Health(_Document):
    path: HttpPath
    interval: _Duration
    timeout: _Duration
    start_timeout: _Duration
    unhealthy_after: _Positive


class _Limits(_Document):
    memory: _Positive | None
    cpus: _Positive | None
    open_files: _Positive | None


class _Smoke(_Document):
    name: Text
    path: HttpPath
    method: Method
    headers: Headers
    body: Text | None
    expect_status: int = Field(ge=100, le=599)
    expect_text: Text | None
    timeout: _Duration


class _Step(_Document):
    weight: int = Field(ge=1, le=FULL_WEIGHT)
    duration: _Duration
    tasks: _Count


class _Margins(_Document):
    failure: float = Field(ge=0, lt=1, allow_inf_nan=False)
    intervention: float = Field(ge=0, lt=1, allow_inf_nan=False)
    cost: float = Field(ge=0, le=100, allow_inf_nan=False)


class _Judge(_Document):
    ramp: Literal["watch", "timed", "evidence"]
    ages: tuple[_Duration, ...] = Field(min_length=1, max_length=6)
    ceiling: float | None = Field(gt=0, allow_inf_nan=False)
    margins: _Margins
    tolerance: _Margins
    minimum_tasks: _Positive
    limit: _Duration
    inconclusive: Literal["hold", "extend", "back"]
    bake: _Duration
    holdback: int = Field(ge=0, le=FULL_WEIGHT // 2)

    def settings(self) -> JudgeSettings:
        return JudgeSettings(
            **{
                **self.model_dump(),
                "ramp": Ramp(self.ramp),
                "inconclusive": Inconclusive(self.inconclusive),
                "margins": Margins(**self.margins.model_dump()),
                "tolerance": Margins(**self.tolerance.model_dump()),
            }
        )


class _Breaker(_Document):
    scope: Literal["run", "deployment", "workspace"]
    metric: Literal["error_rate", "intervention_rate", "model_error_rate", "cost"]
    above: float = Field(ge=0, allow_inf_nan=False)
    window: _Duration
    tasks: _Positive


class _Capture(_Document):
    size: int = Field(ge=0, le=1 << 20)
    redact: tuple[Annotated[Text, AfterValidator(_check_pattern)], ...] = Field(max_length=50)


class _Record(_Document):
    share: float = Field(gt=0, le=1, allow_inf_nan=False)
    keep: _Duration
    models: bool
    size: int = Field(gt=0, le=1 << 20)


class _Budget(_Document):
    scope: Literal["task", "deployment", "ring"]
    limit: _Positive
    unit: Literal["usd", "tokens", "calls"]
    window: float | None = Field(ge=ring_schema.SHORTEST_WINDOW, le=ring_schema.LONGEST_WINDOW)

    def budget(self) -> Budget:
        return Budget(BudgetScope(self.scope), self.limit, Unit(self.unit), self.window)


class _Change(_Document):
    of: tuple[Literal["code", "model", "prompts", "tools", "data", "config"], ...] = Field(min_length=1)
    evals: tuple[Text, ...]
    approvals: _Count
    approvers: tuple[Text, ...]


class _Replay(_Document):
    source: RingName
    tasks: int = Field(ge=1, le=10_000)
    changed: float | None = Field(ge=0, lt=1, allow_inf_nan=False)
    models: Literal["recorded", "live"]
    answers: bool
    parallel: int = Field(ge=1, le=64)
    timeout: _Duration = Field(gt=0)


class _Ring(_Document):
    name: RingName
    replicas: int = Field(ge=1, le=1_000)
    env: _EnvDocument
    approvals: _Count
    approval_expiry: _Duration
    require: tuple[Literal["provenance", "test-result", "approval"], ...]
    canary: tuple[_Step, ...]
    warm: _Duration
    drain: _Duration
    stop_grace: _Duration
    floating_models: bool
    # What came later has a default: components of before stay readable, byte for byte as they are.
    judge: _Judge | None = None
    breakers: tuple[_Breaker, ...] = Field(default=(), max_length=20)
    capture: _Capture = _Capture(size=0, redact=())
    budgets: tuple[_Budget, ...] = Field(default=(), max_length=20)
    evals: tuple[Text, ...] = ()
    eval_age: _Duration = RingSettings("").eval_age
    changes: tuple[_Change, ...] = Field(default=(), max_length=20)
    record: _Record | None = None
    replay: _Replay | None = None

    def settings(self) -> RingSettings:
        return RingSettings(
            **{
                **self.model_dump(),
                "canary": tuple(CanaryStep(**step.model_dump()) for step in self.canary),
                "judge": self.judge.settings() if self.judge else None,
                "breakers": tuple(
                    Breaker(**{**breaker.model_dump(), "scope": BreakerScope(breaker.scope)})
                    for breaker in self.breakers
                ),
                "capture": Capture(**self.capture.model_dump()),
                "budgets": tuple(budget.budget() for budget in self.budgets),
                "changes": tuple(ChangeRule(**change.model_dump()) for change in self.changes),
                "record": Record(**self.record.model_dump()) if self.record else None,
                "replay": ReplaySettings(**self.replay.model_dump()) if self.replay else None,
            }
        )


class ConfigDocument(_Document):
    """The whole of it."""

    schema_version: Literal[1] = Field(alias="schema")
    agent: AgentName
    start: tuple[Text, ...] = Field(min_length=1)
    lock: LockPath | None
    python: PythonVersion | None
    env: _EnvDocument
    health: _Health
    limits: _Limits
    smoke: tuple[_Smoke, ...]
    rings: Annotated[tuple[_Ring, ...], Field(min_length=1)]
    paths: Mapping[Literal["prompts", "tools", "data"], _ComponentPath]
    success: Annotated[Text, AfterValidator(_check_rule)] = "status"
    suites: tuple[Text, ...] = ()

    @property
    def _ring_names(self) -> list[str]:
        return [ring.name for ring in self.rings]

    def spec(self) -> ReleaseSpec:
        """The spec. Raises `InvalidRequest` for rings that the fields alone cannot refuse."""
        if len(set(self._ring_names)) < len(self._ring_names):
            raise InvalidRequest("the config component is malformed: rings: a name is there twice")
        for ring in self.rings:
            weights = [step.weight for step in ring.canary]
            if weights != sorted(set(weights)):
                raise InvalidRequest(f"the config component is malformed: ring {ring.name}: canary weights must grow")
            if ring.judge is not None:  # a judge that cannot be built would hold up everything in its ring
                build_judge_config(ring.judge.settings(), self.success, Tally())
        return ReleaseSpec(
            agent=self.agent,
            start=self.start,
            rings=tuple(ring.settings() for ring in self.rings),
            lock=self.lock,
            python=self.python,
            env=dict(self.env),
            health=HealthCheck(**self.health.model_dump()),
            limits=Limits(**self.limits.model_dump()),
            smoke=tuple(SmokeTask(**task.model_dump()) for task in self.smoke),
            paths={str(name): path for name, path in self.paths.items()},
            success=self.success,
            suites=self.suites,
        )
