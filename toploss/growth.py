"""How the data set has grown, from a few look-ups at any size: samples are numbered in order."""

from sqlalchemy import Connection, func, select

from toploss.schema import samples

POINTS = 100  # of the course: it is right to a hundredth of its height


def arrived(connection: Connection) -> int:
    """How many samples have come in."""
    return int(connection.execute(select(func.max(samples.c.seq))).scalar() or 0)


def course(connection: Connection, points: int = POINTS) -> list[tuple[float, int]]:
    """When, and how many samples had come in by then: from the first to the last, evenly in number.

    Args:
        points: so many at most; at least 2.
    """
    last = arrived(connection)
    numbers = {1 + (last - 1) * place // (points - 1) for place in range(points)} if last else set()
    query = select(samples.c.added_at, samples.c.seq).where(samples.c.seq.in_(numbers))
    found = connection.execute(query.order_by(samples.c.seq))
    return [(float(at), int(number)) for at, number in found]


def since(connection: Connection, when: float) -> int:
    """How many samples have come in since then; found by halving, twenty look-ups at a million."""
    last = arrived(connection)
    low, high = 1, last + 1  # the first since then is in [low, high]
    while low < high:
        middle = (low + high) // 2
        query = select(samples.c.added_at).where(samples.c.seq >= middle)
        at = connection.execute(query.order_by(samples.c.seq).limit(1)).scalar()
        if at is not None and at < when:
            low = middle + 1
        else:
            high = middle
    first = connection.execute(
        select(func.min(samples.c.seq)).where(samples.c.seq >= low)  # numbers may be left out
    ).scalar()
    return 0 if first is None else last + 1 - int(first)
