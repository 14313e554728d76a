"""Second opinions, and the holdout's own review."""

import hashlib
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

AT_ONCE = 5000  # rows in memory
LEFT = sa.text("outcome IS NULL")
DECIDED = sa.text("kind IN ('confirm', 'relabel', 'exclude', 'skip', 'undo')")


def upgrade() -> None:
    _index("sample_events_by_actor", "sample_events", ["actor", "seq"], DECIDED)
    _opinions()
    holdout = _holdout()
    _fill(op.get_bind(), holdout)


def _opinions() -> None:
    op.create_table(
        "asked_opinions",
        sa.Column("event_seq", sa.Integer(), nullable=False),
        sa.Column("queue", sa.String(length=8), nullable=False),
        sa.Column("sample_seq", sa.Integer(), nullable=False),
        sa.Column("decision_id", sa.String(length=26), nullable=False),
        sa.Column("actor", sa.String(length=100), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["sample_seq"], ["samples.seq"]),
        sa.PrimaryKeyConstraint("event_seq", "queue"),
    )
    _index("asked_opinions_by_sample", "asked_opinions", ["sample_seq", "queue"])
    _index(
        "asked_opinions_of_others",
        "asked_opinions",
        ["queue", "event_seq", "actor", "sample_seq"],
    )
    _index("asked_opinions_of_oneself", "asked_opinions", ["queue", "actor", "event_seq"])
    op.create_table(
        "opinions",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("queue", sa.String(length=8), nullable=False),
        sa.Column("sample_seq", sa.Integer(), nullable=False),
        sa.Column("decision_id", sa.String(length=26), nullable=False),
        sa.Column("first_actor", sa.String(length=100), nullable=False),
        sa.Column("first_class_id", sa.Integer(), nullable=True),
        sa.Column("actor", sa.String(length=100), nullable=False),
        sa.Column("action", sa.String(length=8), nullable=False),
        sa.Column("class_id", sa.Integer(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("disputed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["sample_seq"], ["samples.seq"]),
        sa.ForeignKeyConstraint(["first_class_id"], ["classes.id"]),
        sa.ForeignKeyConstraint(["class_id"], ["classes.id"]),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    _index("ix_opinions_sample_seq", "opinions", ["sample_seq"])
    _index("opinions_disputed", "opinions", ["seq"], sa.text("disputed"))
    _index(
        "opinions_said",
        "opinions",
        ["queue", "first_actor", "actor", "first_class_id", "class_id"],
        sa.text("action <> 'skip'"),
    )
    _index("opinions_passed", "opinions", ["actor", "sample_seq"], sa.text("action = 'skip'"))


def _holdout() -> sa.Table:
    holdout = op.create_table(
        "holdout_samples",
        sa.Column("sample_seq", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("lot", sa.Integer(), nullable=False),
        sa.Column("asked", sa.Boolean(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("decision_id", sa.String(length=26), nullable=True),
        sa.ForeignKeyConstraint(["sample_seq"], ["samples.seq"]),
        sa.PrimaryKeyConstraint("sample_seq"),
    )
    _index(
        "holdout_left",
        "holdout_samples",
        ["place", "sample_seq", "lot", "asked"],
        LEFT,
    )
    _index(
        "holdout_reviewed", "holdout_samples", ["lot", "outcome"], sa.text("outcome IS NOT NULL")
    )
    _index("holdout_lots", "holdout_samples", ["lot", "sample_seq"], LEFT)
    asked = sa.text("asked AND outcome IS NULL")
    _index("holdout_asked", "holdout_samples", ["lot", "sample_seq"], asked)
    op.create_table(
        "holdout_answers",
        sa.Column("version", sa.String(length=26), nullable=False),
        sa.Column("sample_seq", sa.Integer(), nullable=False),
        sa.Column("class_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["version"], ["versions.name"]),
        sa.ForeignKeyConstraint(["sample_seq"], ["samples.seq"]),
        sa.ForeignKeyConstraint(["class_id"], ["classes.id"]),
        sa.PrimaryKeyConstraint("version", "sample_seq"),
    )
    _index("ix_holdout_answers_sample_seq", "holdout_answers", ["sample_seq"])
    op.create_table(
        "holdout_tallies",
        sa.Column("version", sa.String(length=26), nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.Column("hits", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["version"], ["versions.name"]),
        sa.PrimaryKeyConstraint("version"),
    )
    return holdout


def _index(name: str, table: str, columns: list[str], where: Any = None) -> None:
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def _fill(connection: Any, holdout: sa.Table) -> None:
    """The samples of test that there are."""
    fixed = connection.execute(sa.text("SELECT value FROM facts WHERE key = 'split_seed'")).scalar()
    seed, last = int(fixed or 42), 0
    query = sa.text(
        "SELECT seq, id FROM samples WHERE split = 'test' AND seq > :last ORDER BY seq LIMIT :most"
    )
    while rows := connection.execute(query, {"last": last, "most": AT_ONCE}).all():
        last = rows[-1].seq
        connection.execute(
            holdout.insert(),
            [
                {
                    "sample_seq": row.seq,
                    "place": _hash("place", seed, row.id),
                    "lot": _hash("lot", seed, row.id),
                    "asked": False,
                }
                for row in rows
            ],
        )


def _hash(what: str, seed: int, sample_id: str) -> int:
    """As `toploss.holdout` has it."""
    digest = hashlib.sha256(f"holdout {what}:{seed}:{sample_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
