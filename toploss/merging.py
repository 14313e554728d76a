"""Two classes become one."""

from sqlalchemy import case, null

from toploss import classes, questions, trials, upkeep
from toploss.database import one_at_a_time
from toploss.errors import BadInput
from toploss.home import Home
from toploss.quarantine import TAKES_PART
from toploss.schema import classes as table
from toploss.schema import samples


def merge(home: Home, source: str, target: str, *, actor: str) -> int:
    """Move every sample of `source` to `target`; returns how many. The name `source` leads to
    `target` from then on, and undoing a decision that named it restores `target`. Their
    probabilities add up in the losses of every version that knew them: batch by batch, for a
    minute where there are a million samples; see `upkeep.merged`. If this process dies meanwhile,
    the dispatcher goes on.

    Raises:
        NotFound: no such class. BadInput: both are the same.
    """
    with home.db.write(long=True) as connection:
        one_at_a_time(connection)
        gone, kept = classes.find(connection, source), classes.find(connection, target)
        if gone == kept:
            raise BadInput(f"class {source!r} cannot be merged into itself; name two classes")
        connection.execute(
            table.update()
            .where((table.c.id == gone) | (table.c.merged_into == gone))
            .values(merged_into=kept)
        )
        moved = connection.execute(
            samples.update()
            .where(samples.c.class_id == gone)
            .values(
                class_id=kept,
                # Their label differs from the one last learned, so they count toward a run.
                changed=case((TAKES_PART, kept), else_=null()).is_distinct_from(
                    samples.c.settled_class_id
                ),
            )
        ).rowcount
        questions.merge(connection, gone, kept)
        trials.merge(connection, gone, kept)
        upkeep.merged(connection)
        classes.record(connection, gone, "merge", source, target, actor)
    while upkeep.follow_merges(home):
        home.db.give_way()
    return int(moved)
