"""Replays, each with its report."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "replays",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("agent", sa.String(length=64), nullable=False),
        sa.Column("ring", sa.String(length=64), nullable=False),
        sa.Column("baseline", sa.String(length=71), nullable=False),
        sa.Column("candidate", sa.String(length=71), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("deployment", sa.String(length=40), nullable=True),
        sa.Column("summary", sa.JSON(), nullable=False),
        sa.Column("report", sa.String(length=71), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["agent"], ["agents.name"], name=op.f("fk_replays_agent")),
        sa.ForeignKeyConstraint(["candidate"], ["releases.digest"], name=op.f("fk_replays_candidate")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_replays")),
        sa.UniqueConstraint("id", name=op.f("uq_replays_id")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("replays", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_replays_agent_candidate"), ["agent", "candidate"], unique=False)
        batch_op.create_index(batch_op.f("ix_replays_deployment"), ["deployment"], unique=False)
