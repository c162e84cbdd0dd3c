"""Requests by task and place: one name may have very many."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Find the newest request of a task in a ring without reading the others."""
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.drop_index("ix_tasks_task")
        batch_op.create_index(batch_op.f("ix_tasks_task_agent_ring_at"), ["task", "agent", "ring", "at"], unique=False)
