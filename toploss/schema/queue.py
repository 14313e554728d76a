"""Runs, why they were asked for, and what the outside is to hear of them."""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    false,
    text,
)

from toploss.schema.base import metadata

ACTIVE = text("state IN ('leased', 'running')")
QUEUED = text("state = 'queued'")

runs = Table(
    "runs",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("plan", JSON),  # complete settings of the training; none until it is launched
    Column("foreground", Boolean, nullable=False),  # somebody sits before it: never taken up again
    Column("promote", Boolean, nullable=False),
    # Even if these data and settings have a verdict.
    Column("forced", Boolean, nullable=False, server_default=false()),
    Column("fingerprint", String(64), ForeignKey("snapshots.fingerprint")),
    Column("fence", Integer, nullable=False),  # grows with every attempt; an older one is void
    Column("owner", String(200)),  # host:pid:start of the process that works on it
    Column("lease_until", Double),
    Column("cancel_asked", Boolean, nullable=False),
    Column("stage", String(32)),
    Column("epoch", Integer),
    Column("epochs", Integer),
    Column("history", JSON, nullable=False),  # one row per epoch
    # Seconds by stage, and how many are left; see `training.forecast`. When that was told, by the
    # database's clock.
    Column("pace", JSON),
    Column("pace_at", Double),
    Column("finder", JSON),  # the rate finder's curve and choice
    Column("metrics", JSON),
    Column("diagnosis", JSON),
    Column("gate", JSON),  # the verdict, in words and numbers
    Column("version", String(26)),
    Column("error", Text),
    Column("cause", String(16)),  # what ended the last attempt; see `toploss.states`
    Column("not_before", Double),  # by the database's clock: a lost run waits for its next attempt
    Column("losses", Integer, nullable=False, server_default=text("0")),  # attempts that were lost
    Column("log", Text),  # the log's path in the storage
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Index("one_active_run", text("(1)"), unique=True, sqlite_where=ACTIVE, postgresql_where=ACTIVE),
    Index("one_queued_run", text("(1)"), unique=True, sqlite_where=QUEUED, postgresql_where=QUEUED),
)

# Why a run was asked for; triggers that find one waiting add their reason to it.
triggers = Table(
    "triggers",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("run_id", String(26), ForeignKey("runs.id"), nullable=False, index=True),
    Column("kind", String(16), nullable=False, server_default="command"),  # of `triggers.Kind`
    Column("reason", Text, nullable=False),
    Column("actor", String(100), nullable=False),
    Column("at", Double, nullable=False),
)

# Signed calls from outside, by their id, for as long as one could come again.
hook_calls = Table(
    "hook_calls",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("digest", String(64), nullable=False),  # SHA-256 of the body
    Column("answer", JSON, nullable=False),
    Column("until", Double, nullable=False),
    Index("hook_calls_by_until", "until"),
)

WAITS = text("failed_at IS NULL")

# What receivers outside are to be told: written with what happened, removed when it was told.
outbox = Table(
    "outbox",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String(26), nullable=False),  # of the message: the same for all its receivers
    Column("receiver", String(16)),  # of `outbox.receiver`; none: not addressed yet
    Column("type", String(32), nullable=False),  # of `outbox.Type`
    Column("data", JSON, nullable=False),
    Column("at", Double, nullable=False),  # when it happened
    Column("attempts", Integer, nullable=False),
    Column("next_at", Double, nullable=False),  # not before
    Column("error", Text),  # of the last attempt
    Column("failed_at", Double),  # when it was given up
    Index("outbox_waiting", "seq", sqlite_where=WAITS, postgresql_where=WAITS),
)

# The automatic policy: the last row stands; none: it runs.
policy_events = Table(
    "policy_events",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("paused", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", String(100), nullable=False),
    Column("at", Double, nullable=False),
)
