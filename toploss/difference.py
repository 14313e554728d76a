"""What lies between two snapshots: samples that came, went, or changed their label."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy import Row as Stored

from toploss import members, snapshots
from toploss.errors import NotFound
from toploss.home import Home
from toploss.members import Row
from toploss.schema import runs, versions
from toploss.schema import snapshots as table

SHORTEST_PREFIX = 6  # characters of a fingerprint


@dataclass(frozen=True, kw_only=True)
class Change:
    """A sample that both snapshots have, and not alike."""

    id: str
    before: str
    after: str

    def as_json(self) -> dict[str, str]:
        return {"id": self.id, "from": self.before, "to": self.after}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """From snapshot a to snapshot b."""

    a: str  # fingerprints
    b: str
    added: tuple[str, ...]  # ids
    removed: tuple[str, ...]
    relabelled: tuple[Change, ...]
    moved: tuple[Change, ...]  # from split to split: there must be none
    renamed: tuple[tuple[str, str], ...]  # classes; their samples are not relabelled by it
    classes: dict[str, tuple[int, int]]  # label → samples in a, in b

    def as_json(self) -> dict[str, Any]:
        return {
            "a": self.a,
            "b": self.b,
            "added": list(self.added),
            "removed": list(self.removed),
            "relabelled": [change.as_json() for change in self.relabelled],
            "moved": [change.as_json() for change in self.moved],
            "renamed": [{"from": old, "to": new} for old, new in self.renamed],
            "classes": {label: {"a": a, "b": b} for label, (a, b) in self.classes.items()},
        }


def between(home: Home, a: str, b: str) -> Difference:
    """What changed from a to b, each a snapshot's fingerprint or its beginning, a run or a version.

    Raises:
        NotFound: no such thing, or several whose fingerprints begin so.
        Broken: a snapshot's file is gone or damaged.
    """
    with home.db.read() as connection:
        found = [_fingerprint(connection, name) for name in (a, b)]
    return _difference(home, *(snapshots.find(home, fingerprint) for fingerprint in found))


def _difference(home: Home, a: Stored[Any], b: Stored[Any]) -> Difference:
    """Both are read once, side by side."""
    was, now = ({entry["name"]: entry["id"] for entry in s.classes} for s in (a, b))
    names = {class_id: label for label, class_id in now.items()}
    renamed = {
        label: names[class_id]
        for label, class_id in was.items()
        if class_id in names and names[class_id] != label
    }
    counts: tuple[Counter[str], Counter[str]] = Counter(), Counter()
    added, removed, relabelled, moved = [], [], [], []
    for before, after in _pairs(*(members.scan(home, s.path, s.fingerprint) for s in (a, b))):
        if before is not None:
            counts[0][renamed.get(before.label, before.label)] += 1
        if after is not None:
            counts[1][after.label] += 1
        if before is None:
            assert after is not None
            added.append(after.id)
        elif after is None:
            removed.append(before.id)
        else:
            if was[before.label] != now[after.label]:
                relabelled.append(Change(id=after.id, before=before.label, after=after.label))
            if before.split != after.split:
                moved.append(Change(id=after.id, before=before.split, after=after.split))
    return Difference(
        a=a.fingerprint,
        b=b.fingerprint,
        added=tuple(added),
        removed=tuple(removed),
        relabelled=tuple(relabelled),
        moved=tuple(moved),
        renamed=tuple(sorted(renamed.items())),
        classes={
            label: (counts[0][label], counts[1][label])
            for label in sorted(counts[0].keys() | counts[1].keys())
        },
    )


def _pairs(a: Iterator[Row], b: Iterator[Row]) -> Iterator[tuple[Row | None, Row | None]]:
    """The rows of both, by their ids: of two that are the same sample, both; else one alone."""
    before, after = next(a, None), next(b, None)
    while before is not None or after is not None:
        if after is None or (before is not None and before.id < after.id):
            yield before, None
            before = next(a, None)
        elif before is None or after.id < before.id:
            yield None, after
            after = next(b, None)
        else:
            yield before, after
            before, after = next(a, None), next(b, None)


def _fingerprint(connection: Connection, name: str) -> str:
    """The fingerprint that a name stands for."""
    run = connection.execute(select(versions.c.run_id).where(versions.c.name == name)).scalar()
    row = connection.execute(select(runs.c.fingerprint).where(runs.c.id == (run or name))).first()
    if row is not None:
        if row.fingerprint is None:
            raise NotFound(f"run {name!r} has no snapshot yet; name one that has begun to train")
        return str(row.fingerprint)
    found = []
    if len(name) >= SHORTEST_PREFIX:
        begins = table.c.fingerprint.startswith(name.lower(), autoescape=True)
        found = list(connection.execute(select(table.c.fingerprint).where(begins)).scalars())
    if not found:
        raise NotFound(
            f"there is no snapshot, run or version {name!r}; `toploss runs list` and "
            f"`toploss models list` name some; of a fingerprint, give {SHORTEST_PREFIX} characters "
            "or more"
        )
    if len(found) > 1:
        raise NotFound(f"{len(found)} snapshots begin with {name!r}; give more of the fingerprint")
    return str(found[0])
