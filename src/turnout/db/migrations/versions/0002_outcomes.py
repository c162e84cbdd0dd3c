"""Tasks from their start, reports about them, and what judges hear and say."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the tables, and the columns of tasks and pointers."""
    op.create_table(
        "observations",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("rollout", sa.String(length=40), nullable=False),
        sa.Column("task", sa.String(length=256), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("arm", sa.String(length=16), nullable=True),
        sa.Column("probability", sa.Float(), nullable=True),
        sa.Column("failed", sa.Boolean(), nullable=True),
        sa.Column("intervened", sa.Boolean(), nullable=True),
        sa.Column("cost", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_observations")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("observations", schema=None) as batch_op:
        batch_op.create_index(
            "ix_observations_candidate",
            ["rollout", "at"],
            unique=False,
            sqlite_where=sa.text("arm = 'candidate'"),
            postgresql_where=sa.text("arm = 'candidate'"),
        )
        batch_op.create_index(batch_op.f("ix_observations_rollout_seq"), ["rollout", "seq"], unique=False)
        batch_op.create_index(batch_op.f("ix_observations_task"), ["task"], unique=False)
        batch_op.create_index(
            "uq_observations_start",
            ["task", "rollout"],
            unique=True,
            sqlite_where=sa.text("arm IS NOT NULL"),
            postgresql_where=sa.text("arm IS NOT NULL"),
        )

    op.create_table(
        "outcomes",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("task", sa.String(length=256), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("failed", sa.Boolean(), nullable=True),
        sa.Column("intervened", sa.Boolean(), nullable=True),
        sa.Column("cost", sa.Float(), nullable=True),
        sa.Column("reporter", sa.String(length=128), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("agent", sa.String(length=64), nullable=True),
        sa.Column("ring", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_outcomes")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("outcomes", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_outcomes_at"), ["at"], unique=False)
        batch_op.create_index(batch_op.f("ix_outcomes_task"), ["task"], unique=False)
        batch_op.create_index(
            "ix_outcomes_waiting",
            ["task"],
            unique=False,
            sqlite_where=sa.text("state = 'waiting'"),
            postgresql_where=sa.text("state = 'waiting'"),
        )

    op.create_table(
        "payloads",
        sa.Column("request", sa.String(length=64), nullable=False),
        sa.Column("question", sa.LargeBinary(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("request", name=op.f("pk_payloads")),
    )
    op.create_table(
        "tallies",
        sa.Column("agent", sa.String(length=64), nullable=False),
        sa.Column("ring", sa.String(length=64), nullable=False),
        sa.Column("release", sa.String(length=71), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("known", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.Column("interventions", sa.Integer(), nullable=False),
        sa.Column("cost", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("agent", "ring", "release", "step", name=op.f("pk_tallies")),
    )
    with op.batch_alter_table("tallies", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_tallies_step"), ["step"], unique=False)

    op.create_table(
        "judgements",
        sa.Column("rollout", sa.String(length=40), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.JSON(), nullable=False),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.Column("decided", sa.String(length=16), nullable=True),
        sa.ForeignKeyConstraint(["rollout"], ["deployments.id"], name=op.f("fk_judgements_rollout")),
        sa.PrimaryKeyConstraint("rollout", name=op.f("pk_judgements")),
    )
    with op.batch_alter_table("pointers", schema=None) as batch_op:
        batch_op.add_column(sa.Column("rollout", sa.String(length=40), nullable=True))
        batch_op.add_column(sa.Column("holdback", sa.Integer(), nullable=False, server_default="0"))
        batch_op.create_foreign_key(batch_op.f("fk_pointers_rollout"), "deployments", ["rollout"], ["id"])

    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.add_column(sa.Column("arm", sa.String(length=16), nullable=True))
        batch_op.add_column(sa.Column("probability", sa.Float(), nullable=True))
        batch_op.add_column(sa.Column("rollout", sa.String(length=40), nullable=True))
        batch_op.add_column(sa.Column("pinned", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.alter_column("duration", existing_type=sa.FLOAT(), nullable=True)
        batch_op.drop_index(batch_op.f("ix_tasks_agent_ring_release_at"))
        batch_op.create_index(batch_op.f("ix_tasks_agent_ring_at"), ["agent", "ring", "at"], unique=False)
        batch_op.create_index(batch_op.f("ix_tasks_at"), ["at"], unique=False)
