"""The config component: what it holds, and that it reads back exactly or is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.manifest.patience import PATIENT
from turnout.domain.budget import NANOS, Budget, BudgetScope, Unit
from turnout.domain.errors import InvalidRequest
from turnout.domain.models import (
    CanaryStep,
    Capture,
    HealthCheck,
    Limits,
    Record,
    ReleaseSpec,
    RingSettings,
    SmokeTask,
)
from turnout.manifest import Manifest, build_config, parse_config
from turnout.manifest.config import build_spec, spec_document

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True)
ENV = st.dictionaries(st.from_regex(r"X[A-Z0-9_]{0,8}", fullmatch=True), TEXT, max_size=3)
SECONDS = st.floats(min_value=0, max_value=1e9)
COUNTS = st.integers(min_value=0, max_value=2**53 - 1)
POSITIVES = st.integers(min_value=1, max_value=2**53 - 1)
HTTP_PATHS = st.from_regex(r"/[a-z0-9/._-]{0,9}", fullmatch=True)
RELATIVE = st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5}){0,2}", fullmatch=True)

CANARIES = st.lists(st.integers(min_value=1, max_value=10_000), unique=True, max_size=4).flatmap(
    lambda weights: st.tuples(*(st.builds(CanaryStep, st.just(weight), SECONDS, COUNTS) for weight in sorted(weights)))
)
BUDGETS = st.builds(
    Budget,
    scope=st.sampled_from([BudgetScope.TASK, BudgetScope.DEPLOYMENT, BudgetScope.RING]),
    limit=POSITIVES,
    unit=st.sampled_from(Unit),
    window=st.none() | st.floats(min_value=1, max_value=366 * 86_400),
)
RINGS = st.builds(
    RingSettings,
    name=NAMES,
    replicas=st.integers(min_value=1, max_value=1_000),
    env=ENV,
    approvals=COUNTS,
    approval_expiry=SECONDS,
    canary=CANARIES,
    warm=SECONDS,
    drain=SECONDS,
    stop_grace=SECONDS,
    budgets=st.lists(BUDGETS, max_size=3).map(tuple),
)
SMOKE = st.builds(
    SmokeTask,
    name=TEXT,
    path=HTTP_PATHS,
    method=st.sampled_from(["GET", "POST"]),
    headers=st.dictionaries(st.sampled_from(["accept", "x-a"]), st.sampled_from(["", "a b"])),
    body=st.none() | TEXT,
    expect_status=st.integers(min_value=100, max_value=599),
    expect_text=st.none() | TEXT,
    timeout=SECONDS,
)
SPECS = st.builds(
    ReleaseSpec,
    agent=NAMES,
    start=st.lists(TEXT, min_size=1, max_size=4).map(tuple),
    rings=st.lists(RINGS, min_size=1, max_size=3, unique_by=lambda ring: ring.name).map(tuple),
    lock=st.sampled_from([None, "uv.lock", "deep/requirements.txt"]),
    python=st.sampled_from([None, "3.12", "3.11.7"]),
    env=ENV,
    health=st.builds(HealthCheck, HTTP_PATHS, SECONDS, SECONDS, SECONDS, POSITIVES),
    limits=st.builds(Limits, st.none() | POSITIVES, st.none() | POSITIVES, st.none() | POSITIVES),
    smoke=st.lists(SMOKE, max_size=2).map(tuple),
    paths=st.dictionaries(st.sampled_from(["prompts", "tools", "data"]), RELATIVE | st.just(".")),
)


def manifest(**tables: Any) -> Manifest:
    return Manifest.model_validate({"schema": 1, "agent": "support", "code": {"start": ["./run"]}, **tables})


def encode(document: Any) -> bytes:
    return json.dumps(document).encode()


@settings(PATIENT, max_examples=60)
@given(SPECS)
def test_any_spec_reads_back_from_its_document(spec: ReleaseSpec) -> None:
    assert parse_config(encode(spec_document(spec))) == spec


def test_flags_become_environment_variables_also_in_rings() -> None:
    spec = parse_config(
        encode(
            build_config(
                manifest(
                    env={"LEVEL": "1"},
                    flags={"citations": True, "depth": 3, "tone": "dry"},
                    rings={"dev": {"flags": {"citations": False}, "env": {"LEVEL": "2"}}},
                )
            )
        )
    )
    assert spec.env == {"LEVEL": "1", "FEATURE_CITATIONS": "true", "FEATURE_DEPTH": "3", "FEATURE_TONE": "dry"}
    assert spec.rings[0].env == {"LEVEL": "2", "FEATURE_CITATIONS": "false"}


def test_weights_become_basis_points_and_durations_seconds() -> None:
    canary = [{"weight": 0.01, "time": "5m", "tasks": 50}, {"weight": 100}]
    spec = parse_config(encode(build_config(manifest(rings={"prod": {"canary": canary, "warm": "1h"}}))))
    assert spec.rings[0].canary == (CanaryStep(1, 300.0, 50), CanaryStep(10_000))
    assert spec.rings[0].warm == 3_600


def test_budgets_are_counted_in_whole_units() -> None:
    tables = [
        {"scope": "task", "limit": 0.5},
        {"scope": "ring", "unit": "tokens", "limit": 1_000, "window": "1h"},
        {"scope": "deployment", "unit": "calls", "limit": 7.0},
    ]
    (ring,) = build_spec(manifest(rings={"dev": {"budgets": tables}})).rings
    assert ring.budgets == (
        Budget(BudgetScope.TASK, NANOS // 2),
        Budget(BudgetScope.RING, 1_000, Unit.TOKENS, 3_600.0),
        Budget(BudgetScope.DEPLOYMENT, 7, Unit.CALLS),
    )


def test_a_ring_without_budgets_is_written_as_before_there_were_any() -> None:
    (ring,) = build_config(manifest(rings={"dev": {}}))["rings"]
    assert "budgets" not in ring


def test_an_instrumented_agent_starts_under_opentelemetry_and_sends_nothing_unless_it_says_so() -> None:
    code = {"start": ["python", "a.py"], "instrument": True}
    spec = build_spec(manifest(code=code, env={"OTEL_TRACES_EXPORTER": "otlp"}))
    assert spec.start == ("opentelemetry-instrument", "python", "a.py")
    assert spec.env == {
        "OTEL_PROPAGATORS": "tracecontext,baggage",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }


def test_a_json_body_is_written_once_and_named_by_its_content_type() -> None:
    smoke = [{"name": "a", "path": "/x", "json": {"b": "é", "a": [1, None]}}]
    (task,) = parse_config(encode(build_config(manifest(smoke=smoke)))).smoke
    assert task.body == '{"a":[1,null],"b":"é"}'
    assert task.headers == {"content-type": "application/json"}


def test_a_content_type_that_is_given_stays() -> None:
    smoke = [{"name": "a", "path": "/x", "json": 1, "headers": {"Content-Type": "text/x"}}]
    (task,) = parse_config(encode(build_config(manifest(smoke=smoke)))).smoke
    assert task.headers == {"Content-Type": "text/x"}


@pytest.mark.parametrize(
    ("globs", "folder"),
    [
        (["prompts/**"], "prompts"),
        (["a/b/*.md", "a/c/x.md"], "a"),
        (["*.prompt"], "."),
        (["prompts/**", "*.prompt"], "."),
        (["a/b/c.md", "!a/x"], "a/b"),
    ],
)
def test_the_path_of_prompts_is_the_folder_that_all_globs_share(globs: list[str], folder: str) -> None:
    assert build_config(manifest(prompts={"files": globs}))["paths"] == {"prompts": folder}


def broken(**changes: Any) -> bytes:
    return encode({**build_config(manifest()), **changes})


def ring(**changes: Any) -> dict[str, Any]:
    return {**build_config(manifest())["rings"][0], **changes}


JUDGE = build_config(manifest(rings={"dev": {"judge": {}}}))["rings"][0]["judge"]


@pytest.mark.parametrize(
    "judge", [{"ages": [600.0, 120.0]}, {"tolerance": {"failure": 0.5, "intervention": 0.0, "cost": 0.0}}]
)
def test_a_judge_that_cannot_be_built_is_refused(judge: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="the judge cannot work"):
        parse_config(broken(rings=[ring(judge={**JUDGE, **judge})]))


def test_what_a_ring_asks_of_a_rollout_comes_back_as_it_went_in() -> None:
    declared = manifest(
        outcomes={"success": "$.result.ok"},
        rings={
            "dev": {
                "judge": {"ramp": "timed", "ages": ["1m", "5m"], "ceiling": 3.0, "bake": "1h", "holdback": 2.5},
                "breakers": [{"metric": "cost", "above": 5.0, "scope": "run"}],
                "capture": {"size": "1KB", "redact": ["[0-9]{4,}"]},
                "record": {"share": 0.25, "keep": "2h", "models": False, "size": "64KB"},
            }
        },
    )
    spec = parse_config(encode(build_config(declared)))
    assert spec == build_spec(declared)
    (settings,) = spec.rings
    assert settings.judge is not None
    assert (settings.judge.ramp, settings.judge.ages, settings.judge.holdback) == ("timed", (60.0, 300.0), 250)
    assert settings.breakers[0].scope == "run"
    assert settings.capture == Capture(1_000, ("[0-9]{4,}",))
    assert settings.record == Record(0.25, 7_200.0, False, 64_000)
    assert spec.success == "$.result.ok"


def test_a_ring_that_says_nothing_of_recordings_has_the_document_that_it_always_had() -> None:
    (silent,) = build_config(manifest(rings={"dev": {}}))["rings"]
    assert "record" not in silent
    spec = build_spec(manifest(rings={"dev": {"record": {}}}))
    assert spec.rings[0].record == Record(1.0, 30 * 86_400.0, True, 256_000)
    assert build_spec(manifest(rings={"dev": {}})).rings[0].record is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"null",
        b"[" * 100_000,
        encode({}),
        broken(schema=2),
        broken(extra=1),
        broken(agent="../x"),
        broken(start=[]),
        broken(start=["a\0b"]),
        broken(lock="../requirements.txt"),
        broken(env={"PATH": "/evil"}),
        broken(env={"X": 1}),
        broken(paths={"data": "../../etc"}),
        broken(paths={"code": "x"}),
        broken(rings=[]),
        broken(health={"path": "/"}),
        broken(rings=build_config(manifest())["rings"] * 2),
        broken(
            rings=[
                {
                    **build_config(manifest())["rings"][0],
                    "canary": [{"weight": 2, "duration": 0, "tasks": 0}, {"weight": 1, "duration": 0, "tasks": 0}],
                }
            ]
        ),
        broken(success="$"),
        broken(rings=[ring(capture={"size": 10, "redact": ["("]})]),
        broken(rings=[ring(capture={"size": 2 << 20, "redact": []})]),
        broken(rings=[ring(record={"share": 0, "keep": 1, "models": True, "size": 1})]),
        broken(rings=[ring(record={"share": 1, "keep": 1, "models": True, "size": 2 << 20})]),
        broken(rings=[ring(record={"share": 1})]),
        broken(rings=[ring(judge={**JUDGE, "ages": []})]),
        broken(rings=[ring(judge={**JUDGE, "ceiling": "much"})]),
        broken(rings=[ring(judge={**JUDGE, "holdback": 9_000})]),
        broken(rings=[ring(breakers=[{"scope": "run", "metric": "mood", "above": 1, "window": 10, "tasks": 1}])]),
        broken(limits={"memory": 1e400, "cpus": None, "open_files": None}),
        broken(limits={"memory": -1, "cpus": None, "open_files": None}),
    ],
)
def test_a_malformed_document_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidRequest, match="malformed"):
        parse_config(content)


@PATIENT
@given(st.binary(max_size=64))
def test_bytes_from_anywhere_are_refused_and_nothing_else_happens(content: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_config(content)
