"""The review list in every order, at any size.

0.1.0's own table stays as it is: its servers may still run when this is done.
"""

from collections import Counter
from typing import Any

import numpy as np
import sqlalchemy as sa
from alembic import op

from toploss import orders

revision = "0005"
down_revision = "0004"

ORDERS = ("loss", "margin", "combined", "confident_wrong", "neighbours")
DECIDED = sa.text("kind IN ('confirm', 'relabel', 'exclude', 'skip', 'undo')")


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("samples", "name", type_=sa.Text(collation="C"))
    op.create_index("samples_by_name", "samples", ["name"])
    op.create_index("samples_by_group", "samples", ["group_id"])
    op.create_index(
        "samples_quarantined",
        "samples",
        ["quarantined_by"],
        sqlite_where=sa.text("quarantined_by IS NOT NULL"),
        postgresql_where=sa.text("quarantined_by IS NOT NULL"),
    )
    op.create_index(
        "sample_events_decided",
        "sample_events",
        ["seq"],
        sqlite_where=DECIDED,
        postgresql_where=DECIDED,
    )
    op.create_table(
        "claims",
        sa.Column("sample_seq", sa.Integer(), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["sample_seq"], ["samples.seq"]),
        sa.PrimaryKeyConstraint("sample_seq"),
    )
    _widen_bands()
    scorings, scores, tallies = _tables()
    _fill(op.get_bind(), scorings, scores, tallies)
    # Now, or the rows would be put into every index one by one.
    for order in ORDERS:
        op.create_index(
            f"held_out_by_{order}",
            "held_out_scores",
            [
                "scoring",
                "listed",
                order,
                "sample_seq",
                "class_id",
                "predicted_class_id",
                "split",
            ],
        )
    op.create_index(
        "held_out_by_pair",
        "held_out_scores",
        ["class_id", "listed", "predicted_class_id", "scoring"],
    )
    op.create_index(
        "held_out_by_predicted", "held_out_scores", ["predicted_class_id", "listed", "scoring"]
    )


def _widen_bands() -> None:
    """Four bands of 16 bits become three of 22, 21 and 21."""
    for number in range(4):
        op.drop_index(f"ix_likenesses_band_{number}", "likenesses")
    op.execute(
        "UPDATE likenesses SET band_0 = (band_0 << 6) | (band_1 >> 10), "
        "band_1 = ((band_1 & 1023) << 11) | (band_2 >> 5), "
        "band_2 = ((band_2 & 31) << 16) | band_3"
    )
    with op.batch_alter_table("likenesses") as table:
        table.drop_column("band_3")
    for name, bands in (("first", (0, 1, 2)), ("second", (1, 2, 0)), ("third", (2, 0, 1))):
        op.create_index(f"likenesses_by_{name}", "likenesses", [f"band_{n}" for n in bands])


