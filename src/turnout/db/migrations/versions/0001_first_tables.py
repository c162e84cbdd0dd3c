"""The tables of the first version."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create all tables."""
    op.create_table(
        "agents",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_agents")),
    )
    op.create_table(
        "cursors",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_cursors")),
    )
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("agent", sa.String(length=64), nullable=True),
        sa.Column("ring", sa.String(length=64), nullable=True),
        sa.Column("deployment", sa.String(length=40), nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_events_agent_ring_seq"), "events", ["agent", "ring", "seq"], unique=False)
    op.create_index(op.f("ix_events_deployment_seq"), "events", ["deployment", "seq"], unique=False)
    op.create_table(
        "keys",
        sa.Column("keyid", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("public", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("instance", sa.Boolean(), nullable=False),
        sa.Column("added_by", sa.String(length=128), nullable=False),
        sa.Column("added_at", sa.Float(), nullable=False),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("keyid", name=op.f("pk_keys")),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=160), nullable=False),
        sa.Column("holder", sa.String(length=128), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "replicas",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("agent", sa.String(length=64), nullable=False),
        sa.Column("ring", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("exited_at", sa.Float(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replicas")),
    )
    op.create_table(
        "responses",
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("actor", "key", name=op.f("pk_responses")),
    )
    op.create_index(op.f("ix_responses_at"), "responses", ["at"], unique=False)
    op.create_table(
        "task_counts",
        sa.Column("agent", sa.String(length=64), nullable=False),
        sa.Column("ring", sa.String(length=64), nullable=False),
        sa.Column("release", sa.String(length=71), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("agent", "ring", "release", name=op.f("pk_task_counts")),
    )
    op.create_table(
        "tasks",
        sa.Column("request", sa.String(length=64), nullable=False),
        sa.Column("task", sa.String(length=256), nullable=False),
        sa.Column("agent", sa.String(length=64), nullable=False),
        sa.Column("ring", sa.String(length=64), nullable=False),
        sa.Column("release", sa.String(length=71), nullable=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("duration", sa.Float(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("method", sa.String(length=16), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("bytes_in", sa.BigInteger(), nullable=False),
        sa.Column("bytes_out", sa.BigInteger(), nullable=False),
        sa.Column("flags", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("request", name=op.f("pk_tasks")),
    )
    op.create_index(op.f("ix_tasks_agent_ring_release_at"), "tasks", ["agent", "ring", "release", "at"], unique=False)
    op.create_index(op.f("ix_tasks_task"), "tasks", ["task"], unique=False)
    op.create_table(
        "tokens",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_tokens_digest")),
    )
    op.create_table(
        "releases",
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("agent", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=128), nullable=False),
        sa.Column("components", sa.JSON(), nullable=False),
        sa.Column("config", sa.LargeBinary(), nullable=False),
        sa.Column("author", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("git_sha", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["agent"], ["agents.name"], name=op.f("fk_releases_agent")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_releases")),
    )
    op.create_index(op.f("ix_releases_agent_created_at"), "releases", ["agent", "created_at"], unique=False)
    op.create_table(
        "approvals",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("agent", sa.String(length=64), nullable=False),
        sa.Column("ring", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("approver", sa.String(length=128), nullable=False),
        sa.Column("approved", sa.Boolean(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["releases.digest"], name=op.f("fk_approvals_digest")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approvals")),
    )
    op.create_index(op.f("ix_approvals_agent_ring_digest"), "approvals", ["agent", "ring", "digest"], unique=False)
    op.create_table(
        "deployments",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("agent", sa.String(length=64), nullable=False),
        sa.Column("ring", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("phase_at", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("quarantine", sa.Boolean(), nullable=False),
        sa.Column("condition", sa.JSON(), nullable=True),
        sa.Column("source_ring", sa.String(length=64), nullable=True),
        sa.Column("override", sa.Text(), nullable=True),
        sa.Column("rollout", sa.JSON(), nullable=False),
        sa.Column("prepared", sa.Boolean(), nullable=False),
        sa.Column("smoke_passed", sa.Boolean(), nullable=False),
        sa.Column("active_at", sa.Float(), nullable=True),
        sa.Column("abort", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["agent"], ["agents.name"], name=op.f("fk_deployments_agent")),
        sa.ForeignKeyConstraint(["digest"], ["releases.digest"], name=op.f("fk_deployments_digest")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployments")),
    )
    op.create_index(
        op.f("ix_deployments_agent_ring_created_at"), "deployments", ["agent", "ring", "created_at"], unique=False
    )
    op.create_index(
        "ix_deployments_unfinished",
        "deployments",
        ["phase"],
        unique=False,
        sqlite_where=sa.text("phase IN ('queued', 'building', 'deploying', 'validating') OR phase = 'rolling_back'"),
        postgresql_where=sa.text(
            "phase IN ('queued', 'building', 'deploying', 'validating') OR phase = 'rolling_back'"
        ),
    )
    op.create_index(
        "uq_deployments_active",
        "deployments",
        ["agent", "ring"],
        unique=True,
        sqlite_where=sa.text("phase = 'active'"),
        postgresql_where=sa.text("phase = 'active'"),
    )
    op.create_index(
        "uq_deployments_in_progress",
        "deployments",
        ["agent", "ring"],
        unique=True,
        sqlite_where=sa.text("phase IN ('queued', 'building', 'deploying', 'validating') AND kind <> 'rollback'"),
        postgresql_where=sa.text("phase IN ('queued', 'building', 'deploying', 'validating') AND kind <> 'rollback'"),
    )
    op.create_index(
        "uq_deployments_rollback",
        "deployments",
        ["agent", "ring"],
        unique=True,
        sqlite_where=sa.text("phase IN ('queued', 'building', 'deploying', 'validating') AND kind = 'rollback'"),
        postgresql_where=sa.text("phase IN ('queued', 'building', 'deploying', 'validating') AND kind = 'rollback'"),
    )
    op.create_table(
        "quarantines",
        sa.Column("agent", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("ring", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["releases.digest"], name=op.f("fk_quarantines_digest")),
        sa.PrimaryKeyConstraint("agent", "digest", name=op.f("pk_quarantines")),
    )
    op.create_table(
        "tags",
        sa.Column("agent", sa.String(length=64), nullable=False),
        sa.Column("tag", sa.String(length=128), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["releases.digest"], name=op.f("fk_tags_digest")),
        sa.PrimaryKeyConstraint("agent", "tag", name=op.f("pk_tags")),
    )
    op.create_table(
        "pointers",
        sa.Column("agent", sa.String(length=64), nullable=False),
        sa.Column("ring", sa.String(length=64), nullable=False),
        sa.Column("stable", sa.String(length=71), nullable=True),
        sa.Column("candidate", sa.String(length=71), nullable=True),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("last_good", sa.String(length=71), nullable=True),
        sa.Column("active_deployment", sa.String(length=40), nullable=True),
        sa.Column("retired", sa.JSON(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["active_deployment"], ["deployments.id"], name=op.f("fk_pointers_active_deployment")),
        sa.ForeignKeyConstraint(["agent"], ["agents.name"], name=op.f("fk_pointers_agent")),
        sa.PrimaryKeyConstraint("agent", "ring", name=op.f("pk_pointers")),
    )
