"""What keeps the scores of all versions in order, a batch at a time: that a merge of classes comes
to all of them, and that those which nobody will look at again are removed.

Whoever merges classes does the first; the dispatcher does what is left, and the second. Each batch
is a transaction that says how far it came, so that any process may do the next one.
"""

from typing import Any

from sqlalchemy import Connection, Row, select

from toploss import drafts, figures, models, shadow
from toploss.database import one_at_a_time
from toploss.figures import Listed
from toploss.home import Home
from toploss.schema import samples, scores, scorings, tallies
from toploss.scoring import ACTIVE, State, rewrite
from toploss.space import Space

AT_ONCE = 2000  # scores in one transaction


def step(home: Home) -> bool:
    """Do one batch of whatever there is to do; returns whether there was any."""
    return follow_merges(home) or prune(home)


def merged(connection: Connection) -> None:
    """Classes have become one: every version's scores have to follow. Until they have, a sample's
    label is told right, its numbers may be those of before, and a filter by the class misses what
    has not followed."""
    connection.execute(scorings.update().where(scorings.c.state != State.GONE).values(walked=0))


def follow_merges(home: Home) -> bool:
    """Bring a batch of scores to the classes of today; returns whether there was any."""
    behind = scorings.c.walked.is_not(None) & (scorings.c.state != State.GONE)
    query = select(scorings).where(behind).order_by(scorings.c.id.desc()).limit(1)
    with home.db.read() as connection:  # most times there is none, and no lock to be had for it
        if connection.execute(query).first() is None:
            return False
    with home.db.write() as connection:
        one_at_a_time(connection)
        scoring = connection.execute(query).first()
        if scoring is None:
            return False
        rows = _next(connection, scoring)
        _follow(connection, scoring, rows)
        _walked(connection, scoring, rows[-1].sample_seq if rows else None)
        return True


def prune(home: Home) -> bool:
    """Remove a batch of scores that nobody will look at: all but those of production, of what a
    roll-back would return to, of the candidate beside it, and of the newest that was scored.
    Returns whether there was any. SQLite's file grows no smaller by it; the next scores take the
    room."""
    with home.db.read() as connection:  # most times there is nothing, and no lock to be had for it
        if not _doomed(connection) and _going(connection) is None:
            return False
    with home.db.write() as connection:
        one_at_a_time(connection)
        doomed = scorings.c.id.in_(_doomed(connection))
        connection.execute(scorings.update().where(doomed).values(state=State.GONE, walked=0))
        scoring = _going(connection)
        if scoring is None:
            return False
        rows = _next(connection, scoring)
        if rows:
            these = scores.c.sample_seq.between(rows[0].sample_seq, rows[-1].sample_seq)
            connection.execute(scores.delete().where(these, scores.c.scoring + 0 == scoring.id))
            _walked(connection, scoring, rows[-1].sample_seq)
            return True
        connection.execute(tallies.delete().where(tallies.c.scoring == scoring.id))
        if scoring.class_ids is not None:  # a draft: its version was never published
            connection.execute(scorings.delete().where(scorings.c.id == scoring.id))
        else:
            _walked(connection, scoring, None)
        return True


def _doomed(connection: Connection) -> list[int]:
    """Whose scores nobody will look at."""
    wanted = set()
    alias = models.standing(connection)
    if alias is not None:
        wanted = {alias.version, models.below(connection)}
    wanted.add(shadow.candidate(connection))
    query = select(scorings).where(scorings.c.state != State.GONE).order_by(scorings.c.id)
    rows = connection.execute(query).all()
    ready = [row for row in rows if row.state == State.READY]
    wanted |= {row.version for row in ready[-1:]}
    return [row.id for row in ready if row.version not in wanted] + [
        row.id for row in rows if row.state == State.DRAFT and drafts.dead(connection, row)
    ]


def _going(connection: Connection) -> Row[Any] | None:
    gone = (scorings.c.state == State.GONE) & scorings.c.walked.is_not(None)
    return connection.execute(select(scorings).where(gone).order_by(scorings.c.id)).first()


def _next(connection: Connection, scoring: Row[Any]) -> list[Row[Any]]:
    """The scores after those that were walked through, with their samples of today."""
    # A sum is in no index: SQLite would rather sort all scores of the version each time.
    this = (scores.c.scoring + 0 == scoring.id) & (scores.c.sample_seq > scoring.walked)
    today = samples.c.class_id.label("today"), samples.c.decision_id, samples.c.state
    query = select(scores, *today).join(samples, samples.c.seq == scores.c.sample_seq).where(this)
    return list(connection.execute(query.order_by(scores.c.sample_seq).limit(AT_ONCE)).all())


def _walked(connection: Connection, scoring: Row[Any], upto: int | None) -> None:
    this = scorings.c.id == scoring.id
    connection.execute(scorings.update().where(this).values(walked=upto))


def _follow(connection: Connection, scoring: Row[Any], rows: list[Row[Any]]) -> None:
    space = Space.of_scoring(connection, scoring)
    new = {row.sample_seq: {**row._asdict(), "class_id": row.today} for row in rows}
    known = [row for row in rows if row.today in space.place]
    labels = [row.today for row in known]
    numbers = figures.again(connection, known, space, space.scale(scoring), labels)
    for row, found in zip(known, numbers, strict=True):
        new[row.sample_seq] |= found
    back = [row for row in known if row.listed == Listed.OUT]
    figures.stand(
        connection,
        [new[row.sample_seq] for row in back],
        [row.decision_id for row in back],
        [row.state != ACTIVE for row in back],
    )
    for row in rows:
        if row.today not in space.place:
            new[row.sample_seq] |= {"listed": Listed.OUT, "returned": False}
    rewrite(connection, ((row, new[row.sample_seq]) for row in rows))
