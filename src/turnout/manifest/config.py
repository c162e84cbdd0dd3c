"""Manifest → config component → `ReleaseSpec`: everything that is needed to run a release, and nothing else.

The component is a JSON document that also comes back over the network, so reading it is as strict as reading the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from turnout.domain.errors import InvalidRequest
from turnout.domain.models import (
    ATTESTATION_KINDS,
    FULL_WEIGHT,
    CanaryStep,
    HealthCheck,
    Limits,
    ReleaseSpec,
    RingSettings,
    SmokeTask,
)
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


def build_config(manifest: schema.Manifest) -> dict[str, Any]:
    """The config component as a JSON document. Rings are a list, to keep their order; flags are in `env`."""
    return spec_document(build_spec(manifest))


def build_spec(manifest: schema.Manifest) -> ReleaseSpec:
    """What a manifest declares, with its flags in the environment and its weights in basis points."""
    return ReleaseSpec(
        agent=manifest.agent,
        start=manifest.code.command,
        rings=tuple(_ring_settings(name, ring) for name, ring in manifest.ring_tables.items()),
        lock=manifest.code.lock,
        python=manifest.code.python,
        env=_environment(manifest.env, manifest.flags),
        health=HealthCheck(**manifest.health.model_dump()),
        limits=Limits(**manifest.limits.model_dump()),
        smoke=tuple(_smoke_task(task) for task in manifest.smoke),
        paths=_component_paths(manifest),
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
        "rings": [
            {**_fields(ring), "env": dict(ring.env), "canary": [_fields(step) for step in ring.canary]}
            for ring in spec.rings
        ],
        "paths": dict(spec.paths),
    }


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

    def settings(self) -> RingSettings:
        steps = tuple(CanaryStep(**step.model_dump()) for step in self.canary)
        return RingSettings(**{**self.model_dump(), "canary": steps})


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
        )
