"""Versions, which of them serves and how it does, and what was answered."""

from sqlalchemy import JSON, Column, Double, ForeignKey, Index, Integer, String, Table, Text

from toploss.schema.base import OPEN, metadata

versions = Table(
    "versions",
    metadata,
    Column("name", String(26), primary_key=True),
    Column("run_id", String(26), ForeignKey("runs.id"), nullable=False),
    Column("path", Text, nullable=False),  # its folder in the storage
    Column("manifest_sha256", String(64), nullable=False),
    Column("manifest_name", String(64), nullable=False, server_default="manifest.json"),  # its file
    Column("manifest", JSON, nullable=False),
    Column("class_ids", JSON, nullable=False),  # of its labels, in order
    Column("created_at", Double, nullable=False),
    Column("pruned_at", Double),  # from then on its files are gone; none: they are there
)

# The production alias: the row with the highest generation stands.
alias_moves = Table(
    "alias_moves",
    metadata,
    Column("generation", Integer, primary_key=True),
    Column("version", String(26), ForeignKey("versions.name"), nullable=False),
    Column("kind", String(16), nullable=False),  # promote, rollback, override
    Column("below", Integer),  # the generation that a roll-back would return to
    Column("reason", Text, nullable=False),
    Column("actor", String(100), nullable=False),
    Column("at", Double, nullable=False),
    # Of `watch.Cause`, of a roll-back by itself; none: somebody's move.
    Column("cause", String(16)),
)

# How each server stands to production, by its own word every few seconds; `toploss.servers`.
servers = Table(
    "servers",
    metadata,
    Column("id", String(26), primary_key=True),  # of one start of it
    Column("name", String(200), nullable=False),  # host and process, for people
    Column("version", String(26)),  # that it answers with; none: it has none yet
    Column("generation", Integer),
    Column("wanted", Integer),  # the generation of production that it knows of
    Column("waits_s", Double, nullable=False),  # for so long it has not answered with that one
    Column("error", Text),  # why that one does not load; none: it has not failed
    Column("at", Double, nullable=False),  # of its last word, by the database's clock
)

# What came of the images that servers were asked about, by the generation that was to answer.
outcomes = Table(
    "outcomes",
    metadata,
    Column("hour", Integer, primary_key=True, autoincrement=False),  # since 1970, UTC
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("version", String(26), nullable=False),
    Column("answers", Integer, nullable=False),
    Column("failed", Integer, nullable=False),  # the model could not compute them
    Column("novel", Integer, nullable=False),  # of the answers
)

# The candidate that scores beside production: the last row stands; no version: none. Its promotion
# ends it.
shadow_moves = Table(
    "shadow_moves",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("version", String(26), ForeignKey("versions.name")),
    Column("generation", Integer, nullable=False),  # of production, when it was said
    Column("reason", Text, nullable=False),
    Column("actor", String(100), nullable=False),
    Column("at", Double, nullable=False),
)

# How many images the two called what.
shadow_answers = Table(
    "shadow_answers",
    metadata,
    Column("candidate", String(26), ForeignKey("versions.name"), primary_key=True),
    Column("live", String(26), ForeignKey("versions.name"), primary_key=True),
    Column("live_class_id", Integer, ForeignKey("classes.id"), primary_key=True),
    Column("candidate_class_id", Integer, ForeignKey("classes.id"), primary_key=True),
    Column("images", Integer, nullable=False),
)

# What production answered, counted; `toploss.traffic` says what a cell is.
traffic = Table(
    "traffic",
    metadata,
    Column("hour", Integer, primary_key=True),  # since 1970, UTC
    Column("version", String(26), primary_key=True),
    Column("kind", Integer, primary_key=True),
    Column("bin", Integer, primary_key=True),
    Column("answers", Integer, nullable=False),
)

# Shifts of the traffic against a version's snapshot, from when they were seen to when they were not
# any more.
drift_alarms = Table(
    "drift_alarms",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("version", String(26), ForeignKey("versions.name"), nullable=False),
    Column("kind", String(16), nullable=False),  # of `drift.Kind`
    Column("statistic", Double, nullable=False),
    Column("threshold", Double, nullable=False),
    Column("answers", Integer, nullable=False),  # that it was seen in
    Column("why", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("ended_at", Double),
    Index(
        "one_open_alarm",
        "version",
        "kind",
        unique=True,
        sqlite_where=OPEN,
        postgresql_where=OPEN,
    ),
)
