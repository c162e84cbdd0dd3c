"""What models answered, tasks that are kept for replay; and a sum that nothing reads is no more."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the table and the columns; drop `tallies.known`."""
    op.create_table(
        "recordings",
        sa.Column("agent", sa.String(length=64), nullable=False),
        sa.Column("ring", sa.String(length=64), nullable=False),
        sa.Column("task", sa.String(length=256), nullable=False),
        sa.Column("release", sa.String(length=71), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("kept_until", sa.Float(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("agent", "ring", "task", name=op.f("pk_recordings")),
    )
    with op.batch_alter_table("recordings", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_recordings_agent_at"), ["agent", "at"], unique=False)
        batch_op.create_index(batch_op.f("ix_recordings_digest"), ["digest"], unique=False)
        batch_op.create_index(batch_op.f("ix_recordings_kept_until"), ["kept_until"], unique=False)

    for name in ("request_digest", "answer_digest", "content_type"):
        op.add_column("model_calls", sa.Column(name, sa.Text(), server_default="", nullable=False))
    op.add_column("model_calls", sa.Column("answer", sa.Text(), nullable=True))

    with op.batch_alter_table("tallies", schema=None) as batch_op:
        batch_op.drop_column("known")
