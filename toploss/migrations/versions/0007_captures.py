"""Images of production, kept for review."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "captures",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("why", sa.String(length=8), nullable=False),
        sa.Column("version", sa.String(length=26), nullable=True),
        sa.Column("top", sa.JSON(), nullable=False),
        sa.Column("margin", sa.Double(), nullable=True),
        sa.Column("novelty", sa.Double(), nullable=True),
        sa.Column("format", sa.String(length=8), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("claimed", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("stored", sa.Boolean(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("decided_by", sa.String(length=100), nullable=True),
        sa.Column("decided_at", sa.Double(), nullable=True),
        sa.Column("class_id", sa.Integer(), nullable=True),
        sa.Column("outcome", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["class_id"], ["classes.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("sha256"),
    )
    op.create_index("captures_by_state", "captures", ["state", "claimed", "id"])
    op.create_index("captures_by_claimed", "captures", ["claimed", "id"])
    op.create_index("captures_by_until", "captures", ["until"])
    op.create_table(
        "capture_claims",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("capture_id", sa.String(length=26), nullable=False),
        sa.Column("class_id", sa.Integer(), nullable=False),
        sa.Column("actor", sa.String(length=100), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["capture_id"], ["captures.id"]),
        sa.ForeignKeyConstraint(["class_id"], ["classes.id"]),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("ix_capture_claims_capture_id", "capture_claims", ["capture_id"])
    op.create_table(
        "capture_days",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sent", sa.Boolean(), nullable=False),
        sa.Column("kept", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("day", "sent"),
    )
