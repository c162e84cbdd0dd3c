"""Manifest → config component → `ReleaseSpec`: everything that is needed to run a release, and nothing else.

The component is a JSON document that also comes back over the network, so reading it is as strict as reading the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from turnout.domain.budget import NANOS, Budget, BudgetScope, Unit
from turnout.domain.errors import InvalidRequest
from turnout.domain.judge import Margins
from turnout.domain.models import (
    ATTESTATION_KINDS,
    FULL_WEIGHT,
    Breaker,
    BreakerScope,
    CanaryStep,
    Capture,
    HealthCheck,
    Inconclusive,
    JudgeSettings,
    Limits,
    Ramp,
    ReleaseSpec,
    RingSettings,
    SmokeTask,
)
from turnout.domain.outcomes import Tally, is_path
from turnout.domain.verdicts import build_judge_config
from turnout.manifest import schema
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
    basis_points,
    path_fault,
)

USUAL_HOLDBACK = 2.0  # percent
INSTRUMENT = "opentelemetry-instrument"  # a command that the agent's own packages bring
# The task travels in the baggage; nothing is sent anywhere unless the manifest says so.
_INSTRUMENTED = {
    "OTEL_PROPAGATORS": "tracecontext,baggage",
    "OTEL_TRACES_EXPORTER": "none",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
}


def build_config(manifest: schema.Manifest) -> dict[str, Any]:
    """The config component as a JSON document. Rings are a list, to keep their order; flags are in `env`."""
    return spec_document(build_spec(manifest))


def build_spec(manifest: schema.Manifest) -> ReleaseSpec:
    """What a manifest declares, with its flags in the environment and its weights in basis points."""
    return ReleaseSpec(
        agent=manifest.agent,
        start=(INSTRUMENT, *manifest.code.command) if manifest.code.instrument else manifest.code.command,
        rings=tuple(_ring_settings(name, ring) for name, ring in manifest.ring_tables.items()),
        lock=manifest.code.lock,
        python=manifest.code.python,
        env={
            **(_INSTRUMENTED if manifest.code.instrument else {}),
            **_environment(manifest.env, manifest.flags),
        },
        health=HealthCheck(**manifest.health.model_dump()),
        limits=Limits(**manifest.limits.model_dump()),
        smoke=tuple(_smoke_task(task) for task in manifest.smoke),
        paths=_component_paths(manifest),
        success=manifest.outcomes.success,
    )


def spec_document(spec: ReleaseSpec) -> dict[str, Any]:
    """The JSON document of a spec; `parse_config` reads it back."""
    return {
        "schema": 1,
        "agent": spec.agent,
        "start": list(spec.start),
        "lock": spec.lock,
        "python": spec.python,
        "env": dict(spec.env),
        "health": _fields(spec.health),
        "limits": _fields(spec.limits),
        "smoke": [{**_fields(task), "headers": dict(task.headers)} for task in spec.smoke],
        "rings": [_ring_document(ring) for ring in spec.rings],
        "paths": dict(spec.paths),
        "success": spec.success,
    }


def _ring_document(ring: RingSettings) -> dict[str, Any]:
    document = {
        **_fields(ring),
        "env": dict(ring.env),
        "canary": [_fields(step) for step in ring.canary],
        "judge": _judge_document(ring.judge) if ring.judge else None,
        "breakers": [_fields(breaker) for breaker in ring.breakers],
        "capture": _fields(ring.capture),
        "budgets": [_fields(budget) for budget in ring.budgets],
    }
    if not ring.budgets:  # releases without any have the digest that they always had
        del document["budgets"]
    return document


def _judge_document(judge: JudgeSettings) -> dict[str, Any]:
    return {**_fields(judge), "margins": _fields(judge.margins), "tolerance": _fields(judge.tolerance)}


def parse_config(content: bytes) -> ReleaseSpec:
    """Read a config component. Raises `InvalidRequest` for anything that `build_config` could not have written."""
    try:
        return _Config.model_validate_json(content).spec()
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        raise InvalidRequest(
            f"the config component is malformed: {place}: {first['msg']}",
            hint="build the release again with this version of turnout",
        ) from None


def _ring_settings(name: str, ring: schema.Ring) -> RingSettings:
    return RingSettings(
        name=name,
        replicas=ring.replicas,
        env=_environment(ring.env, ring.flags),
        approvals=ring.approvals,
        approval_expiry=ring.approval_expiry,
        require=tuple(kind for kind in ATTESTATION_KINDS if kind in ring.require),
        canary=tuple(CanaryStep(basis_points(step.weight), step.time, step.tasks) for step in ring.canary),
        warm=ring.warm,
        drain=ring.drain,
        stop_grace=ring.stop_grace,
        floating_models=ring.floating_models,
        judge=_judge_settings(ring.judge) if ring.judge else None,
        breakers=tuple(
            Breaker(BreakerScope(breaker.scope), breaker.metric, breaker.above, breaker.window, breaker.tasks)
            for breaker in ring.breakers
        ),
        capture=Capture(ring.capture.size, ring.capture.redact) if ring.capture else Capture(),
        budgets=tuple(_budget(table) for table in ring.budgets),
    )


def _budget(table: schema.BudgetTable) -> Budget:
    limit = round(table.limit * NANOS) if table.unit == "usd" else int(table.limit)
    return Budget(BudgetScope(table.scope), limit, Unit(table.unit), table.window)


def _judge_settings(judge: schema.Judge) -> JudgeSettings:
    return JudgeSettings(
        ramp=Ramp(judge.ramp),
        ages=judge.ages,
        ceiling=judge.ceiling,
        margins=Margins(**judge.margins.model_dump()),
        tolerance=Margins(**judge.tolerance.model_dump()),
        minimum_tasks=judge.minimum_tasks,
        limit=judge.limit,
        inconclusive=Inconclusive(judge.inconclusive),
        bake=judge.bake,
        holdback=basis_points(judge.holdback or USUAL_HOLDBACK) if judge.bake else 0,
    )


def _environment(env: Mapping[str, str], flags: Mapping[str, bool | int | str]) -> dict[str, str]:
    return {**env, **{schema.flag_variable(name): _flag_text(value) for name, value in flags.items()}}


def _flag_text(value: bool | int | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _smoke_task(task: schema.Smoke) -> SmokeTask:
    headers, body = dict(task.headers), task.body
    if task.json_body is not None:
        body = json.dumps(task.json_body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        if not any(name.lower() == "content-type" for name in headers):
            headers["content-type"] = "application/json"
    return SmokeTask(
        name=task.name,
        path=task.path,
        method=task.method,
        headers=headers,
        body=body,
        expect_status=task.expect_status,
        expect_text=task.expect_text,
        timeout=task.timeout,
    )


def _component_paths(manifest: schema.Manifest) -> dict[str, str]:
    paths = {}
    if manifest.prompts:
        paths["prompts"] = _common_folder(manifest.prompts.files)
    if manifest.tools:
        paths["tools"] = manifest.tools.manifest
    if manifest.data:
        paths["data"] = manifest.data.path
    return paths


def _common_folder(globs: Sequence[str]) -> str:
    """The deepest folder that holds everything the globs can match; "." for the agent's folder itself."""
    folders = [_literal_folder(glob) for glob in globs if not glob.startswith("!")]
    common: list[str] = []
    for level in zip(*folders, strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return "/".join(common) or "."


def _literal_folder(glob: str) -> tuple[str, ...]:
    if "/" not in glob.rstrip("/"):
        return ()  # as in .gitignore, a bare name is found at any depth
    parts = PurePosixPath(glob).parts
    wild = next((index for index, part in enumerate(parts) if any(sign in part for sign in "*?[")), len(parts) - 1)
    return parts[:wild]


def _fields(value: object) -> dict[str, Any]:
    """The fields of a frozen value as they are (`dataclasses.asdict` copies mapping proxies, which cannot be copied)."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}  # type: ignore[attr-defined]


# --- the strict shape of the document --------------------------------------------------------------------------------


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
    metric: Literal["error_rate", "intervention_rate", "cost"]
    above: float = Field(ge=0, allow_inf_nan=False)
    window: _Duration
    tasks: _Positive


class _Capture(_Document):
    size: int = Field(ge=0, le=1 << 20)
    redact: tuple[Annotated[Text, AfterValidator(_check_pattern)], ...] = Field(max_length=50)


class _Budget(_Document):
    scope: Literal["task", "deployment", "ring"]
    limit: _Positive
    unit: Literal["usd", "tokens", "calls"]
    window: float | None = Field(ge=schema.SHORTEST_WINDOW, le=schema.LONGEST_WINDOW)

    def budget(self) -> Budget:
        return Budget(BudgetScope(self.scope), self.limit, Unit(self.unit), self.window)


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
            }
        )


class _Config(_Document):
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
        )
