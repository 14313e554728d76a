"""Where an answer comes from, and where a sample went: from a version to its run, snapshot and
settings, and to the networks that it began with; from a sample to the versions that learned from
it.

A version has learned from the training images of its own snapshot and from those of every network
that it went on from: shrunk and perturbed as it may be, it is made of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, select

from toploss import difference, members, models, records, samples
from toploss.errors import NotFound
from toploss.home import Home
from toploss.plan import origins
from toploss.schema import alias_moves, erasures, runs, snapshots, versions
from toploss.schema import samples as sample_table
from toploss.splits import Split

AT_ONCE = 50  # versions read at a time
LOOKED_AT = 500  # versions for one page, whether a sample is in them or not
# A sample is in no snapshot from before it came; but two machines' clocks may differ by so much.
CLOCKS_S = 3600.0


class Part(StrEnum):
    """What a sample was to a version."""

    LEARNED = "learned"
    HELD_OUT = "held-out"  # it chose the stopping point (valid) or was judged by it (test)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A network that a training went on from."""

    run: str | None  # None: its run is not known any more
    version: str | None  # None: the run published none, or it is gone
    fingerprint: str | None  # of its snapshot
    how: str  # of `plan.origins`
    of: str  # the run that went on from it

    @property
    def network(self) -> str:
        """Its run, or the version whose run is not known any more."""
        return self.run or f"version {self.version}"

    def as_json(self) -> dict[str, Any]:
        shown = {"version": self.version, "run": self.run, "fingerprint": self.fingerprint}
        return shown | {"how": self.how, "of": self.of}


@dataclass(frozen=True, kw_only=True)
class Use:
    """What a version had of a sample."""

    version: str
    run: str
    published_at: float
    part: Part
    label: str  # in the snapshot, as the class was called then
    split: str
    through: str | None  # the run of an earlier network that learned from it; None: its own

    def as_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "run": self.run,
            "published_at": self.published_at,
            "part": self.part.value,
            "label": self.label,
            "split": self.split,
            "through": self.through,
        }


def of(home: Home, name: str) -> dict[str, Any]:
    """Everything that a version, or `production`, came from, and what became of it.

    Raises:
        NotFound. Broken: the snapshot's file is gone.
    """
    with home.db.read() as connection:
        version = models.found(connection, name)
        run = records.told(connection, records.find(connection, version.run))
        moves = connection.execute(
            select(alias_moves)
            .where(alias_moves.c.version == version.name)
            .order_by(alias_moves.c.generation)
        ).all()
        began = tuple(_origins(connection, version.run, run["settings"] or {}))
    manifest = version.manifest
    return {
        "version": version.name,
        "published_at": version.created_at,
        "manifest_sha256": version.manifest_sha256,
        "run": {key: run[key] for key in _RUN},
        "triggers": run["reasons"],
        "settings": manifest.get("settings") or run["settings"],
        **{key: manifest.get(key) for key in ("code", "libraries", "seed", "threads", "device")},
        "labels": manifest["labels"],
        "metrics": manifest.get("metrics"),
        "snapshot": _snapshot(home, manifest.get("snapshot")),
        "began_with": [origin.as_json() for origin in began],
        "gate": run["gate"] or manifest.get("gate"),
        "moves": [
            {key: getattr(move, key) for key in ("generation", "kind", "reason", "actor", "at")}
            for move in moves
        ],
    }


_RUN = ("id", "state", "attempt", "created_at", "started_at", "ended_at", "diagnosis")


def began_with(home: Home, run: str) -> list[Origin]:
    """The networks that a run went on from, and those that they went on from, nearest first: what
    it makes is made of all of them."""
    with home.db.read() as connection:
        plan = connection.execute(select(runs.c.plan).where(runs.c.id == run)).scalar()
        return list(_origins(connection, run, plan or {}))


def change(home: Home, name: str) -> dict[str, Any] | None:
    """In numbers, what a version's snapshot has that the version before it had not. It reads both
    snapshots. None: there was none before, or one of the two is not known any more.

    Raises:
        NotFound. Broken.
    """
    with home.db.read() as connection:
        version = models.found(connection, name)
        earlier = (
            select(versions.c.name, runs.c.fingerprint)
            .join(runs, runs.c.id == versions.c.run_id)
            .where(versions.c.name < version.name, runs.c.fingerprint.is_not(None))
            .order_by(versions.c.name.desc())
        )
        before = connection.execute(earlier.limit(1)).first()
        now = connection.execute(
            select(runs.c.fingerprint).where(runs.c.id == version.run)
        ).scalar_one()
    if before is None or now is None:
        return None
    found = difference.between(home, before.fingerprint, now)
    kinds = ("added", "removed", "relabelled", "moved", "renamed")
    numbers = {kind: len(getattr(found, kind)) for kind in kinds}
    return {"version": before.name, "fingerprint": before.fingerprint, **numbers}


def sample_rows(
    home: Home, name: str, *, after: str | None = None, limit: int
) -> list[members.Row]:
    """The samples of a version's snapshot, train, valid and test, in the order of their ids.

    Raises:
        NotFound. Broken.
    """
    return members.listed(home, _file(home, name).path, after=after, limit=limit)


def every_row(home: Home, name: str) -> Iterator[members.Row]:
    """All of them. Raises NotFound; Broken, when the file is damaged at its end."""
    file = _file(home, name)
    return members.scan(home, file.path, file.fingerprint)


