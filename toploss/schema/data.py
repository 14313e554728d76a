"""Classes, samples, what happened to them, and the data as runs froze them."""

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
    Text,
    text,
)

from toploss.schema.base import OPEN, metadata

classes = Table(
    "classes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    # A merged class stays as a name for another one; never a chain.
    Column("merged_into", Integer, ForeignKey("classes.id")),
    Column("added_at", Double, nullable=False),
)

class_events = Table(
    "class_events",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("class_id", Integer, ForeignKey("classes.id"), nullable=False),
    Column("kind", String(16), nullable=False),  # add, rename, merge
    Column("before", String(200)),
    Column("after", String(200), nullable=False),
    Column("actor", String(100), nullable=False),
    Column("at", Double, nullable=False),
)

# As the index has it: the column itself becomes `changed = 1` for SQLite, which misses the index.
CHANGED = text("samples.changed")

samples = Table(
    "samples",
    metadata,
    Column("seq", Integer, primary_key=True),  # order of arrival; what lists are paged by
    Column("id", String(64), nullable=False, unique=True),  # SHA-256 of the bytes, in hex
    Column("class_id", Integer, ForeignKey("classes.id"), nullable=False),  # today's label
    Column("group_id", String(64), ForeignKey("split_ledger.group_id"), nullable=False),
    Column("split", String(8), nullable=False),
    Column("state", String(16), nullable=False),  # of `events.State`
    Column("decision", String(16)),  # the one that stands: confirm, relabel, exclude, skip
    Column("decision_id", String(26)),  # its event
    Column("revision", Integer, nullable=False),  # grows with every decision and undo
    # The label in the last snapshot whose run ended with a verdict; none: it was not in it.
    Column("settled_class_id", Integer),
    Column("changed", Boolean, nullable=False),  # counts toward the next run
    # The near-duplicate on the other side of the split: kept out of training because of it.
    Column("quarantined_by", String(64)),
    Column("format", String(8), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    # The file's name as it came; in the order of code points, so that its beginning can be sought.
    Column("name", Text().with_variant(Text(collation="C"), "postgresql"), nullable=False),
    Column("added_at", Double, nullable=False),
    Index("samples_by_class", "class_id", "split"),
    Index("samples_by_name", "name"),
    Index("samples_by_group", "group_id"),
    Index(
        "samples_quarantined",
        "quarantined_by",
        sqlite_where=text("quarantined_by IS NOT NULL"),
        postgresql_where=text("quarantined_by IS NOT NULL"),
    ),
    Index(
        "samples_changed", "split", sqlite_where=text("changed"), postgresql_where=text("changed")
    ),
)

# What a sample's picture looks like; `toploss.likeness` makes it, `toploss.duplicates` reads it.
likenesses = Table(
    "likenesses",
    metadata,
    Column("sample_seq", Integer, ForeignKey("samples.seq"), primary_key=True),
    # The perceptual hash, as `likeness.BANDS`; none: the picture is flat and has no likeness.
    *(Column(f"band_{number}", Integer) for number in range(3)),
    Column("points", LargeBinary, nullable=False),  # uint8, 16 × 16 × 3, RGB
    # Whole hashes, so that a look-up reads no row but those that are near.
    Index("likenesses_by_first", "band_0", "band_1", "band_2"),
    Index("likenesses_by_second", "band_1", "band_2", "band_0"),
    Index("likenesses_by_third", "band_2", "band_0", "band_1"),
)

DECIDED = text("kind IN ('confirm', 'relabel', 'exclude', 'skip', 'undo')")

sample_events = Table(
    "sample_events",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String(26), nullable=False, unique=True),
    Column("sample_id", String(64), ForeignKey("samples.id"), nullable=False),
    # add, label, conflict, confirm, relabel, exclude, skip, undo, erase
    Column("kind", String(16), nullable=False),
    Column("class_id", Integer, ForeignKey("classes.id")),  # the label it speaks of
    Column("undoes", String(26)),  # of an undo: the event taken back
    Column("before", JSON, nullable=False),  # the projection it found: what an undo restores
    Column("revision", Integer, nullable=False),  # the sample's, after it
    Column("actor", String(100), nullable=False),
    Column("at", Double, nullable=False),
    Column("evidence", JSON),  # of a decision: version, loss, predicted, as the reviewer saw them
    Column("schema", String(8)),  # the revision of the code that wrote it; none: from before 0015
    Index("sample_events_by_sample", "sample_id", "seq"),
    Index("sample_events_decided", "seq", sqlite_where=DECIDED, postgresql_where=DECIDED),
    Index("sample_events_by_actor", "actor", "seq", sqlite_where=DECIDED, postgresql_where=DECIDED),
)

# The tombstones of samples that were erased.
erasures = Table(
    "erasures",
    metadata,
    Column("sample_seq", Integer, ForeignKey("samples.seq"), primary_key=True, autoincrement=False),
    Column("reason", Text, nullable=False),
    Column("actor", String(100), nullable=False),
    Column("at", Double, nullable=False),
    Column("ended_at", Double),  # when nothing made of it was left; none: something may be
    Index("erasures_open", "at", sqlite_where=OPEN, postgresql_where=OPEN),
)

# Append-only: a group's split is written once.
split_ledger = Table(
    "split_ledger",
    metadata,
    Column("group_id", String(64), primary_key=True),  # the id of the group's first sample
    Column("split", String(8), nullable=False),
    Column("why", String(16), nullable=False),  # hash, given
    Column("at", Double, nullable=False),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("fingerprint", String(64), primary_key=True),
    Column("path", Text, nullable=False),  # in the storage
    Column("classes", JSON, nullable=False),  # labels in the model's order
    Column("counts", JSON, nullable=False),  # split → label → samples
    Column("at", Double, nullable=False),
)
