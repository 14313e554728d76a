"""Samples that are erased leave a tombstone; versions that held one get another manifest."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "erasures",
        sa.Column("sample_seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=100), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["sample_seq"], ["samples.seq"]),
        sa.PrimaryKeyConstraint("sample_seq"),
    )
    left = sa.text("ended_at IS NULL")
    op.create_index("erasures_open", "erasures", ["at"], sqlite_where=left, postgresql_where=left)
    name = sa.Column(
        "manifest_name", sa.String(length=64), nullable=False, server_default="manifest.json"
    )
    op.add_column("versions", name)
