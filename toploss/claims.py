"""Who is looking at which sample just now: several reviewers of one list get different ones.

Claims are soft. They run out by themselves, nobody is kept from deciding by one, and what two
decide all the same is settled by the sample's revision.
"""

import time
from collections.abc import Sequence
from typing import Protocol, TypeVar

from sqlalchemy import Connection, select, text

from toploss import losses
from toploss.database import one_at_a_time
from toploss.home import Home
from toploss.losses import Filter, Item, Place
from toploss.orders import Order
from toploss.schema import claims

HELD_S = 300.0  # for so long, from when it was last asked for
AT_ONCE = 50  # items looked at for the next that are free
LOOKED_AT = 1000  # at most: so many others' claims at the top of a list are passed over


class _HasSeq(Protocol):
    @property
    def seq(self) -> int: ...  # the sample's


Held = TypeVar("Held", bound=_HasSeq)

_TAKE = text(
    "INSERT INTO claims (sample_seq, holder, until) VALUES (:seq, :holder, :until) "
    "ON CONFLICT (sample_seq) DO UPDATE SET holder = excluded.holder, until = excluded.until"
)


def following(
    home: Home,
    which: Filter,
    *,
    holder: str,
    number: int,
    order: Order = Order.LOSS,
    after: Place | None = None,
) -> list[Item]:
    """The next samples of a list that nobody else holds; the holder has them from now on.

    Args:
        after: where to begin; None: at the top.

    Raises:
        UnknownLabel: the filter names no class.
    """
    found: list[Item] = []
    last = LOOKED_AT + (after.rank if after else 0)
    while len(found) < number and (after is None or after.rank < last):
        page = losses.top(home, which, order=order, limit=AT_ONCE, after=after).items
        if not page:
            break
        found += take(home, page, holder=holder, number=number - len(found))
        after = Place(score=page[-1].score, seq=page[-1].seq, rank=page[-1].rank)
    return found


def take(home: Home, items: Sequence[Held], *, holder: str, number: int) -> list[Held]:
    """The first of these that nobody else holds, at most so many: held from now on."""
    now = time.time()
    with home.db.write() as connection:
        one_at_a_time(connection)  # or two would find the same ones free
        others = _held(connection, [item.seq for item in items], holder, now)
        taken = [item for item in items if item.seq not in others][:number]
        for item in taken:
            claim = {"seq": item.seq, "holder": holder, "until": now + HELD_S}
            connection.execute(_TAKE, claim)
    return taken


def _held(connection: Connection, seqs: Sequence[int], holder: str, now: float) -> set[int]:
    query = select(claims.c.sample_seq).where(
        claims.c.sample_seq.in_(seqs), claims.c.holder != holder, claims.c.until >= now
    )
    return set(connection.execute(query).scalars())
