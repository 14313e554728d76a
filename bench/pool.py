"""A pool of samples without images, of any size, and what a version says of it: written as rows."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from sqlalchemy import func, select, text

from toploss import classes, drafts, likeness, models, schema, scoring
from toploss.home import Home
from toploss.likeness import Likeness
from toploss.orders import Neighbours
from toploss.scoring import Opinion

CLASSES = 20
WRONG = 0.05  # of the labels
AT_ONCE = 10_000  # rows of one transaction
SPLITS = ("train", "valid", "test")


def make_version(home: Home) -> str:
    """A version of the classes, which is production."""
    name, run = "0" * 26, "1" * 26
    with home.db.write() as connection:
        ids = [classes.ensure(connection, f"class-{n}", "bench") for n in range(CLASSES)]
        now = time.time()
        connection.execute(
            schema.runs.insert().values(
                id=run,
                state="succeeded",
                foreground=True,
                promote=True,
                fence=1,
                cancel_asked=False,
                history=[],
                version=name,
                created_at=now,
                ended_at=now,
            )
        )
        connection.execute(
            schema.versions.insert().values(
                name=name,
                run_id=run,
                path=f"versions/{name}",
                manifest_sha256="0" * 64,
                manifest={"labels": [f"class-{n}" for n in range(CLASSES)]},
                class_ids=ids,
                created_at=now,
            )
        )
    models.promote(home, name, reason="to be measured", actor="bench")
    return name


def grow(home: Home, chance: np.random.Generator, upto: int) -> None:
    """More of them, many at a time."""
    with home.db.read() as connection:
        there = connection.execute(select(func.max(schema.samples.c.seq))).scalar() or 0
        class_ids = list(classes.load(connection).ids.values())
    for start in range(there, upto, AT_ONCE):
        number = min(AT_ONCE, upto - start)
        rows = list(_rows(chance, class_ids, start, number))
        with home.db.write() as connection:
            for table in ("split_ledger", "samples", "likenesses", "sample_events"):
                connection.execute(schema.metadata.tables[table].insert(), [r[table] for r in rows])
            if connection.dialect.name == "postgresql":  # it counts only what it numbered itself
                told = "SELECT setval(pg_get_serial_sequence('samples', 'seq'), :newest)"
                connection.execute(text(told), {"newest": start + number})


def _rows(
    chance: np.random.Generator, class_ids: list[int], start: int, number: int
) -> Iterator[dict[str, dict[str, Any]]]:
    splits = chance.choice(3, number, p=[0.7, 0.15, 0.15])
    labels = chance.integers(0, CLASSES, number)
    now = time.time()
    for row in range(number):
        sample, split = chance.bytes(32).hex(), SPLITS[splits[row]]
        class_id = class_ids[labels[row]]
        like = some_likeness(chance)
        assert like.bands is not None
        yield {
            "split_ledger": {"group_id": sample, "split": split, "why": "hash", "at": now},
            "samples": {
                "seq": start + row + 1,
                "id": sample,
                "class_id": class_id,
                "group_id": sample,
                "split": split,
                "state": "active",
                "revision": 1,
                "settled_class_id": class_id,
                "changed": False,
                "format": "JPEG",
                "width": 512,
                "height": 384,
                "bytes": 40_000,
                "name": f"photograph-{chance.integers(10**6)}.jpg",
                "added_at": now,
            },
            "likenesses": {
                "sample_seq": start + row + 1,
                "points": like.points,
                **{f"band_{n}": band for n, band in enumerate(like.bands)},
            },
            "sample_events": {
                "id": sample[:26],
                "sample_id": sample,
                "kind": "add",
                "class_id": class_id,
                "before": {},
                "revision": 1,
                "actor": "bench",
                "at": now,
            },
        }


def score(home: Home, version: str, chance: np.random.Generator) -> int:
    """What came since the last step, by a model that is wrong now and then."""
    with home.db.read() as connection:
        row = scoring.scoring_of(connection, version)
        query = select(schema.samples.c.id, schema.samples.c.class_id, schema.samples.c.seq)
        after = schema.samples.c.seq > (row.newest if row else 0)
        found = connection.execute(query.where(after).order_by(schema.samples.c.seq)).all()
        ids = classes.load(connection).ids
    place = {class_id: n for n, class_id in enumerate(ids[f"class-{n}"] for n in range(CLASSES))}
    truth = np.array([place[one.class_id] for one in found])
    wrong = chance.random(len(found)) < WRONG
    truth[wrong] = chance.integers(0, CLASSES, int(wrong.sum()))
    logits = chance.normal(0, 1, (len(found), CLASSES)).astype(np.float32)
    logits[np.arange(len(found)), truth] += chance.normal(6, 2, len(found))
    shares = np.exp(logits)
    shares /= shares.sum(axis=1, keepdims=True)
    near = chance.integers(0, len(found), (len(found), 20))
    cosines = chance.random((len(found), 20), np.float32)
    opinion = Opinion(
        ids=[one.id for one in found],
        probabilities=shares,
        neighbours=Neighbours(places=near, cosines=cosines),
        known=[one.id for one in found],
    )
    if row is None:
        drafts.write(home, version, opinion, opinion.ids)
    with home.db.write() as connection:
        if row is None:
            drafts.publish(connection, version)
        else:
            scoring.add(connection, row, opinion, up_to=found[-1].seq)
    return len(found)


def some_likeness(chance: np.random.Generator) -> Likeness:
    bits = int.from_bytes(chance.bytes(8))
    return Likeness(bands=likeness.split(bits), points=chance.bytes(16 * 16 * 3))
