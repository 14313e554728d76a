"""The tables, by theme. `migrations/` beside this package brings a database to them.

Times are seconds since 1970 in UTC. What happened is kept in append-only tables (`sample_events`,
`class_events`, `opinions`, `split_ledger`, `alias_moves`, `shadow_moves`, `policy_events`); what
stands today is their projection, written in the same transaction.
"""

from toploss.schema.base import metadata
from toploss.schema.data import (
    CHANGED,
    DECIDED,
    class_events,
    classes,
    erasures,
    likenesses,
    sample_events,
    samples,
    snapshots,
    split_ledger,
)
from toploss.schema.installation import facts, idempotency, keys, upgrades
from toploss.schema.production import (
    alias_moves,
    drift_alarms,
    outcomes,
    servers,
    shadow_answers,
    shadow_moves,
    traffic,
    versions,
)
from toploss.schema.queue import ACTIVE, QUEUED, hook_calls, outbox, policy_events, runs, triggers
from toploss.schema.ranking import scores, scores_of_0_1, scorings, tallies
from toploss.schema.review import (
    ASKED,
    LEFT,
    PASSED,
    REVIEWED,
    SAID,
    asked_opinions,
    capture_claims,
    capture_days,
    captures,
    claims,
    holdout_answers,
    holdout_samples,
    holdout_tallies,
    opinions,
)

# The migration that these tables are; a test holds it against the newest in migrations/.
REVISION = "0015"

__all__ = [
    "ACTIVE",
    "ASKED",
    "CHANGED",
    "DECIDED",
    "LEFT",
    "PASSED",
    "QUEUED",
    "REVIEWED",
    "REVISION",
    "SAID",
    "alias_moves",
    "asked_opinions",
    "capture_claims",
    "capture_days",
    "captures",
    "claims",
    "class_events",
    "classes",
    "drift_alarms",
    "erasures",
    "facts",
    "holdout_answers",
    "holdout_samples",
    "holdout_tallies",
    "hook_calls",
    "idempotency",
    "keys",
    "likenesses",
    "metadata",
    "opinions",
    "outbox",
    "outcomes",
    "policy_events",
    "runs",
    "sample_events",
    "samples",
    "scores",
    "scores_of_0_1",
    "scorings",
    "servers",
    "shadow_answers",
    "shadow_moves",
    "snapshots",
    "split_ledger",
    "tallies",
    "traffic",
    "triggers",
    "upgrades",
    "versions",
]
