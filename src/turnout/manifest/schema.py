"""The closed schema of `turnout.toml`. The example, the reference and the loader's messages are derived from it.

Every field carries its one-line meaning, and an example where the default does not show what to write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from turnout.domain.budget import NANOS
from turnout.domain.judge.config import SHORTEST_AGE
from turnout.domain.models import DEFAULT_RINGS
from turnout.domain.outcomes import is_path
from turnout.manifest.values import (
    MAX_INTEGER,
    AgentName,
    AsgiEntry,
    Env,
    Faults,
    Flags,
    Glob,
    Headers,
    HttpPath,
    Json,
    JsonTable,
    LockPath,
    Method,
    PythonVersion,
    RelativePath,
    RingName,
    Seconds,
    Size,
    Text,
    basis_points,
)

FLAG_PREFIX = "FEATURE_"
_ASGI_START = ("python", "-m", "uvicorn", "{entry}", "--host", "127.0.0.1", "--port", "{port}")


LONGEST_RUN_WINDOW = 3_600.0  # seconds; each task in it is looked at, four times a second
SHORTEST_WINDOW = 1.0  # of a budget, seconds
LONGEST_WINDOW = 366 * 86_400.0


class Table(BaseModel):
    """A table of the file: unknown keys are errors, nothing is coerced, nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Code(Table):
    """What runs, and with which dependencies. Give `start` or `asgi`, not both."""

    start: tuple[Text, ...] = Field(
        default=(),
        strict=False,
        description="command that starts the agent; {port} stands for its port, also in PORT",
        examples=[["python", "server.py", "--port", "{port}"]],
    )
    asgi: AsgiEntry | None = Field(
        default=None, description="ASGI application, served by uvicorn; instead of start", examples=["server:app"]
    )
    lock: LockPath | None = Field(
        default=None,
        description="locked dependencies: requirements.txt, uv.lock or pylock.toml",
        examples=["requirements.txt"],
    )
    python: PythonVersion | None = Field(
        default=None, description="version of Python for the environment", examples=["3.12"]
    )
    exclude: tuple[Text, ...] = Field(
        default=(),
        strict=False,
        description="files that are left out, as in .gitignore",
        examples=[["tests/", "*.md"]],
    )

    instrument: bool = Field(
        default=False, description="start under opentelemetry-instrument, so that calls tell their task"
    )

    @model_validator(mode="after")
    def _one_way_to_start(self) -> Self:
        if self.start and self.asgi:
            raise Faults((".asgi", "start and asgi are both given; keep one"))
        if not self.start and not self.asgi:
            raise Faults(("", 'say how to start the agent: start = ["python", "server.py"] or asgi = "module:app"'))
        if self.start and not self.start[0]:
            raise Faults((".start[0]", "the command is empty"))
        return self

    @property
    def command(self) -> tuple[str, ...]:
        """The start command, whichever way it was given."""
        if self.asgi is None:
            return self.start
        return tuple(self.asgi if part == "{entry}" else part for part in _ASGI_START)


class Fallback(Table):
    """A model to use when the first does not answer."""

    provider: Text = Field(min_length=1, description="who serves the model", examples=["openai"])
    name: Text = Field(min_length=1, description="dated snapshot of the model", examples=["gpt-4o-2024-08-06"])


class OtherModel(Table):
    """A model that may be called beside the first, such as one for embeddings."""

    provider: Text = Field(min_length=1, description="who serves the model", examples=["openai"])
    name: Text = Field(min_length=1, description="name of the model", examples=["text-embedding-3-small"])


class Model(Table):
    """The model that the release is pinned to."""

    provider: Text = Field(min_length=1, description="who serves the model", examples=["anthropic"])
    name: Text = Field(min_length=1, description="dated snapshot of the model", examples=["claude-sonnet-4-5-20250929"])
    parameters: JsonTable = Field(
        default_factory=dict, description="free parameters, kept with the release", examples=[{"temperature": 0.2}]
    )
    fallbacks: tuple[Fallback, ...] = Field(
        default=(), strict=False, description="models to use, in order, when this one does not answer"
    )
    others: tuple[OtherModel, ...] = Field(
        default=(), strict=False, max_length=100, description="models that may be called beside it, and no others"
    )
    restart_streams: bool = Field(
        default=False,
        description="begin an answer that broke off anew on another route",
    )


class Prompts(Table):
    """The files that hold the prompts."""

    files: tuple[Glob, ...] = Field(
        strict=False, min_length=1, description="which files are prompts, as in .gitignore", examples=[["prompts/**"]]
    )


class Tools(Table):
    """The tools that the agent may call."""

    manifest: RelativePath = Field(description="JSON file that names the tools", examples=["tools.json"])


class Data(Table):
    """What the agent retrieves from."""

    path: RelativePath = Field(description="folder or file with the data", examples=["index"])
    build: tuple[Text, ...] = Field(
        default=(),
        strict=False,
        description="command that makes the data; TURNOUT_DATA_DIR holds the path",
        examples=[["python", "build_index.py"]],
    )


