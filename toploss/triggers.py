"""Why runs were asked for: each trigger is kept with its kind, reason, actor and time."""

import time
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, select

from toploss.schema import triggers


class Kind(StrEnum):
    """Where a trigger came from."""

    POLICY = "policy"  # enough samples have changed
    DRIFT = "drift"  # fewer have, and the traffic has drifted
    SCHEDULE = "schedule"  # `toploss retrain --if-due`, of a cron job
    COMMAND = "command"  # somebody at a terminal, or in Python
    HTTP = "http"  # POST /v1/retrainings
    WEBHOOK = "webhook"  # POST /v1/hooks/retrain


AUTOMATIC = frozenset({Kind.POLICY, Kind.DRIFT, Kind.SCHEDULE})  # the policy's own


def add(
    connection: Connection,
    run: str,
    kind: Kind | str,
    *,
    reason: str,
    actor: str,
    at: float | None = None,
) -> None:
    """
    Args:
        at: seconds since 1970; None: now.
    """
    when = time.time() if at is None else at
    row = {"run_id": run, "kind": str(kind), "reason": reason, "actor": actor, "at": when}
    connection.execute(triggers.insert().values(row))


def of(connection: Connection, run: str) -> list[dict[str, Any]]:
    """A run's, in the order in which they came: kind, reason, actor, at."""
    row = triggers.c
    query = select(row.kind, row.reason, row.actor, row.at).where(row.run_id == run)
    return [dict(found._mapping) for found in connection.execute(query.order_by(row.seq))]


def automatic(connection: Connection, run: str) -> bool:
    """Whether nobody but the policy has asked for it."""
    query = select(triggers.c.kind).where(triggers.c.run_id == run)
    kinds = set(connection.execute(query).scalars())
    return bool(kinds) and kinds <= AUTOMATIC


def hand_over(connection: Connection, lost: str, waiting: str) -> None:
    """The triggers of a run that is not tried again are the waiting one's as well."""
    for trigger in of(connection, lost):
        add(connection, waiting, **trigger)
