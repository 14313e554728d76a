"""What people look at beside the ranking: captures, opinions, the holdout; and who holds what."""

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
    text,
)

from toploss.schema.base import metadata

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
