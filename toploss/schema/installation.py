"""The installation itself: what was upgraded, what was fixed once, who may come in."""

from sqlalchemy import JSON, Column, Double, Integer, String, Table, Text

from toploss.schema.base import metadata

# What releases say to each other: the upgrades of this database. The newest revision stands.
upgrades = Table(
    "upgrades",
    metadata,
    Column("revision", String(8), primary_key=True),
    Column("min_compatible", String(8), nullable=False),  # the oldest code that may use it
    Column("at", Double, nullable=False),
    # Up to this event every table tells what happened; of later ones `toploss.arrears` sees to it.
    Column("events_told", Integer, nullable=False),
)

# What was fixed once for this data set: the split's shares and seed. And `vitals.DISPATCHER`,
# `settling.MARK`, `outbox.NAMED`.
facts = Table(
    "facts",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

# The answer once given under an Idempotency-Key.
idempotency = Table(
    "idempotency",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("request_hash", String(64), nullable=False),
    Column("answer", JSON, nullable=False),
    Column("at", Double, nullable=False),
)

# API keys; a revoked one stays, so that its name does.
keys = Table(
    "keys",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("role", String(16), nullable=False),  # predict, review, admin
    Column("sha256", String(64), nullable=False, unique=True),  # of the secret
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
)
