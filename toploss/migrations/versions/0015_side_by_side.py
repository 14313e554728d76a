"""Two releases side by side: a database says who may use it, and events what code wrote them."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
# The oldest code that may use a database of this revision; `toploss.fit` goes by it.
min_compatible = "0001"


def upgrade() -> None:
    op.add_column("sample_events", sa.Column("schema", sa.String(length=8), nullable=True))
    op.create_table(
        "upgrades",
        sa.Column("revision", sa.String(length=8), nullable=False),
        sa.Column("min_compatible", sa.String(length=8), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("events_told", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("revision"),
    )
