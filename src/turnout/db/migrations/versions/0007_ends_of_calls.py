"""When calls of models ended: breakers count them then."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the time, and find calls by it instead of by when they began."""
    with op.batch_alter_table("model_calls", schema=None) as batch_op:
        batch_op.add_column(sa.Column("ended_at", sa.Float(), server_default="0", nullable=False))
        batch_op.drop_index("ix_model_calls_agent_ring_release_at")
        batch_op.create_index(
            batch_op.f("ix_model_calls_agent_ring_release_ended_at"),
            ["agent", "ring", "release", "ended_at"],
            unique=False,
        )
    op.execute("UPDATE model_calls SET ended_at = at + duration")
