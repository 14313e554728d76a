"""Candidates that score traffic beside production."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "shadow_moves",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=26), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=100), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["version"], ["versions.name"]),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_table(
        "shadow_answers",
        sa.Column("candidate", sa.String(length=26), nullable=False),
        sa.Column("live", sa.String(length=26), nullable=False),
        sa.Column("live_class_id", sa.Integer(), nullable=False),
        sa.Column("candidate_class_id", sa.Integer(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["candidate"], ["versions.name"]),
        sa.ForeignKeyConstraint(["live"], ["versions.name"]),
        sa.ForeignKeyConstraint(["live_class_id"], ["classes.id"]),
        sa.ForeignKeyConstraint(["candidate_class_id"], ["classes.id"]),
        sa.PrimaryKeyConstraint("candidate", "live", "live_class_id", "candidate_class_id"),
    )
