"""The tables. Invariants that the database itself can hold are constraints here.

One active deployment a ring, and one in progress (a rollback may start beside it), are partial unique indexes: no code
path can commit anything else.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import JSON

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_DIGEST = String(71)
_NAME = String(64)
_SEQ = BigInteger().with_variant(Integer, "sqlite")

agents = Table("agents", metadata, Column("name", _NAME, primary_key=True), Column("created_at", Float, nullable=False))

releases = Table(
    "releases",
    metadata,
    Column("digest", _DIGEST, primary_key=True),
    Column("agent", _NAME, ForeignKey("agents.name"), nullable=False),
    Column("version", String(128), nullable=False),
    Column("components", JSON, nullable=False),
    Column("config", LargeBinary, nullable=False),
    Column("author", String(128), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("git_sha", String(64)),
    Index(None, "agent", "created_at"),
)

tags = Table(
    "tags",
    metadata,
    Column("agent", _NAME, primary_key=True),
    Column("tag", String(128), primary_key=True),
    Column("digest", _DIGEST, ForeignKey("releases.digest"), nullable=False),
)

_IN_PROGRESS = "phase IN ('queued', 'building', 'deploying', 'validating')"

deployments = Table(
    "deployments",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("agent", _NAME, ForeignKey("agents.name"), nullable=False),
    Column("ring", _NAME, nullable=False),
    Column("digest", _DIGEST, ForeignKey("releases.digest"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("phase", String(16), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("phase_at", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("quarantine", Boolean, nullable=False),
    Column("condition", JSON),
    Column("source_ring", _NAME),
    Column("override", Text),
    Column("rollout", JSON, nullable=False),
    Column("prepared", Boolean, nullable=False),
    Column("smoke_passed", Boolean, nullable=False),
    Column("active_at", Float),
    Column("abort", JSON),
    Index(None, "agent", "ring", "created_at"),
    Index(
        "uq_deployments_active",
        "agent",
        "ring",
        unique=True,
        sqlite_where=text("phase = 'active'"),
        postgresql_where=text("phase = 'active'"),
    ),
    Index(
        "uq_deployments_in_progress",
        "agent",
        "ring",
        unique=True,
        sqlite_where=text(f"{_IN_PROGRESS} AND kind <> 'rollback'"),
        postgresql_where=text(f"{_IN_PROGRESS} AND kind <> 'rollback'"),
    ),
    Index(
        "uq_deployments_rollback",
        "agent",
        "ring",
        unique=True,
        sqlite_where=text(f"{_IN_PROGRESS} AND kind = 'rollback'"),
        postgresql_where=text(f"{_IN_PROGRESS} AND kind = 'rollback'"),
    ),
    Index(
        "ix_deployments_unfinished",
        "phase",
        sqlite_where=text(f"{_IN_PROGRESS} OR phase = 'rolling_back'"),
        postgresql_where=text(f"{_IN_PROGRESS} OR phase = 'rolling_back'"),
    ),
)

pointers = Table(
    "pointers",
    metadata,
    Column("agent", _NAME, ForeignKey("agents.name"), primary_key=True),
    Column("ring", _NAME, primary_key=True),
    Column("stable", _DIGEST),
    Column("candidate", _DIGEST),
    Column("weight", Integer, nullable=False),
    Column("last_good", _DIGEST),
    Column("active_deployment", String(40), ForeignKey("deployments.id")),
    Column("retired", JSON, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("rollout", String(40), ForeignKey("deployments.id")),
    Column("holdback", Integer, nullable=False),
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", _SEQ, primary_key=True, autoincrement=True),
    Column("agent", _NAME, nullable=False),
    Column("ring", _NAME, nullable=False),
    Column("digest", _DIGEST, ForeignKey("releases.digest"), nullable=False),
    Column("approver", String(128), nullable=False),
    Column("approved", Boolean, nullable=False),
    Column("at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("comment", Text, nullable=False),
    Index(None, "agent", "ring", "digest"),
)

eval_runs = Table(
    "eval_runs",
    metadata,
    Column("seq", _SEQ, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("agent", _NAME, ForeignKey("agents.name"), nullable=False),
    Column("release", _DIGEST, ForeignKey("releases.digest"), nullable=False),
    Column("suite", _NAME, nullable=False),
    Column("suite_digest", _DIGEST, nullable=False),
    Column("at", Float, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("verdict", JSON, nullable=False),
    Column("report", _DIGEST, nullable=False),
    Column("stable", _DIGEST),
    Column("content", LargeBinary, nullable=False),
    Index(None, "agent", "release"),
    sqlite_autoincrement=True,
)

replays = Table(
    "replays",
    metadata,
    Column("seq", _SEQ, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("agent", _NAME, ForeignKey("agents.name"), nullable=False),
    Column("ring", _NAME, nullable=False),  # whose tasks were recorded
    Column("baseline", _DIGEST, nullable=False),
    Column("candidate", _DIGEST, ForeignKey("releases.digest"), nullable=False),
    Column("at", Float, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("deployment", String(40)),
    Column("summary", JSON, nullable=False),
    Column("report", _DIGEST, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Index(None, "agent", "candidate"),
    Index(None, "deployment"),
    sqlite_autoincrement=True,
)

quarantines = Table(
    "quarantines",
    metadata,
    Column("agent", _NAME, primary_key=True),
    Column("digest", _DIGEST, ForeignKey("releases.digest"), primary_key=True),
    Column("ring", _NAME, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("at", Float, nullable=False),
)

replicas = Table(
    "replicas",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("agent", _NAME, nullable=False),
    Column("ring", _NAME, nullable=False),
    Column("digest", _DIGEST, nullable=False),
    Column("index", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("address", String(64)),
    Column("pid", Integer),
    Column("started_at", Float, nullable=False),
    Column("exited_at", Float),
    Column("exit_code", Integer),
    Column("message", Text, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("seq", _SEQ, primary_key=True, autoincrement=True),
    Column("type", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("agent", _NAME),
    Column("ring", _NAME),
    Column("deployment", String(40)),
    Column("data", JSON, nullable=False),
    Index(None, "agent", "ring", "seq"),
    Index(None, "deployment", "seq"),
    sqlite_autoincrement=True,
)

tasks = Table(
    "tasks",
    metadata,
    Column("request", String(64), primary_key=True),
    Column("task", String(256), nullable=False),
    Column("agent", _NAME, nullable=False),
    Column("ring", _NAME, nullable=False),
    Column("release", _DIGEST),
    Column("at", Float, nullable=False),
    Column("duration", Float),
    Column("status", Integer, nullable=False),
    Column("method", String(16), nullable=False),
    Column("path", Text, nullable=False),
    Column("bytes_in", BigInteger, nullable=False),
    Column("bytes_out", BigInteger, nullable=False),
    Column("flags", String(64), nullable=False),
    Column("arm", String(16)),
    Column("probability", Float),
    Column("rollout", String(40)),
    Column("pinned", Boolean, nullable=False),
    Index(None, "at"),
    Index(None, "agent", "ring", "at"),
    Index(None, "task", "agent", "ring", "at"),
)

payloads = Table(
    "payloads",
    metadata,
    Column("request", String(64), primary_key=True),
    Column("question", LargeBinary),
    Column("answer", LargeBinary),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("seq", _SEQ, primary_key=True, autoincrement=True),
    Column("task", String(256), nullable=False),
    Column("source", String(16), nullable=False),
    Column("at", Float, nullable=False),
    Column("failed", Boolean),
    Column("intervened", Boolean),
    Column("cost", Float),
    Column("reporter", String(128), nullable=False),
    Column("detail", Text, nullable=False),
    Column("agent", _NAME),
    Column("ring", _NAME),
    Column("state", String(16), nullable=False),
    Index(None, "task"),
    Index(None, "at"),
    Index(
        "ix_outcomes_waiting",
        "task",
        sqlite_where=text("state = 'waiting'"),
        postgresql_where=text("state = 'waiting'"),
    ),
    sqlite_autoincrement=True,
)

observations = Table(
    "observations",
    metadata,
    Column("seq", _SEQ, primary_key=True, autoincrement=True),
    Column("rollout", String(40), nullable=False),
    Column("task", String(256), nullable=False),
    Column("at", Float, nullable=False),
    Column("arm", String(16)),
    Column("probability", Float),
    Column("failed", Boolean),
    Column("intervened", Boolean),
    Column("cost", Float),
    Index(None, "rollout", "seq"),
    Index(None, "task"),
    Index(
        "uq_observations_start",
        "task",
        "rollout",
        unique=True,
        sqlite_where=text("arm IS NOT NULL"),
        postgresql_where=text("arm IS NOT NULL"),
    ),
    Index(
        "ix_observations_began",
        "rollout",
        "at",
        sqlite_where=text("arm IS NOT NULL"),
        postgresql_where=text("arm IS NOT NULL"),
    ),
    Index(
        "ix_observations_candidate",
        "rollout",
        "at",
        sqlite_where=text("arm = 'candidate'"),
        postgresql_where=text("arm = 'candidate'"),
    ),
    sqlite_autoincrement=True,
)

judgements = Table(
    "judgements",
    metadata,
    Column("rollout", String(40), ForeignKey("deployments.id"), primary_key=True),
    Column("at", Float, nullable=False),
    Column("cursor", BigInteger, nullable=False),
    Column("verdict", JSON, nullable=False),
    Column("state", JSON, nullable=False),
    Column("decided", String(16)),
)

tallies = Table(
    "tallies",
    metadata,
    Column("agent", _NAME, primary_key=True),
    Column("ring", _NAME, primary_key=True),
    Column("release", _DIGEST, primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("requests", Integer, nullable=False),
    Column("errors", Integer, nullable=False),
    Column("interventions", Integer, nullable=False),
    Column("cost", Float, nullable=False),
    Column("calls", Integer, nullable=False, server_default="0"),
    Column("failed_calls", Integer, nullable=False, server_default="0"),
    Index(None, "step"),
)

task_counts = Table(
    "task_counts",
    metadata,
    Column("agent", _NAME, primary_key=True),
    Column("ring", _NAME, primary_key=True),
    Column("release", _DIGEST, primary_key=True),
    Column("total", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
)

model_calls = Table(
    "model_calls",
    metadata,
    Column("id", _NAME, primary_key=True),
    Column("at", Float, nullable=False),
    Column("duration", Float, nullable=False),
    Column("agent", _NAME, nullable=False),
    Column("ring", _NAME, nullable=False),
    Column("release", _DIGEST, nullable=False),
    Column("task", String(256)),
    Column("endpoint", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("answered_by", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("first_chunk", Float),
    Column("status", BigInteger, nullable=False),
    Column("ended", String(16), nullable=False),
    Column("tokens_in", BigInteger, nullable=False),
    Column("tokens_cached", BigInteger, nullable=False),
    Column("tokens_out", BigInteger, nullable=False),
    Column("tokens_reasoning", BigInteger, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("nanos", BigInteger, nullable=False),
    Column("prices", Text, nullable=False),
    Column("attempts", JSON, nullable=False),
    Column("error", Text, nullable=False),
    Column("request_digest", Text, nullable=False, server_default=""),
    Column("answer_digest", Text, nullable=False, server_default=""),
    Column("content_type", Text, nullable=False, server_default=""),
    Column("answer", Text),
    Column("ended_at", Float, nullable=False, server_default="0"),
    Index(None, "task"),
    Index(None, "agent", "ring", "release", "ended_at"),
    Index(None, "at"),
)

tool_calls = Table(
    "tool_calls",
    metadata,
    Column("id", _NAME, primary_key=True),
    Column("at", Float, nullable=False),
    Column("duration", Float, nullable=False),
    Column("agent", _NAME, nullable=False),
    Column("ring", _NAME, nullable=False),
    Column("release", _DIGEST, nullable=False),
    Column("task", String(256)),
    Column("server", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("ended", String(16), nullable=False),
    Column("failed", Boolean, nullable=False),
    Column("arguments", Text),
    Column("arguments_digest", Text, nullable=False),
    Column("result", Text),
    Column("result_digest", Text, nullable=False),
    Column("schema", Text, nullable=False),
    Column("found", Text, nullable=False),
    Column("error", Text, nullable=False),
    Index(None, "task"),
    Index(None, "agent", "ring", "release", "at"),
    Index(None, "at"),
)

recordings = Table(
    "recordings",
    metadata,
    Column("agent", _NAME, primary_key=True),
    Column("ring", _NAME, primary_key=True),
    Column("task", String(256), primary_key=True),
    Column("release", _DIGEST, nullable=False),
    Column("at", Float, nullable=False),
    Column("kept_until", Float, nullable=False),
    Column("digest", _DIGEST, nullable=False),
    Column("size", BigInteger, nullable=False),
    Index(None, "agent", "at"),
    Index(None, "kept_until"),
    Index(None, "digest"),
)

breakers = Table(
    "breakers",
    metadata,
    Column("agent", _NAME, ForeignKey("agents.name"), primary_key=True),
    Column("ring", _NAME, primary_key=True),
    Column("release", _DIGEST, ForeignKey("releases.digest"), primary_key=True),
    Column("scope", String(16), primary_key=True),
    Column("metric", String(32), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("since", Float, nullable=False),
    Column("value", Float, nullable=False),
    Column("above", Float, nullable=False),
    Column("window", Float, nullable=False),
    Column("task", String(256)),
    Column("reason", Text, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("ignored", JSON, nullable=False),
)

budgets = Table(
    "budgets",
    metadata,
    Column("agent", _NAME, primary_key=True),  # "": all
    Column("ring", _NAME, primary_key=True),  # "": all
    Column("unit", String(16), primary_key=True),
    Column("window", Float, primary_key=True),
    Column("limit", BigInteger, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("at", Float, nullable=False),
)

cursors = Table("cursors", metadata, Column("name", _NAME, primary_key=True), Column("value", Text, nullable=False))

leases = Table(
    "leases",
    metadata,
    Column("name", String(160), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("token", Integer, nullable=False),
    Column("expires_at", Float, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("keyid", String(64), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("public", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("instance", Boolean, nullable=False),
    Column("added_by", String(128), nullable=False),
    Column("added_at", Float, nullable=False),
    Column("revoked_at", Float),
)

tokens = Table(
    "tokens",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("digest"),
)

responses = Table(
    "responses",
    metadata,
    Column("actor", String(128), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("at", Float, nullable=False),
    Index(None, "at"),
)
