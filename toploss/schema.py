"""The tables. `migrations/` beside this file brings a database to them.

Times are seconds since 1970 in UTC. What happened is kept in append-only tables (`sample_events`,
`class_events`, `opinions`, `split_ledger`, `alias_moves`, `shadow_moves`, `policy_events`); what
stands today is their projection, written in the same transaction.
"""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
    text,
)

# The migration that these tables are; a test holds it against the newest in migrations/.
REVISION = "0015"

metadata = MetaData()

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
# `settling.MARK`.
facts = Table(
    "facts",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

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
    Column("state", String(16), nullable=False),  # of `decisions.State`
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

OPEN = text("ended_at IS NULL")

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

# The answer once given under an Idempotency-Key.
idempotency = Table(
    "idempotency",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("request_hash", String(64), nullable=False),
    Column("answer", JSON, nullable=False),
    Column("at", Double, nullable=False),
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
    Column(
        "cause", String(16)
    ),  # of `watch.Cause`, of a roll-back by itself; none: somebody's move
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

# Who is looking at what just now, so that reviewers get different samples; it binds nobody.
claims = Table(
    "claims",
    metadata,
    Column("sample_seq", Integer, ForeignKey("samples.seq"), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("until", Double, nullable=False),
)

# Images of production that reviewers are to look at; `toploss.captures` has what becomes of them.
captures = Table(
    "captures",
    metadata,
    Column("id", String(26), primary_key=True),  # of the prediction; sorts by time
    Column("sha256", String(64), nullable=False, unique=True),  # of the bytes: each image once
    Column("why", String(8), nullable=False),  # of `captures.Why`
    Column("version", String(26)),  # that answered; none: nobody was asked
    Column("top", JSON, nullable=False),  # [class id, confidence], the likeliest first
    Column("margin", Double),  # between the two likeliest, 0 to 1
    Column("novelty", Double),  # as answered
    Column("format", String(8), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("claimed", Boolean, nullable=False),  # somebody said what it is
    Column("state", String(16), nullable=False),  # waiting, labelled, discarded
    Column("stored", Boolean, nullable=False),  # its bytes lie under `captures/`
    Column("at", Double, nullable=False),
    Column("until", Double, nullable=False),  # when it is forgotten, unless it was labelled
    Column("decided_by", String(100)),
    Column("decided_at", Double),
    Column("class_id", Integer, ForeignKey("classes.id")),  # the reviewer's label
    Column("outcome", JSON),  # of a label: what became of the sample, as it was answered
    Index("captures_by_state", "state", "claimed", "id"),
    Index("captures_by_claimed", "claimed", "id"),
    Index("captures_by_until", "until"),
)

# What callers said of a capture while it is there: the last word stands; see `feedback.MOST`.
capture_claims = Table(
    "capture_claims",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("capture_id", String(26), ForeignKey("captures.id"), nullable=False, index=True),
    Column("class_id", Integer, ForeignKey("classes.id"), nullable=False),
    Column("actor", String(100), nullable=False),
    Column("at", Double, nullable=False),
)

# How many were kept on a day, whatever has become of them since: the daily cap.
capture_days = Table(
    "capture_days",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),  # since 1970, UTC
    Column("sent", Boolean, primary_key=True),  # with feedback; else chosen by the service
    Column("kept", Integer, nullable=False),
)

# Decisions that somebody is asked about again, blind: rows come with the decision, and go with the
# answer or when the decision no longer stands.
asked_opinions = Table(
    "asked_opinions",
    metadata,
    Column("event_seq", Integer, primary_key=True),  # the decision's; the queue's order
    Column("queue", String(8), primary_key=True),  # of `questions.Asked`
    Column("sample_seq", Integer, ForeignKey("samples.seq"), nullable=False),
    Column("decision_id", String(26), nullable=False),
    Column("actor", String(100), nullable=False),  # who decided
    Column("at", Double, nullable=False),
    Index("asked_opinions_by_sample", "sample_seq", "queue"),
    Index("asked_opinions_of_others", "queue", "event_seq", "actor", "sample_seq"),
    Index("asked_opinions_of_oneself", "queue", "actor", "event_seq"),
)

DISPUTED = text("disputed")
SAID = text("action <> 'skip'")
PASSED = text("action = 'skip'")

# Append-only: what was said, blind, of a sample that was decided. It changes no label. Classes are
# today's; none: the sample does not belong in the data.
opinions = Table(
    "opinions",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String(26), nullable=False, unique=True),
    Column("queue", String(8), nullable=False),
    Column("sample_seq", Integer, ForeignKey("samples.seq"), nullable=False, index=True),
    Column("decision_id", String(26), nullable=False),  # what it is a second opinion on
    Column("first_actor", String(100), nullable=False),  # who decided that,
    Column("first_class_id", Integer, ForeignKey("classes.id")),  # and what it came to
    Column("actor", String(100), nullable=False),
    Column("action", String(8), nullable=False),  # label, exclude, skip
    Column("class_id", Integer, ForeignKey("classes.id")),
    Column("seconds", Double),  # that the reviewer looked at it
    Column("at", Double, nullable=False),
    # A projection: it contradicts a decision that stands.
    Column("disputed", Boolean, nullable=False),
    Index("opinions_disputed", "seq", sqlite_where=DISPUTED, postgresql_where=DISPUTED),
    Index(
        "opinions_said",
        *("queue", "first_actor", "actor", "first_class_id", "class_id"),
        sqlite_where=SAID,
        postgresql_where=SAID,
    ),
    Index("opinions_passed", "actor", "sample_seq", sqlite_where=PASSED, postgresql_where=PASSED),
)

LEFT = text("outcome IS NULL")
REVIEWED = text("outcome IS NOT NULL")
ASKED = text("asked AND outcome IS NULL")

# The samples of test, and how far they were looked at blind. Both hashes are below 2³¹.
holdout_samples = Table(
    "holdout_samples",
    metadata,
    Column("sample_seq", Integer, ForeignKey("samples.seq"), primary_key=True),
    Column("place", Integer, nullable=False),  # by hash: the queue's order
    Column("lot", Integer, nullable=False),  # by another hash: the random slice has the lowest
    Column("asked", Boolean, nullable=False),  # versions differ on it, or it is mixed in with such
    Column("outcome", String(16)),  # of the blind decision that was made: its kind
    Column("decision_id", String(26)),  # its event
    Index(
        "holdout_left",
        "place",
        "sample_seq",
        "lot",
        "asked",
        sqlite_where=LEFT,
        postgresql_where=LEFT,
    ),
    Index("holdout_reviewed", "lot", "outcome", sqlite_where=REVIEWED, postgresql_where=REVIEWED),
    Index("holdout_lots", "lot", "sample_seq", sqlite_where=LEFT, postgresql_where=LEFT),
    Index("holdout_asked", "lot", "sample_seq", sqlite_where=ASKED, postgresql_where=ASKED),
)

# What versions called the samples of the holdout, as classes of today.
holdout_answers = Table(
    "holdout_answers",
    metadata,
    Column("version", String(26), ForeignKey("versions.name"), primary_key=True),
    Column("sample_seq", Integer, ForeignKey("samples.seq"), primary_key=True, index=True),
    Column("class_id", Integer, ForeignKey("classes.id"), nullable=False),
)

# How often they are right under today's labels: counted as labels change.
holdout_tallies = Table(
    "holdout_tallies",
    metadata,
    Column("version", String(26), ForeignKey("versions.name"), primary_key=True),
    Column("samples", Integer, nullable=False),  # those that take part
    Column("hits", Integer, nullable=False),
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
