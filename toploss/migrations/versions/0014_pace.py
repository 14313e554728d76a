"""A run tells how long it still takes."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.add_column("runs", sa.Column("pace", sa.JSON(), nullable=True))
    op.add_column("runs", sa.Column("pace_at", sa.Double(), nullable=True))
