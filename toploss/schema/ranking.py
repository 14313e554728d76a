"""What versions say of the pool, held out: the order of the review."""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
)

from toploss.schema.base import metadata

# What a version says of the pool, and what it takes to score one more sample like the others.
scorings = Table(
    "scorings",
    metadata,
    Column("id", Integer, primary_key=True),  # short, because every index on `scores` carries it
    # Of a draft it is not published yet, and never will be if its run fails.
    Column("version", String(26), nullable=False, unique=True),
    Column("thresholds", JSON, nullable=False),  # [class id, what `orders.thresholds` has of it]
    Column("loss_knots", JSON, nullable=False),  # of `orders.Scale`
    Column("margin_knots", JSON, nullable=False),
    Column("newest", Integer, nullable=False),  # sample that was looked at; later ones wait
    Column("learned", Integer),  # the newest that may have been learned from; none: as `newest`
    Column("state", String(8), nullable=False, server_default="ready"),  # of `scoring.State`
    Column("run_id", String(26)),  # of a draft: the attempt that writes it,
    Column("fence", Integer),
    Column("class_ids", JSON(none_as_null=True)),  # and the classes of the version's outputs
    # The sample that a walk through its scores has come to (`toploss.upkeep`); none: none is on.
    Column("walked", Integer),
)

# Held-out scores of samples; what the review lists. Split and label are those of `samples`, kept
# here as well, so that a page is read from one index.
scores = Table(
    "held_out_scores",
    metadata,
    Column("sample_seq", Integer, ForeignKey("samples.seq"), primary_key=True),
    Column("scoring", Integer, ForeignKey("scorings.id"), primary_key=True),
    Column("listed", Integer, nullable=False),  # of `scoring.Listed`
    Column("split", String(8), nullable=False),
    Column("class_id", Integer, nullable=False),  # today's label
    Column("predicted_class_id", Integer, nullable=False),
    Column("confidence", Double, nullable=False),  # probability of the predicted class
    Column("loss", Double, nullable=False),  # the orders: −log probability of today's label, nats
    Column("margin", Double, nullable=False),
    Column("combined", Double, nullable=False),
    Column("confident_wrong", Double, nullable=False),
    Column("neighbours", Double, nullable=False),
    Column("source", String(8), nullable=False),  # of `scoring.Source`
    Column("fold", Integer),
    Column("returned", Boolean, nullable=False),  # decided once; the evidence grew against it
    Column("probabilities", LargeBinary, nullable=False),  # float32, in the version's order
    Column("nearest", LargeBinary),  # of `scoring.NEAR`
    *(
        Index(
            f"held_out_by_{order}",
            "scoring",
            "listed",
            order,
            "sample_seq",
            "class_id",
            "predicted_class_id",
            "split",
        )
        for order in ("loss", "margin", "combined", "confident_wrong", "neighbours")
    ),
    # Not by the scoring first: SQLite would think an index of the orders as good.
    Index("held_out_by_pair", "class_id", "listed", "predicted_class_id", "scoring"),
    Index("held_out_by_predicted", "predicted_class_id", "listed", "scoring"),
)

# As 0.1.0 has them: its servers read and write these while the first ones of this release run
# beside them. Nobody else does; the release after this one removes them.
scores_of_0_1 = Table(
    "scores",
    metadata,
    Column("version", String(26), ForeignKey("versions.name"), primary_key=True),
    Column("sample_seq", Integer, ForeignKey("samples.seq"), primary_key=True),
    Column("predicted_class_id", Integer, nullable=False),
    Column("confidence", Double, nullable=False),
    Column("loss", Double, nullable=False),
    Column("probabilities", LargeBinary, nullable=False),
    Column("fold", Integer),
    Column("held_out", Boolean, nullable=False),
    Index("scores_by_loss", "version", "loss", "sample_seq"),
)

# How many scored samples there are of each kind: changed in the transaction that changes them.
tallies = Table(
    "tallies",
    metadata,
    Column("scoring", Integer, ForeignKey("scorings.id"), primary_key=True),
    Column("listed", Integer, primary_key=True),
    Column("split", String(8), primary_key=True),
    Column("class_id", Integer, primary_key=True),
    Column("predicted_class_id", Integer, primary_key=True),
    Column("samples", Integer, nullable=False),
)