def _tables() -> tuple[sa.Table, sa.Table, sa.Table]:
    scorings = op.create_table(
        "scorings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=26), nullable=False),
        sa.Column("thresholds", sa.JSON(), nullable=False),
        sa.Column("loss_knots", sa.JSON(), nullable=False),
        sa.Column("margin_knots", sa.JSON(), nullable=False),
        sa.Column("newest", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["version"], ["versions.name"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("version"),
    )
    scores = op.create_table(
        "held_out_scores",
        sa.Column("sample_seq", sa.Integer(), nullable=False),
        sa.Column("scoring", sa.Integer(), nullable=False),
        sa.Column("listed", sa.Integer(), nullable=False),
        sa.Column("split", sa.String(length=8), nullable=False),
        sa.Column("class_id", sa.Integer(), nullable=False),
        sa.Column("predicted_class_id", sa.Integer(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        *(sa.Column(order, sa.Double(), nullable=False) for order in ORDERS),
        sa.Column("source", sa.String(length=8), nullable=False),
        sa.Column("fold", sa.Integer(), nullable=True),
        sa.Column("returned", sa.Boolean(), nullable=False),
        sa.Column("probabilities", sa.LargeBinary(), nullable=False),
        sa.Column("nearest", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["scoring"], ["scorings.id"]),
        sa.ForeignKeyConstraint(["sample_seq"], ["samples.seq"]),
        sa.PrimaryKeyConstraint("sample_seq", "scoring"),
    )
    tallies = op.create_table(
        "tallies",
        sa.Column("scoring", sa.Integer(), nullable=False),
        sa.Column("listed", sa.Integer(), nullable=False),
        sa.Column("split", sa.String(length=8), nullable=False),
        sa.Column("class_id", sa.Integer(), nullable=False),
        sa.Column("predicted_class_id", sa.Integer(), nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["scoring"], ["scorings.id"]),
        sa.PrimaryKeyConstraint("scoring", "listed", "split", "class_id", "predicted_class_id"),
    )
    return scorings, scores, tallies


def _fill(connection: Any, scorings: sa.Table, scores: sa.Table, tallies: sa.Table) -> None:
    merged = dict(
        connection.execute(
            sa.text("SELECT id, merged_into FROM classes WHERE merged_into IS NOT NULL")
        ).all()
    )
    versions = sa.table("versions", sa.column("name"), sa.column("class_ids", sa.JSON()))
    for name, outputs in connection.execute(sa.select(versions)).all():
        rows = connection.execute(
            sa.text(
                "SELECT o.*, s.split, s.class_id, s.decision FROM scores o "
                "JOIN samples s ON s.seq = o.sample_seq "
                "WHERE o.version = :version AND s.split <> 'test' ORDER BY o.sample_seq"
            ),
            {"version": name},
        ).all()
        if rows:
            _fill_one(connection, (scorings, scores, tallies), name, outputs, merged, rows)


def _fill_one(
    connection: Any,
    tables: tuple[sa.Table, sa.Table, sa.Table],
    version: str,
    outputs: list[int],
    merged: dict[int, int],
    rows: Any,
) -> None:
    scorings, scores, tallies = tables
    today = [merged.get(class_id, class_id) for class_id in outputs]
    class_ids = list(dict.fromkeys(today))
    shares = np.zeros((len(rows), len(class_ids)), np.float32)
    for output, class_id in enumerate(today):
        column = [np.frombuffer(row.probabilities, "<f4")[output] for row in rows]
        shares[:, class_ids.index(class_id)] += np.array(column)
    knows = np.array([row.class_id in class_ids for row in rows])
    # Under a label that is no class of the version any place will do: it is in no list.
    places = np.array(
        [
            class_ids.index(row.class_id) if known else 0
            for row, known in zip(rows, knows, strict=True)
        ]
    )
    scale = orders.Scale.of(shares[knows], places[knows])
    loss = orders.loss(shares, places)
    margin = orders.margin(shares, places, scale.thresholds)
    combined = scale.combined(loss, margin)
    confident_wrong = orders.confident_wrong(shares, places)
    # Whatever is there may have been learned from: the version itself must not score it.
    newest = connection.execute(sa.text("SELECT max(seq) FROM samples")).scalar_one()
    made = connection.execute(
        scorings.insert().values(
            version=version,
            thresholds=list(zip(class_ids, scale.thresholds.tolist(), strict=True)),
            loss_knots=scale.knots[0].tolist(),
            margin_knots=scale.knots[1].tolist(),
            newest=newest,
        )
    ).inserted_primary_key
    written = [
        {
            "scoring": made[0],
            "sample_seq": row.sample_seq,
            "listed": (2 if row.decision else 1) if knows[at] else 0,
            "split": row.split,
            "class_id": row.class_id,
            "predicted_class_id": row.predicted_class_id,
            "confidence": row.confidence,
            "loss": row.loss,
            "margin": float(margin[at]),
            "combined": float(combined[at]),
            "confident_wrong": float(confident_wrong[at]),
            "neighbours": -1.0,
            "source": "valid" if row.fold is None else "folds",
            "fold": row.fold,
            "returned": False,
            "probabilities": row.probabilities,
            "nearest": None,
        }
        for at, row in enumerate(rows)
    ]
    connection.execute(scores.insert(), written)
    cells = ("scoring", "listed", "split", "class_id", "predicted_class_id")
    counts = Counter(tuple(row[cell] for cell in cells) for row in written)
    connection.execute(
        tallies.insert(),
        [dict(zip(cells, cell, strict=True)) | {"samples": n} for cell, n in counts.items()],
    )
