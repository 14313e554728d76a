"""Traffic, counted, and the alarms of its drift."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

OPEN = sa.text("ended_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "traffic",
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=26), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("bin", sa.Integer(), nullable=False),
        sa.Column("answers", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("hour", "version", "kind", "bin"),
    )
    op.create_table(
        "drift_alarms",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=26), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("statistic", sa.Double(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("answers", sa.Integer(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["version"], ["versions.name"]),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index(
        "one_open_alarm",
        "drift_alarms",
        ["version", "kind"],
        unique=True,
        sqlite_where=OPEN,
        postgresql_where=OPEN,
    )
