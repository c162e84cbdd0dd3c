"""The closed schema of `turnout.toml`. The example, the reference and the loader's messages are derived from it.

Every field carries its one-line meaning, and an example where the default does not show what to write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from turnout.domain.models import DEFAULT_RINGS
from turnout.domain.outcomes import is_path
from turnout.manifest.eval_schema import Evals
from turnout.manifest.ring_schema import Ring, Table, refuse_double_flags
from turnout.manifest.values import (
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
)

_ASGI_START = ("python", "-m", "uvicorn", "{entry}", "--host", "127.0.0.1", "--port", "{port}")


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
    evals: tuple[Evals, ...] = Field(
        default=(), strict=False, max_length=20, description="a suite that a release must pass at build; repeatable"
    )
    rings: Mapping[RingName, Ring] = Field(
        default_factory=dict,
        description="the rings in the order of promotion; without any: dev, staging, production",
    )

    @model_validator(mode="after")
    def _no_double_flag(self) -> Self:
        refuse_double_flags(self.env, self.flags)
        return self

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        names = [suite.name for suite in self.evals]
        faults = [(f".evals[{at}].name", "is there twice") for at, name in enumerate(names) if name in names[:at]]
        for ring, table in self.rings.items():
            for place, asked in table.suites_asked():
                if asked not in names:
                    faults.append((f".rings.{ring}{place}", f'there is no suite "{asked}" in [[evals]]'))
            if table.replay is not None and (fault := self._source_fault(ring, table.replay.source)):
                faults.append((f".rings.{ring}.replay.from", fault))
        if faults:
            raise Faults(*faults)
        return self

    def _source_fault(self, ring: str, source: str) -> str | None:
        """Why the tasks of a ring are none to replay before a release starts in another one."""
        order = list(self.ring_tables)
        if source not in order:
            return f'there is no ring "{source}"'
        if order.index(source) < order.index(ring):
            return f"{source} is before {ring}: a release is stable there by then, and nothing is left to compare"
        return None

    @property
    def ring_tables(self) -> Mapping[str, Ring]:
        """The declared rings in promotion order, or the default ones."""
        return self.rings or {name: Ring() for name in DEFAULT_RINGS}