class Health(Table):
    """How to tell that a replica is ready."""

    path: HttpPath = Field(default="/ping", description="GET on this path answers 2xx when a replica is ready")
    interval: Seconds = Field(default=1.0, gt=0, description="time between two checks")
    timeout: Seconds = Field(default=2.0, gt=0, description="how long one check may take")
    start_timeout: Seconds = Field(default=60.0, gt=0, description="how long a replica may take to become ready")
    unhealthy_after: int = Field(default=3, ge=1, le=1_000, description="failed checks until a replica is unhealthy")


class Limits(Table):
    """What a replica may use."""

    memory: Size | None = Field(default=None, description="memory of a replica", examples=["512MB"])
    cpus: int | None = Field(default=None, ge=1, le=4_096, description="cores that it may run on", examples=[1])
    open_files: int | None = Field(
        default=None, ge=16, le=10_000_000, description="files and connections it may hold open", examples=[1024]
    )


class Smoke(Table):
    """A request that a release must answer as declared before it gets a caller's request."""

    name: Text = Field(min_length=1, description="how the task is called in messages", examples=["answers a question"])
    method: Method = Field(default="POST", description="method of the request")
    path: HttpPath = Field(description="path of the request", examples=["/invocations"])
    headers: Headers = Field(
        default_factory=dict, description="headers of the request", examples=[{"accept": "application/json"}]
    )
    json_body: Json = Field(
        default=None, alias="json", description="body, sent as JSON", examples=[{"prompt": "What is a list?"}]
    )
    body: Text | None = Field(default=None, description="body, sent as it is; instead of json", examples=["ping"])
    expect_status: int = Field(default=200, ge=100, le=599, description="status that must come back")
    expect_text: Text | None = Field(default=None, description="text that the answer must hold", examples=["list"])
    timeout: Seconds = Field(default=30.0, gt=0, description="how long the answer may take")

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if self.json_body is not None and self.body is not None:
            raise Faults((".body", "json and body are both given; keep one"))
        return self


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


class Outcomes(Table):
    """How it is known what became of a task."""

    success: Text = Field(
        default="status",
        description="status, report, silence, or a path into the JSON answer",
        examples=["$.result.ok"],
    )

    @model_validator(mode="after")
    def _known_rule(self) -> Self:
        if self.success not in ("status", "report", "silence") and not is_path(self.success):
            raise Faults((".success", "expected status, report, silence, or a path such as $.result.ok"))
        return self


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
        _refuse_double_flags(self.env, self.flags)
        return self


class Manifest(Table):
    """The whole of `turnout.toml`: the values as they were declared, checked."""

    schema_version: Literal[1] = Field(alias="schema", description="version of this file's format", examples=[1])
    agent: AgentName = Field(description="name of the agent", examples=["support"])
    code: Code = Field(description="what runs, and with which dependencies; give start or asgi")
    model: Model | None = Field(default=None, description="the model that the release is pinned to")
    prompts: Prompts | None = Field(default=None, description="the files that hold the prompts")
    tools: Tools | None = Field(default=None, description="the tools that the agent may call")
    data: Data | None = Field(default=None, description="what the agent retrieves from")
    env: Env = Field(
        default_factory=dict,
        description="environment in every ring; no secrets",
        examples=[{"LOG_LEVEL": "info"}],
    )
    flags: Flags = Field(
        default_factory=dict,
        description="feature flags; each is FEATURE_<NAME> in the environment",
        examples=[{"citations": True}],
    )
    health: Health = Field(default_factory=Health, description="how to tell that a replica is ready")
    limits: Limits = Field(default_factory=Limits, description="what a replica may use")
    smoke: tuple[Smoke, ...] = Field(
        default=(), strict=False, description="a request that must be answered before callers come; repeatable"
    )
    outcomes: Outcomes = Field(default_factory=Outcomes, description="how it is known what became of a task")
    rings: Mapping[RingName, Ring] = Field(
        default_factory=dict,
        description="the rings in the order of promotion; without any: dev, staging, production",
    )

    @model_validator(mode="after")
    def _no_double_flag(self) -> Self:
        _refuse_double_flags(self.env, self.flags)
        return self

    @property
    def ring_tables(self) -> Mapping[str, Ring]:
        """The declared rings in promotion order, or the default ones."""
        return self.rings or {name: Ring() for name in DEFAULT_RINGS}


def flag_variable(name: str) -> str:
    """The environment variable of a feature flag."""
    return FLAG_PREFIX + name.upper()


def _refuse_double_flags(env: Mapping[str, str], flags: Mapping[str, object]) -> None:
    faults = [
        (f".flags.{name}", f"{flag_variable(name)} is in env too; keep one")
        for name in flags
        if flag_variable(name) in env
    ]
    if faults:
        raise Faults(*faults)
