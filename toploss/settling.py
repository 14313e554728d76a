"""From what on changes count: the samples and labels of the last run that ended with a verdict.

A first verdict settles every sample, which takes a million of them minutes, and whoever decides on
one meanwhile would wait. So what is much is settled in batches after the verdict, each of which any
process may do; until the last one is done, more samples count as changed than have, and the policy
waits.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, case, null, select

from toploss import members
from toploss.database import one_at_a_time
from toploss.figures import chunks
from toploss.home import Home
from toploss.quarantine import TAKES_PART
from toploss.schema import facts, samples
from toploss.snapshots import find

AT_ONCE = 5_000  # samples in one transaction
READ_AT_ONCE = 10_000
MARK = "settling"  # among the facts: the snapshot whose samples are not settled to the last


@dataclass(frozen=True, kw_only=True)
class Unsettled:
    """What a snapshot's run has learned otherwise than the one before."""

    fingerprint: str
    samples: "array[int]"  # their numbers
    class_ids: "array[int]"  # what each was learned as; 0: it was not
    lasting: bool  # nothing was being settled while they were read


def unsettled(home: Home, fingerprint: str) -> Unsettled:
    """The samples that were learned otherwise by the run on this snapshot than by the last one that
    ended with a verdict, for `begin`. It reads all of them, so it is asked before, outside of the
    transaction: nothing but a verdict, and what follows it, changes what was learned.

    Raises:
        NotFound: there is no such snapshot. Broken: its file is gone or damaged.
    """
    row = find(home, fingerprint)
    ids = {entry["name"]: entry["id"] for entry in row.classes}
    learned = {
        bytes.fromhex(kept.id): ids[kept.label]
        for kept in members.scan(home, row.path, fingerprint)
    }
    seqs, class_ids = array("q"), array("q")
    query = select(samples.c.seq, samples.c.id, samples.c.settled_class_id)
    with home.db.read() as connection:
        lasting = going_on(connection) is None
        found = connection.execute(query.execution_options(yield_per=READ_AT_ONCE))
        for seq, sample, before in found:
            now = learned.get(bytes.fromhex(sample))
            if now != before:
                seqs.append(seq)
                class_ids.append(now or 0)
    return Unsettled(fingerprint=fingerprint, samples=seqs, class_ids=class_ids, lasting=lasting)


def begin(connection: Connection, those: Unsettled) -> None:
    """A run on a snapshot ends with a verdict in this transaction, which settles a few samples; of
    many it only says that they are to be settled, and `finish` does it.

    What was decided after the freeze still differs from the snapshot, and so still counts.

    Args:
        those: of `unsettled`.
    """
    connection.execute(facts.delete().where(facts.c.key == MARK))  # of the verdict before
    if those.lasting and len(those.samples) <= AT_ONCE:
        _settle(connection, zip(those.samples, those.class_ids, strict=True))
    else:
        connection.execute(facts.insert().values(key=MARK, value=those.fingerprint))


def finish(home: Home) -> None:
    """Settle what a verdict left to be settled. Where it is killed, the next call goes on.

    Raises:
        Broken: the snapshot's file, the storage or the database is gone; all stays as it is.
    """
    with home.db.read() as connection:
        fingerprint = going_on(connection)
    if fingerprint is None:
        return
    left = unsettled(home, fingerprint)
    for some in chunks(zip(left.samples, left.class_ids, strict=True), AT_ONCE):
        with home.db.write() as connection:
            one_at_a_time(connection)
            if going_on(connection) != fingerprint:
                return  # another verdict came, or another process was faster
            _settle(connection, some)
        home.db.give_way()
    with home.db.write() as connection:
        this = (facts.c.key == MARK) & (facts.c.value == fingerprint)
        connection.execute(facts.delete().where(this))


def going_on(connection: Connection) -> str | None:
    """The snapshot that is not settled to the last; None: none is, and changes count right."""
    found = connection.execute(select(facts.c.value).where(facts.c.key == MARK)).scalar()
    return None if found is None else str(found)


def _settle(connection: Connection, those: Iterable[tuple[int, int]]) -> None:
    learned = case((TAKES_PART, samples.c.class_id), else_=null())
    settled = bindparam("settled", type_=samples.c.settled_class_id.type)
    update = (
        samples.update()
        .where(samples.c.seq == bindparam("sample"))
        .values(settled_class_id=settled, changed=learned.is_distinct_from(settled))
    )
    if values := [{"sample": number, "settled": class_id or None} for number, class_id in those]:
        connection.execute(update, values)
