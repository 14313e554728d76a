"""Triggers have a kind; runs may be forced; signed calls from outside, and messages to there."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column(
        "runs", sa.Column("forced", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    kind = sa.Column("kind", sa.String(length=16), nullable=False, server_default="command")
    op.add_column("triggers", kind)
    # As far as it can be told. On the command line the actor is always "local".
    op.execute("UPDATE triggers SET kind = 'policy' WHERE actor = 'policy'")
    op.execute(
        "UPDATE triggers SET kind = 'http' WHERE actor NOT IN ('policy', 'local') "
        "OR reason = 'asked for over HTTP'"
    )
    op.create_table(
        "hook_calls",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("hook_calls_by_until", "hook_calls", ["until"])
    op.create_table(
        "outbox",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("receiver", sa.String(length=16), nullable=True),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("failed_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
    )
    waits = sa.text("failed_at IS NULL")
    op.create_index("outbox_waiting", "outbox", ["seq"], sqlite_where=waits, postgresql_where=waits)
