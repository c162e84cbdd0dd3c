"""Manifest → config component → `ReleaseSpec`: everything that is needed to run a release, and nothing else.

The component is a JSON document that also comes back over the network, so reading it is as strict as reading the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from pydantic import ValidationError

from turnout.domain.budget import NANOS, Budget, BudgetScope, Unit
from turnout.domain.errors import InvalidRequest
from turnout.domain.judge import Margins
from turnout.domain.models import (
    ATTESTATION_KINDS,
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
from turnout.manifest import ring_schema, schema
from turnout.manifest.config_document import ConfigDocument
from turnout.manifest.values import (
    basis_points,
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
        suites=tuple(suite.name for suite in manifest.evals),
    )


def spec_document(spec: ReleaseSpec) -> dict[str, Any]:
    """The JSON document of a spec; `parse_config` reads it back."""
    document = {
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
        "suites": list(spec.suites),
    }
    return document if spec.suites else _without(document, "suites")


def _ring_document(ring: RingSettings) -> dict[str, Any]:
    document = {
        **_fields(ring),
        "env": dict(ring.env),
        "canary": [_fields(step) for step in ring.canary],
        "judge": _judge_document(ring.judge) if ring.judge else None,
        "breakers": [_fields(breaker) for breaker in ring.breakers],
        "capture": _fields(ring.capture),
        "budgets": [_fields(budget) for budget in ring.budgets],
        "evals": list(ring.evals),
        "changes": [_change_document(rule) for rule in ring.changes],
        "record": _fields(ring.record) if ring.record else None,
        "replay": _fields(ring.replay) if ring.replay else None,
    }
    unsaid = [name for name in ("budgets", "evals", "changes", "record", "replay") if not document[name]]
    return _without(document, *unsaid, *(["eval_age"] if ring.eval_age == RingSettings("").eval_age else []))


def _without(document: dict[str, Any], *unsaid: str) -> dict[str, Any]:
    """What came later is left out where it says nothing: a release without it has the digest that it always had."""
    return {name: value for name, value in document.items() if name not in unsaid}


def _change_document(rule: ChangeRule) -> dict[str, Any]:
    return {**_fields(rule), "of": list(rule.of), "evals": list(rule.evals), "approvers": list(rule.approvers)}


def _judge_document(judge: JudgeSettings) -> dict[str, Any]:
    return {**_fields(judge), "margins": _fields(judge.margins), "tolerance": _fields(judge.tolerance)}


def parse_config(content: bytes) -> ReleaseSpec:
    """Read a config component. Raises `InvalidRequest` for anything that `build_config` could not have written."""
    try:
        return ConfigDocument.model_validate_json(content).spec()
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        raise InvalidRequest(
            f"the config component is malformed: {place}: {first['msg']}",
            hint="build the release again with this version of turnout",
        ) from None


def _ring_settings(name: str, ring: ring_schema.Ring) -> RingSettings:
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
        evals=ring.evals,
        eval_age=ring.eval_age,
        changes=tuple(ChangeRule(rule.of, rule.evals, rule.approvals, rule.approvers) for rule in ring.changes),
        replay=ReplaySettings(**ring.replay.model_dump()) if ring.replay else None,
        record=Record(**ring.record.model_dump()) if ring.record else None,
    )


def _budget(table: ring_schema.BudgetTable) -> Budget:
    limit = round(table.limit * NANOS) if table.unit == "usd" else int(table.limit)
    return Budget(BudgetScope(table.scope), limit, Unit(table.unit), table.window)


def _judge_settings(judge: ring_schema.Judge) -> JudgeSettings:
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
    return {**env, **{ring_schema.flag_variable(name): _flag_text(value) for name, value in flags.items()}}


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
