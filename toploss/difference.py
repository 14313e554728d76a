"""What lies between two snapshots: samples that came, went, or changed their label."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from toploss import snapshots
from toploss.errors import NotFound
from toploss.home import Home
from toploss.schema import runs, versions
from toploss.schema import snapshots as table
from toploss.snapshots import Snapshot

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
    return _difference(*(snapshots.load(home, fingerprint) for fingerprint in found))


def _difference(a: Snapshot, b: Snapshot) -> Difference:
    before, after = ({row.id: row for row in snapshot.rows} for snapshot in (a, b))
    both = sorted(before.keys() & after.keys())
    was, now = (dict(zip(s.labels, s.class_ids, strict=True)) for s in (a, b))
    names = {class_id: label for label, class_id in now.items()}
    renamed = {
        label: names[class_id]
        for label, class_id in was.items()
        if class_id in names and names[class_id] != label
    }
    counts = [_counts(a, renamed), _counts(b, {})]
    return Difference(
        a=a.fingerprint,
        b=b.fingerprint,
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        relabelled=tuple(
            Change(id=one, before=before[one].label, after=after[one].label)
            for one in both
            if was[before[one].label] != now[after[one].label]
        ),
        moved=tuple(
            Change(id=one, before=before[one].split, after=after[one].split)
            for one in both
            if before[one].split != after[one].split
        ),
        renamed=tuple(sorted(renamed.items())),
        classes={
            label: (counts[0].get(label, 0), counts[1].get(label, 0))
            for label in sorted(counts[0].keys() | counts[1].keys())
        },
    )


def _counts(snapshot: Snapshot, renamed: dict[str, str]) -> dict[str, int]:
    """Label, as it is called in b, → samples."""
    counts: dict[str, int] = {}
    for row in snapshot.rows:
        label = renamed.get(row.label, row.label)
        counts[label] = counts.get(label, 0) + 1
    return counts


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
