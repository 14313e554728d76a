"""A candidate beside production: which one, and how far the two agreed on what was sent."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, select

from toploss import classes, models
from toploss.database import ALIAS, one_at_a_time
from toploss.errors import NotFound, Refused
from toploss.home import Home
from toploss.schema import alias_moves, shadow_answers, shadow_moves, versions

MOST_PAIRS = 20  # of what the two disagreed about, that are told

Pair = tuple[str, str]  # label of the version that answered, label of the candidate


@dataclass(frozen=True, kw_only=True)
class ClassAgreement:
    """Of the images that production called one class."""

    label: str  # today's name
    images: int
    agreed: int
    agreement: float  # share, 0 to 1


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    live: str  # what production said
    candidate: str
    images: int


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Of a candidate with one version that answered; neither need be right."""

    live: str  # the version that answered
    images: int  # that both have scored
    agreed: int
    agreement: float  # share, 0 to 1
    classes: tuple[ClassAgreement, ...]  # the least agreement first
    disagreements: tuple[Disagreement, ...]  # the most frequent first

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def candidate(connection: Connection) -> str | None:
    """The version that scores beside production, until it is promoted."""
    row = connection.execute(
        select(shadow_moves).order_by(shadow_moves.c.seq.desc()).limit(1)
    ).first()
    if row is None or row.version is None:
        return None
    promoted = select(alias_moves.c.generation).where(
        (alias_moves.c.version == row.version) & (alias_moves.c.generation > row.generation)
    )
    return None if connection.execute(promoted.limit(1)).first() else str(row.version)


def begin(home: Home, version: str, *, reason: str, actor: str) -> None:
    """This version scores from now on, and no other.

    Raises:
        NotFound: no such version. Refused: it is in production, or nothing is. Pruned.
    """
    with home.db.write() as connection:
        one_at_a_time(connection, ALIAS)
        name = models.whole(connection, version).name
        alias = models.standing(connection)
        if alias is None:
            raise Refused(
                f"version {name} has nothing to stand beside: none has been promoted yet; "
                f"promote it with `toploss models promote {name}`"
            )
        if alias.version == name:
            raise Refused(f"version {name} is in production; name another one")
        if candidate(connection) != name:
            _move(connection, name, alias.generation, reason, actor)


def end(home: Home, version: str, *, reason: str, actor: str) -> None:
    """This version scores no more; what it agreed to is kept. Raises NotFound: it does not."""
    with home.db.write() as connection:
        name = models.found(connection, version).name
        alias = models.standing(connection)
        if alias is None or candidate(connection) != name:
            raise NotFound(f"version {name} does not score beside production; nothing to end")
        _move(connection, None, alias.generation, reason, actor)


def add(home: Home, candidate: str, live: str, answers: Mapping[Pair, int]) -> None:
    """Count images by what the two versions said of them; counts of all servers add up. When it
    raises, none is counted."""
    with home.db.write() as connection:
        ours, theirs = _class_ids(connection, candidate), _class_ids(connection, live)
        for (said, whispered), images in answers.items():
            key = (
                (shadow_answers.c.candidate == candidate)
                & (shadow_answers.c.live == live)
                & (shadow_answers.c.live_class_id == theirs[said])
                & (shadow_answers.c.candidate_class_id == ours[whispered])
            )
            grown = (
                shadow_answers.update().where(key).values(images=shadow_answers.c.images + images)
            )
            if not connection.execute(grown).rowcount:
                connection.execute(
                    shadow_answers.insert().values(
                        candidate=candidate,
                        live=live,
                        live_class_id=theirs[said],
                        candidate_class_id=ours[whispered],
                        images=images,
                    )
                )


def agreements(connection: Connection, candidate: str) -> list[Agreement]:
    """With each version that it scored beside, the latest first. Classes go by today's names, so
    what was merged since agrees."""
    names = classes.load(connection).names
    counts: dict[str, Counter[Pair]] = {}
    for row in connection.execute(
        select(shadow_answers).where(shadow_answers.c.candidate == candidate)
    ):
        pair = names[row.live_class_id], names[row.candidate_class_id]
        counts.setdefault(row.live, Counter())[pair] += row.images
    return [_agreement(live, counts[live]) for live in sorted(counts, reverse=True)]


def _agreement(live: str, counts: Counter[Pair]) -> Agreement:
    images, agreed = Counter[str](), Counter[str]()
    for (said, whispered), number in counts.items():
        images[said] += number
        agreed[said] += number if said == whispered else 0
    by_class = [
        ClassAgreement(label=label, images=n, agreed=agreed[label], agreement=agreed[label] / n)
        for label, n in images.items()
    ]
    apart = [
        Disagreement(live=said, candidate=whispered, images=number)
        for (said, whispered), number in counts.most_common()
        if said != whispered
    ]
    return Agreement(
        live=live,
        images=images.total(),
        agreed=agreed.total(),
        agreement=agreed.total() / images.total(),
        classes=tuple(sorted(by_class, key=lambda row: (row.agreement, row.label))),
        disagreements=tuple(apart[:MOST_PAIRS]),
    )


def _move(
    connection: Connection, version: str | None, generation: int, reason: str, actor: str
) -> None:
    connection.execute(
        shadow_moves.insert().values(
            version=version, generation=generation, reason=reason, actor=actor, at=time.time()
        )
    )


def _class_ids(connection: Connection, version: str) -> dict[str, int]:
    """Of the labels that it was published with."""
    row = connection.execute(
        select(versions.c.class_ids, versions.c.manifest).where(versions.c.name == version)
    ).one()
    return dict(zip(row.manifest["labels"], row.class_ids, strict=True))
