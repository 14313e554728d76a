"""Scores are written before their version is published, and removed when it is long past."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """A draft's version is not there yet, so nothing may point to it."""
    columns = (
        sa.Column("learned", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=8), nullable=False, server_default="ready"),
        sa.Column("run_id", sa.String(length=26), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=True),
        sa.Column("class_ids", sa.JSON(), nullable=True),
        sa.Column("walked", sa.Integer(), nullable=True),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("scorings_version_fkey", "scorings")
        for column in columns:
            op.add_column("scorings", column)
        return
    # SQLite drops no constraint: the table, a row for each version, is made anew.
    with op.batch_alter_table("scorings", copy_from=_before(), recreate="always") as table:
        for column in columns:
            table.add_column(column)


def _before() -> sa.Table:
    """As it stands, without what it points to."""
    return sa.Table(
        "scorings",
        sa.MetaData(),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=26), nullable=False),
        sa.Column("thresholds", sa.JSON(), nullable=False),
        sa.Column("loss_knots", sa.JSON(), nullable=False),
        sa.Column("margin_knots", sa.JSON(), nullable=False),
        sa.Column("newest", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("version"),
    )