def uses(
    home: Home, sample_id: str, *, after: str | None = None, limit: int
) -> tuple[list[Use], str | None]:
    """The versions that had a sample, newest first, those older than `after`; and the version that
    the next page starts after, None: that was all. A page may have fewer than it could, or none,
    where many versions never saw the sample.

    Raises:
        NotFound. Broken: a snapshot's file is gone.
    """
    found: list[Use] = []
    with home.db.read() as connection:
        came = samples.find(connection, sample_id).added_at
        history = _History(home=home, connection=connection, sample=sample_id, came=came)
        for _ in range(LOOKED_AT // AT_ONCE):
            rows = _versions(connection, after)
            for row in rows:
                after = row.name
                use = history.use(row)
                found += [use] if use else []
                if len(found) == limit:
                    return found, after
            if len(rows) < AT_ONCE:
                return found, None
    return found, after


def _versions(connection: Connection, after: str | None) -> list[Row[Any]]:
    query = (
        select(versions.c.name, versions.c.run_id, versions.c.created_at)
        .order_by(versions.c.name.desc())
        .limit(AT_ONCE)
    )
    if after is not None:
        query = query.where(versions.c.name < after)
    return list(connection.execute(query))


@dataclass
class _History:
    """What the runs had of one sample: each snapshot is looked into once."""

    home: Home
    connection: Connection
    sample: str
    came: float  # when
    _rows: dict[str, members.Row | None] = field(default_factory=dict)  # by fingerprint
    _from: dict[str, list[Origin]] = field(default_factory=dict)  # by run

    def use(self, version: Row[Any]) -> Use | None:
        own = self._row_of(self._fingerprint(version.run_id))
        row, through = own, None
        if own is None or own.split != Split.TRAIN:
            earlier = self._earlier(version.run_id)
            if earlier is not None:
                row, through = earlier
        if row is None:
            return None
        return Use(
            version=version.name,
            run=version.run_id,
            published_at=version.created_at,
            part=Part.LEARNED if row.split == Split.TRAIN else Part.HELD_OUT,
            label=row.label,
            split=row.split,
            through=through,
        )

    def _earlier(self, run: str) -> tuple[members.Row, str] | None:
        """The sample in the nearest of the networks that this run's went on from and that learned
        from it, and that network's run."""
        seen, todo = {run}, [run]
        while todo:
            for origin in self._origins(todo.pop(0)):
                if origin.run is None or origin.run in seen:
                    continue
                row = self._row_of(origin.fingerprint)
                if row is not None and row.split == Split.TRAIN:
                    return row, origin.run
                seen.add(origin.run)
                todo.append(origin.run)
        return None

    def _origins(self, run: str) -> list[Origin]:
        if run not in self._from:
            plan = self.connection.execute(select(runs.c.plan).where(runs.c.id == run)).scalar()
            self._from[run] = [
                _origin(self.connection, run, how, kind, name)
                for how, kind, name in origins(plan or {})
            ]
        return self._from[run]

    def _fingerprint(self, run: str) -> str | None:
        query = select(runs.c.fingerprint).where(runs.c.id == run)
        return self.connection.execute(query).scalar()

    def _row_of(self, fingerprint: str | None) -> members.Row | None:
        if fingerprint is None:
            return None
        if fingerprint not in self._rows:
            query = select(snapshots).where(snapshots.c.fingerprint == fingerprint)
            kept = self.connection.execute(query).first()
            there = kept is not None and self.came <= kept.at + CLOCKS_S
            self._rows[fingerprint] = (
                members.find(self.home, kept.path, self.sample) if kept and there else None
            )
        return self._rows[fingerprint]


def _origins(connection: Connection, run: str, settings: dict[str, Any]) -> Iterator[Origin]:
    """The networks that a run went on from, and those that they went on from, nearest first."""
    seen, todo = {run}, [(run, settings)]
    while todo:
        of_run, plan = todo.pop(0)
        for how, kind, name in origins(plan):
            origin = _origin(connection, of_run, how, kind, name)
            yield origin
            if origin.run is not None and origin.run not in seen:
                seen.add(origin.run)
                earlier = connection.execute(select(runs.c.plan).where(runs.c.id == origin.run))
                todo.append((origin.run, earlier.scalar() or {}))


def _origin(connection: Connection, of_run: str, how: str, kind: str, name: str) -> Origin:
    run: str | None = name
    if kind == "versions":
        named = select(versions.c.run_id).where(versions.c.name == name)
        run = connection.execute(named).scalar()
    row = connection.execute(select(runs).where(runs.c.id == run)).first()
    version = name if kind == "versions" else row.version if row else None
    return Origin(
        run=row.id if row else None,
        version=version,
        fingerprint=row.fingerprint if row else None,
        how=how,
        of=of_run,
    )


def _snapshot(home: Home, told: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a manifest says of its snapshot, when it was frozen, and how many of its samples were
    erased since."""
    if told is None:
        return None
    with home.db.read() as connection:
        query = select(snapshots).where(snapshots.c.fingerprint == told["fingerprint"])
        kept = connection.execute(query).first()
        if kept is None:
            return told | {"frozen_at": None, "erased": None}
        gone = select(sample_table.c.id).join(erasures, erasures.c.sample_seq == sample_table.c.seq)
        gone = gone.where(sample_table.c.added_at <= kept.at + CLOCKS_S)
        ids = set(connection.execute(gone).scalars())
    return told | {"frozen_at": kept.at, "erased": len(members.among(home, kept.path, ids))}


def _file(home: Home, name: str) -> Row[Any]:
    with home.db.read() as connection:
        version = models.found(connection, name)
        row: Row[Any] | None = connection.execute(
            select(snapshots)
            .join(runs, runs.c.fingerprint == snapshots.c.fingerprint)
            .where(runs.c.id == version.run)
        ).first()
    if row is None:
        raise NotFound(
            f"what version {version.name} was trained on is not known; "
            "`toploss models list` shows the versions"
        )
    return row
