"""How far reviewers agree, with each other and with themselves, beyond what chance would give."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import func, select

from toploss.home import Home
from toploss.intervals import Interval, wilson
from toploss.questions import Asked
from toploss.schema import SAID
from toploss.schema import opinions as table

# What two have said of a sample: a class's id, or None where it is to be excluded.
Pairs = Counter[tuple[int | None, int | None]]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Of pairs of judgements on the same samples."""

    pairs: int
    agree: int  # of those
    kappa: float | None  # None: undefined, for want of pairs or of a second class
    interval: Interval | None  # of kappa, 95 %; see `interval`


def figures(home: Home) -> dict[str, Any]:
    """Between reviewers (`second`, also for each pair of them: `by`), and of each with himself
    (`again`). Who skipped has said nothing."""
    said = table.c.first_actor, table.c.actor, table.c.first_class_id, table.c.class_id
    query = select(table.c.queue, *said, func.count()).where(SAID)
    between: dict[tuple[str, str], Pairs] = {}
    again: Pairs = Counter()
    with home.db.read() as connection:
        for queue, first, second, *pair, number in connection.execute(
            query.group_by(table.c.queue, *said)
        ):
            pairs = again
            if queue == Asked.SECOND:
                pairs = between.setdefault((first, second), Counter())
            pairs[pair[0], pair[1]] += number
    whole: Pairs = sum(between.values(), Counter())
    return {
        "second": {
            **asdict(agreement(whole)),
            "by": [
                {"first": first, "second": second, "pairs": pairs.total(), "kappa": kappa(pairs)}
                for (first, second), pairs in sorted(between.items())
            ],
        },
        "again": asdict(agreement(again)),
    }


def agreement(pairs: Pairs) -> Agreement:
    """What a table of pairs comes to."""
    return Agreement(
        pairs=pairs.total(), agree=_agreeing(pairs), kappa=kappa(pairs), interval=interval(pairs)
    )


def kappa(pairs: Pairs) -> float | None:
    """Agreement beyond chance: 1 is full, 0 is chance's, below 0 is less than that. (Cohen, "A
    Coefficient of Agreement for Nominal Scales", Educational and Psychological Measurement 20,
    1960.)

    Returns:
        None without pairs, and where both have said the same one thing of everything.
    """
    chance = _by_chance(pairs)
    if chance is None:
        return None
    return (_agreeing(pairs) / pairs.total() - chance) / (1 - chance)


def interval(pairs: Pairs) -> Interval | None:
    """95 % bounds of kappa, as Cohen 1960 has them: those of the observed agreement, with what
    chance gives held fixed. The observed agreement's are Wilson's, so that a few pairs that all
    agree do not seem certain; the lower bound is cut at −1."""
    chance = _by_chance(pairs)
    if chance is None:
        return None
    low, high = wilson(_agreeing(pairs), pairs.total())
    return max(-1.0, (low - chance) / (1 - chance)), (high - chance) / (1 - chance)


def _agreeing(pairs: Pairs) -> int:
    return sum(number for (first, second), number in pairs.items() if first == second)


def _by_chance(pairs: Pairs) -> float | None:
    """The share that would agree if the two had nothing to do with each other; None where that is
    all, or there are no pairs."""
    firsts: Counter[int | None] = Counter()
    seconds: Counter[int | None] = Counter()
    for (first, second), number in pairs.items():
        firsts[first] += number
        seconds[second] += number
    size = pairs.total()
    product = sum(number * seconds[what] for what, number in firsts.items())
    return None if product == size * size else product / size**2
