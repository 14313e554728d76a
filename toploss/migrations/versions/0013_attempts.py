"""A lost run waits before its next attempt, and says what ended the last one."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("runs", sa.Column("cause", sa.String(length=16), nullable=True))
    op.add_column("runs", sa.Column("not_before", sa.Double(), nullable=True))
    op.add_column(
        "runs", sa.Column("losses", sa.Integer(), nullable=False, server_default=sa.text("0"))
    )
