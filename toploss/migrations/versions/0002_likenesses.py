"""Near-duplicates: what pictures look like, and what is quarantined; a run's diagnosis."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("samples", sa.Column("quarantined_by", sa.String(length=64), nullable=True))
    op.add_column("runs", sa.Column("diagnosis", sa.JSON(), nullable=True))
    # Of samples that are there already, an import or `toploss dataset check` fills it in.
    op.create_table(
        "likenesses",
        sa.Column("sample_seq", sa.Integer(), nullable=False),
        sa.Column("band_0", sa.Integer(), nullable=True),
        sa.Column("band_1", sa.Integer(), nullable=True),
        sa.Column("band_2", sa.Integer(), nullable=True),
        sa.Column("band_3", sa.Integer(), nullable=True),
        sa.Column("points", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sample_seq"],
            ["samples.seq"],
        ),
        sa.PrimaryKeyConstraint("sample_seq"),
    )
    for number in range(4):
        op.create_index(
            op.f(f"ix_likenesses_band_{number}"), "likenesses", [f"band_{number}"], unique=False
        )
