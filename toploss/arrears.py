"""What servers of an older release have written while this one took their place: events that tables
of today should tell of, and that those servers did not know. The samples are told anew.

Each event names the revision of the code that wrote it. The dispatcher looks at new events as they
come; where there is none, `toploss db upgrade` does.
"""

from typing import Any

from sqlalchemy import Connection, Row, func, or_, select

from toploss import fit, holdout, questions, samples, scoring, trials
from toploss.database import one_at_a_time
from toploss.events import Standing, State
from toploss.home import Home
from toploss.schema import (
    REVISION,
    asked_opinions,
    holdout_samples,
    opinions,
    sample_events,
    upgrades,
)
from toploss.schema import samples as table
from toploss.splits import Split

# Code of this revision or a later one writes all that the tables of today tell. To be raised with a
# migration that adds a table which older code would have had to write.
WRITES_ALL = "0015"
AT_ONCE = 500  # samples in one transaction


def follow(home: Home) -> int:
    """Tell a batch of what is in arrears; returns how many samples it was: none on the schema of a
    newer release, whose tables only that one knows."""
    with home.db.read() as connection:  # most times there is none, and no lock to be had for it
        theirs = fit.of(connection).newer
        if theirs or _newest(connection) <= _told(connection):
            return 0
    with home.db.write() as connection:
        one_at_a_time(connection)
        newest = _newest(connection)
        older = or_(sample_events.c.schema.is_(None), sample_events.c.schema < WRITES_ALL)
        query = select(sample_events.c.sample_id, sample_events.c.seq).where(
            older, sample_events.c.seq > _told(connection), sample_events.c.seq <= newest
        )
        events = connection.execute(query.order_by(sample_events.c.seq).limit(AT_ONCE)).all()
        touched = dict.fromkeys(event.sample_id for event in events)
        rows = [samples.find(connection, sample_id) for sample_id in touched]
        for row in rows:
            if row.state != State.ERASED:
                _tell(connection, home, row)
        if any(row.split == Split.TEST for row in rows):
            trials.recount(connection)
        upto = newest if len(events) < AT_ONCE else events[-1].seq
        this = upgrades.update().where(upgrades.c.revision == REVISION)
        connection.execute(this.values(events_told=upto))
        return len(rows)


def _newest(connection: Connection) -> int:
    return connection.execute(select(func.max(sample_events.c.seq))).scalar() or 0


def _told(connection: Connection) -> int:
    return connection.execute(select(func.max(upgrades.c.events_told))).scalar() or 0


def _tell(connection: Connection, home: Home, row: Row[Any]) -> None:
    """A sample as it stands, to every table that should know; to tell it twice changes nothing."""
    standing = Standing.of(row)
    takes_part = standing.state is State.ACTIVE and row.quarantined_by is None
    changed = (standing.class_id if takes_part else None) != row.settled_class_id
    connection.execute(table.update().where(table.c.seq == row.seq).values(changed=changed))
    scoring.follow(connection, row, standing, relabelled=True)
    if row.split == Split.TEST:
        _tell_holdout(connection, home, row)
    if _asked_about_another(connection, row):
        questions.follow(connection, row.seq, standing.decision_id)


def _tell_holdout(connection: Connection, home: Home, row: Row[Any]) -> None:
    known = select(holdout_samples.c.sample_seq).where(holdout_samples.c.sample_seq == row.seq)
    if connection.execute(known).first() is None:
        holdout.add(connection, row.seq, row.id, samples.fixed_split(connection, home)[1])
    undone = select(sample_events.c.undoes).where(
        sample_events.c.sample_id == row.id, sample_events.c.undoes.is_not(None)
    )
    for decision_id in connection.execute(undone).scalars().all():
        holdout.undo(connection, row.seq, decision_id)


def _asked_about_another(connection: Connection, row: Row[Any]) -> bool:
    """Whether somebody is asked about a decision that stands no longer, or contradicts one."""
    asked = select(asked_opinions.c.decision_id).where(asked_opinions.c.sample_seq == row.seq)
    said = select(opinions.c.decision_id).where(
        opinions.c.sample_seq == row.seq, opinions.c.disputed
    )
    found = connection.execute(asked.union(said)).scalars()
    return any(decision_id != row.decision_id for decision_id in found)
