"""What is kept no longer: files of versions that nobody needs, checkpoints and logs of ended runs,
what failed attempts left behind, and given weights and snapshots that nothing names. Rows of
versions and runs stay, and with them the lineage: their snapshots and reports too.

The row says first that a version was pruned, in the transaction that makes sure that nobody needs
it; its files follow. Whoever is killed in between leaves files that the next one removes.
"""

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import islice
from typing import Any, Self

from sqlalchemy import ColumnElement, Connection, exists, select

from toploss import models, shadow
from toploss.artifact import REPORT
from toploss.blobs import Stored
from toploss.database import ALIAS, one_at_a_time
from toploss.errors import Pruned
from toploss.home import Home
from toploss.plan import Plan
from toploss.schema import runs, snapshots, versions
from toploss.settings import Settings
from toploss.states import ACTIVE, ENDED, RunState
from toploss.stores import PART
from toploss.times import DAY_S

LEFT_S = DAY_S  # after which what no row speaks of is nobody's: a run has not published it by then
VERSIONS, RUNS, WEIGHTS = "versions", "runs", "weights"  # the folders that are looked through
UNNAMED = "no run, version or setting names it"
CHECKPOINT, LOG = ".safetensors", "log-"  # how such a file's name ends, and begins


class Kind(StrEnum):
    VERSION = "version"
    CHECKPOINTS = "checkpoints"
    LOGS = "logs"
    WEIGHTS = "weights"
    SNAPSHOT = "snapshot"
    LEFTOVER = "leftover"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How long what is kept, where nothing needs it. Days may have fractions."""

    versions: int  # the newest, whatever their age
    rollbacks: int  # that served before
    days: float  # any version, since it was made; likewise given weights and snapshots
    checkpoint_days: float  # since the run's end
    log_days: float

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(
            versions=settings.keep_versions,
            rollbacks=settings.keep_rollbacks,
            days=settings.keep_days,
            checkpoint_days=settings.keep_checkpoint_days,
            log_days=settings.keep_log_days,
        )


@dataclass(frozen=True, kw_only=True)
class Item:
    """Files that go, or stay, together."""

    kind: Kind
    name: str  # of the version or run; of a leftover, its folder; of weights, their path
    why: str
    files: tuple[Stored, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def as_json(self) -> dict[str, Any]:
        told = asdict(self) | {"kind": self.kind.value, "bytes": self.bytes}
        return told | {"files": len(self.files)}


@dataclass(frozen=True, kw_only=True)
class Found:
    going: tuple[Item, ...]
    staying: tuple[Item, ...]

    def told(self) -> str:
        """What goes, in a line."""
        counted = defaultdict[str, int](int)
        for item in self.going:
            counted[item.kind] += 1
        kinds = ", ".join(f"{number} {kind}" for kind, number in counted.items()) or "nothing"
        return f"{kinds}; {sum(item.bytes for item in self.going):,} bytes"


def look(home: Home, rules: Rules, *, now: float | None = None) -> Found:
    """What would go and what stays, each with the reason. Raises Broken."""
    now = time.time() if now is None else now
    folders = defaultdict[str, list[Stored]](list)
    for file in (*home.blobs.below(VERSIONS), *home.blobs.below(RUNS)):
        folders[file.path.rpartition("/")[0]].append(file)
    with home.db.read() as connection:  # after the files: what has a row by now is no leftover
        needed, paths = _needed(connection, rules, now), _paths(connection, rules, now)
        known = select(versions.c.path, versions.c.name, versions.c.pruned_at)
        published: dict[str, Any] = {row.path: row for row in connection.execute(known)}
        ended = _ended(connection)
    found: list[tuple[Item, bool]] = []
    for folder, files in sorted(folders.items()):
        root, _, run = folder.partition("/")
        if folder in published:
            found += _of_version(published[folder], files, needed)
        elif root == RUNS and run in ended:
            found += _of_run(run, files, ended[run], paths, rules, now)
        elif root == VERSIONS and all(now - file.at > LEFT_S for file in files):
            found.append((_item(Kind.LEFTOVER, folder, "no version is there", files), True))
    found += [*_of_weights(home, rules, now), *_of_snapshots(home, rules, now)]
    return Found(
        going=tuple(item for item, goes in found if goes),
        staying=tuple(item for item, goes in found if not goes),
    )


def prune(home: Home, rules: Rules, *, most: int | None = None, now: float | None = None) -> Found:
    """Remove what is kept no longer; returns what went, and what stays.

    Args:
        most: items at a time.

    Raises:
        Broken: the storage could not be read or written; what is left goes the next time.
    """
    now = time.time() if now is None else now
    found = look(home, rules, now=now)
    gone = []
    for item in islice(found.going, most):
        if item.kind == Kind.VERSION and not _mark(home, item.name, rules, now):
            continue
        if item.kind == Kind.LEFTOVER and _spoken_of(home, item.name):
            continue
        if item.kind == Kind.WEIGHTS and item.name in _named_weights(home, rules, now):
            continue
        if item.kind == Kind.SNAPSHOT:
            if not _forget(home, item, rules, now):
                continue
            gone.append(item)
            continue
        home.blobs.delete(file.path for file in item.files)
        gone.append(item)
    return Found(going=tuple(gone), staying=found.staying)


def _mark(home: Home, name: str, rules: Rules, now: float) -> bool:
    """Put down that a version was pruned, unless somebody needs it by now; whoever promotes it at
    this moment waits, or is waited for."""
    with home.db.write() as connection:
        one_at_a_time(connection, ALIAS)
        try:
            models.whole(connection, name)
        except Pruned:
            return True  # and somebody was killed before its files were gone
        if name in _needed(connection, rules, now):
            return False
        this = versions.c.name == name
        connection.execute(versions.update().where(this).values(pruned_at=now))
        return True


def _spoken_of(home: Home, folder: str) -> bool:
    with home.db.read() as connection:
        row = connection.execute(select(versions.c.name).where(versions.c.path == folder)).first()
    return row is not None


def _needed(connection: Connection, rules: Rules, now: float) -> dict[str, str]:
    """The versions whose files stay, and why: the strongest reason of each."""
    made = select(versions.c.name, versions.c.created_at, versions.c.path, versions.c.pruned_at)
    rows = connection.execute(made.order_by(versions.c.name.desc())).all()
    there = [row for row in rows if row.pruned_at is None]
    why = {}
    for row in there:
        if now - row.created_at < rules.days * DAY_S:
            why[row.name] = f"it is younger than {rules.days:g} days"
    for row in there[: rules.versions]:
        why[row.name] = f"it is one of the {rules.versions} newest"
    paths = _paths(connection, rules, now)
    for row in there:
        for path, run in paths.items():
            if path.startswith(f"{row.path}/"):
                why[row.name] = f"run {run} begins with it"
    alias = models.standing(connection)
    if (candidate := shadow.candidate(connection)) is not None:
        why[candidate] = "it scores beside production"
    for row in reversed(list(islice(models.earlier(connection, alias), rules.rollbacks))):
        why[row.version] = "a roll-back may return to it"
    if alias is not None:
        why[alias.version] = "it is in production"
    return why


def _paths(connection: Connection, rules: Rules, now: float) -> dict[str, str]:
    """What runs that may yet be trained begin with, in the storage, and a run that does: those that
    are active or wait, those that may be resumed, and whatever follows production's run, or that of
    a version that a roll-back may return to (a retraining has its own `start`)."""
    open_ = runs.c.state.in_((*ACTIVE, RunState.QUEUED))
    since = now - rules.checkpoint_days * DAY_S
    resumed = runs.c.state.in_((RunState.FAILED, RunState.CANCELLED)) & (runs.c.ended_at > since)
    wanted = select(runs.c.id, runs.c.plan).where((open_ | resumed) & runs.c.plan.is_not(None))
    found: dict[str, str] = {}
    for row in connection.execute(wanted):
        plan = Plan.from_json(row.plan)
        found |= {path: row.id for path in (plan.start, plan.weights) if path}
    alias = models.standing(connection)
    names = [row.version for row in islice(models.earlier(connection, alias), rules.rollbacks)]
    names += [alias.version] if alias else []
    of_these = select(runs.c.id, runs.c.plan).join(versions, versions.c.run_id == runs.c.id)
    for row in connection.execute(of_these.where(versions.c.name.in_(names))):
        found[Plan.from_json(row.plan).weights] = row.id
    return found


def _ended(connection: Connection) -> dict[str, float]:
    """When each run that has ended did."""
    query = select(runs.c.id, runs.c.ended_at).where(runs.c.state.in_(ENDED))
    return {row.id: row.ended_at or 0.0 for row in connection.execute(query)}


def _of_version(
    row: Any, files: list[Stored], needed: dict[str, str]
) -> Iterable[tuple[Item, bool]]:
    """All but its report, and whether that goes."""
    rest = [file for file in files if not file.path.endswith(f"/{REPORT}")]
    again = "it was pruned, and some of its files are left"
    why = needed.get(row.name) or ("nothing needs it" if row.pruned_at is None else again)
    if rest:
        yield _item(Kind.VERSION, row.name, why, rest), row.name not in needed


def _of_run(
    run: str,
    files: list[Stored],
    ended_at: float,
    paths: dict[str, str],
    rules: Rules,
    now: float,
) -> Iterable[tuple[Item, bool]]:
    """Its checkpoints and logs, and whether they go."""
    halves = [file for file in files if file.path.endswith(PART) and now - file.at > LEFT_S]
    if halves:
        yield (
            _item(Kind.LEFTOVER, f"{RUNS}/{run}", "halves of files that a kill left", halves),
            True,
        )
    points = [file for file in files if file.path.endswith(CHECKPOINT)]
    logs = [file for file in files if file.path.rpartition("/")[2].startswith(LOG)]
    logs = [file for file in logs if file not in halves]
    taken = next((paths[file.path] for file in points if file.path in paths), None)
    for kind, these, days, user in (
        (Kind.CHECKPOINTS, points, rules.checkpoint_days, taken),
        (Kind.LOGS, logs, rules.log_days, None),
    ):
        goes = user is None and now - ended_at >= days * DAY_S
        why = f"the run ended {(now - ended_at) / DAY_S:.1f} days ago, of {days:g} that they stay"
        if these:
            yield _item(kind, run, f"run {user} begins with them" if user else why, these), goes


def _of_weights(home: Home, rules: Rules, now: float) -> Iterable[tuple[Item, bool]]:
    """Files of pretrained weights that people gave, and whether they go. What was put there just
    now is about to be used."""
    files = home.blobs.below(WEIGHTS)
    named = _named_weights(home, rules, now)  # after the files
    for file in files:
        user = named.get(file.path)
        young = now - file.at < max(LEFT_S, rules.days * DAY_S)
        why = user or (f"they are younger than {max(1, rules.days):g} days" if young else UNNAMED)
        yield _item(Kind.WEIGHTS, file.path, why, [file]), user is None and not young


def _named_weights(home: Home, rules: Rules, now: float) -> dict[str, str]:
    """What is named as weights, by path, and who names it: a setting, or a run that may yet be
    trained, resumed, gone on from or replayed. One may not whose version and checkpoints went."""
    replayed = select(versions.c.run_id).where(versions.c.pruned_at.is_(None))
    wanted = (runs.c.state != RunState.SUCCEEDED) | runs.c.id.in_(replayed)
    wanted |= runs.c.ended_at > now - rules.checkpoint_days * DAY_S
    query = select(runs.c.id, runs.c.plan).where(wanted & runs.c.plan.is_not(None))
    named: dict[str, str] = {}
    with home.db.read() as connection:
        for row in connection.execute(query.order_by(runs.c.id)):
            plan = Plan.from_json(row.plan)
            named |= {
                path: f"run {row.id} needs them" for path in (plan.weights, plan.start) if path
            }
    return named | {home.settings.train_weights: "TOPLOSS_TRAIN_WEIGHTS names them"}


def _of_snapshots(home: Home, rules: Rules, now: float) -> Iterable[tuple[Item, bool]]:
    """Snapshots that no run is of: of sweeps, or of runs that were asked for and never came. The
    others are lineage, and not even looked at."""
    with home.db.read() as connection:
        rows = connection.execute(select(snapshots).where(_of_no_run(connection))).all()
    for row in rows:
        size = home.blobs.size(row.path) if home.blobs.exists(row.path) else 0
        file = Stored(path=row.path, bytes=size, at=row.at)
        young = now - row.at < max(LEFT_S, rules.days * DAY_S)
        why = f"it is younger than {max(1, rules.days):g} days" if young else UNNAMED
        yield _item(Kind.SNAPSHOT, row.fingerprint, why, [file]), not young


def _of_no_run(connection: Connection) -> ColumnElement[bool]:
    """The snapshots that no run and no version has."""
    of_version = versions.c.manifest["snapshot"]["fingerprint"].as_string()
    told = {name for name in connection.execute(select(of_version)).scalars() if name}
    mine = snapshots.c.fingerprint
    return ~exists().where(runs.c.fingerprint == mine) & mine.not_in(told)


def _forget(home: Home, item: Item, rules: Rules, now: float) -> bool:
    """Remove a snapshot, row and file, unless it was frozen again or a run has it by now. Both in
    one transaction: whoever freezes the same data waits for it, and writes them anew."""
    with home.db.write() as connection:
        this = (snapshots.c.fingerprint == item.name) & _of_no_run(connection)
        this &= snapshots.c.at <= now - max(LEFT_S, rules.days * DAY_S)
        if not connection.execute(snapshots.delete().where(this)).rowcount:
            return False
        home.blobs.delete(file.path for file in item.files)
    return True


def _item(kind: Kind, name: str, why: str, files: list[Stored]) -> Item:
    return Item(kind=kind, name=name, why=why, files=tuple(files))
