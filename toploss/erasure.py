"""A sample that has to be forgotten: its bytes go, and all that was made of them. A tombstone
stays, so that lineage still adds up: the sample's row with its label and split, its events, who had
it erased, and why.

First the database says so, in one transaction, and from then on nobody is shown it and nobody
learns from it. The files follow. What fails in between is done by the next one who asks, or by the
dispatcher, so that an erasure that was begun ends. What a network has learned from the image stays
in its weights: train anew, and prune the versions that learned from it.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, select

from toploss import artifact, captures, events, holdout, models, samples, scoring, snapshots
from toploss.artifact import FEATURES, GOLDEN, MANIFEST, REPORT
from toploss.blobs import image_path, sha256
from toploss.database import one_at_a_time
from toploss.errors import BadData, BadInput, Broken, NotFound
from toploss.events import Kind, Standing, State
from toploss.home import Home
from toploss.ids import new_id
from toploss.models import Version
from toploss.novelty import packed
from toploss.schema import (
    claims,
    erasures,
    holdout_answers,
    likenesses,
    runs,
    sample_events,
    scores_of_0_1,
)
from toploss.schema import samples as table
from toploss.schema import versions as version_table
from toploss.snapshots import Snapshot
from toploss.splits import Split
from toploss.states import ACTIVE

LONGEST_REASON = 1000  # characters
HOLDING = (
    FEATURES,
    GOLDEN,
    REPORT,
)  # how the files of a version end that hold something of samples
HALF_S = 3600.0  # after which half an image that a kill left is nobody's


@dataclass(frozen=True, kw_only=True)
class Tombstone:
    """What is left of a sample that was erased."""

    id: str
    reason: str
    actor: str
    at: float  # seconds since 1970
    ended_at: float | None  # None: something made of it may be left, and is looked for again
    doubt: str | None = None  # of an erasure just made: what the storage could not make sure of


def erase(home: Home, sample_id: str, *, reason: str, actor: str) -> Tombstone:
    """Erase a sample for good: its image, its likeness, scores and captures, its rows in the
    features and golden images of every version, and its picture in every report. To do it again
    changes nothing but what was left over.

    Raises:
        NotFound. BadInput: the reason is empty or too long.
        Broken: the storage could not be read or written. The sample is erased nevertheless; what is
            left of it goes the next time.
    """
    with home.db.write() as connection:
        one_at_a_time(connection)
        row = samples.find(connection, sample_id)
        if row.state != State.ERASED:
            _bury(connection, row, checked(reason), actor)
    doubt = _sweep(home, sample_id)
    found = of(home, sample_id)
    assert found is not None, "it was erased just now"
    return replace(found, doubt=doubt)


def checked(reason: str) -> str:
    """Raises BadInput."""
    reason = reason.strip()
    if not 0 < len(reason) <= LONGEST_REASON:
        raise BadInput(
            f"an erasure needs a reason of 1 to {LONGEST_REASON} characters, {len(reason)} were "
            "sent; say why the sample has to go"
        )
    return reason


def of(home: Home, sample_id: str) -> Tombstone | None:
    """A sample's tombstone; None: it was not erased."""
    with home.db.read() as connection:
        query = select(erasures).join(table, table.c.seq == erasures.c.sample_seq)
        row = connection.execute(query.where(table.c.id == sample_id)).first()
    if row is None:
        return None
    return Tombstone(
        id=sample_id, reason=row.reason, actor=row.actor, at=row.at, ended_at=row.ended_at
    )


def finish(home: Home) -> int:
    """Do what is left of erasures that were begun, once no run is active; returns how many there
    were. Several processes may do it at once. Raises Broken."""
    with home.db.read() as connection:
        if _trains(connection):
            return 0
        query = select(table.c.id).join(erasures, erasures.c.sample_seq == table.c.seq)
        open_ = query.where(erasures.c.ended_at.is_(None)).order_by(erasures.c.at)
        left = connection.execute(open_).scalars().all()
    for sample_id in left:
        _sweep(home, sample_id)
    return len(left)


def none_of(home: Home, snapshot: Snapshot) -> Snapshot:
    """The snapshot, if its images are all there to be learned from. Raises BadData."""
    with home.db.read() as connection:
        gone = samples.erased(connection)
    lost = [row.id for row in snapshot.rows if row.id in gone]
    if lost:
        raise BadData(
            f"{len(lost)} of the {len(snapshot.rows)} samples of snapshot "
            f"{snapshot.fingerprint[:12]} were erased ({lost[0]}{', …' * (len(lost) > 1)}), so it "
            "cannot be trained on again; start a new run"
        )
    return snapshot


def explain(home: Home, sample_id: str) -> None:
    """Raises BadData: the image is missing because it was erased while a training wanted it."""
    if of(home, sample_id) is not None:
        raise BadData(f"sample {sample_id} was erased while it was trained on; start a new run")


def _bury(connection: Connection, row: Row[Any], reason: str, actor: str) -> None:
    """From here on the sample is gone for everybody."""
    if connection.dialect.name == "sqlite":  # what is deleted is overwritten
        connection.exec_driver_sql("PRAGMA secure_delete=ON")
    standing, revision = events.apply(Standing.of(row), Kind.ERASE), row.revision + 1
    events.append(
        connection,
        row,
        Kind.ERASE,
        standing,
        revision,
        actor=actor,
        class_id=row.class_id,
        evidence={"reason": reason},
    )
    scoring.forget(connection, row.seq)
    for of_sample in (likenesses, claims, holdout_answers, scores_of_0_1):
        connection.execute(of_sample.delete().where(of_sample.c.sample_seq == row.seq))
    if row.split == Split.TEST:
        holdout.remove(connection, row.seq)
    # Names of files tell of people too.
    connection.execute(table.update().where(table.c.seq == row.seq).values(name=""))
    named = (sample_events.c.sample_id == row.id) & (sample_events.c.kind == Kind.CONFLICT)
    connection.execute(sample_events.update().where(named).values(evidence=None))
    connection.execute(
        erasures.insert().values(sample_seq=row.seq, reason=reason, actor=actor, at=time.time())
    )


def _sweep(home: Home, sample_id: str) -> str | None:
    """Whatever was made of it, in the storage; returns what that could not make sure of. A run that
    is active may publish more of it: as long as there is one, the erasure stays open."""
    with home.db.read() as connection:
        seq, trains = samples.find(connection, sample_id).seq, _trains(connection)
    doubt = home.blobs.forget([image_path(sample_id)])
    home.blobs.delete_parts(image_path(sample_id).rpartition("/")[0], older_s=HALF_S)
    captures.forget(home, sample_id)
    failed: list[Broken] = []
    for version in models.listed(home):
        try:
            _take_out(home, version, sample_id)
            home.blobs.forget_old(version.path, HOLDING)
        except Broken as exc:  # the others come all the same
            failed.append(exc)
    if failed:
        raise failed[0]
    if not trains:
        with home.db.write() as connection:
            this = (erasures.c.sample_seq == seq) & erasures.c.ended_at.is_(None)
            connection.execute(erasures.update().where(this).values(ended_at=time.time()))
    return doubt


def _trains(connection: Connection) -> bool:
    active = select(runs.c.id).where(runs.c.state.in_(ACTIVE))
    return connection.execute(active).first() is not None


def _take_out(home: Home, version: Version, sample_id: str) -> None:
    """The sample's rows out of a version's files, and its picture out of the report."""
    report = f"{version.path}/{REPORT}"
    if home.blobs.exists(report):
        page = home.blobs.get(report).decode()
        if (without := artifact.without_picture(page, sample_id)) != page:
            home.blobs.put(report, without.encode())
    if not home.blobs.exists(f"{version.path}/{version.manifest_name}"):
        return  # there is nothing of the version but its row
    while not _rewrite(home, version, sample_id):  # another erasure was faster, and may hold it
        version = models.get(home, version.name)


def _rewrite(home: Home, version: Version, sample_id: str) -> bool:
    """Write the files that hold the sample anew, without it, beside the old ones; a version's row
    points to the new manifest, and the old files go. False: the version was another one by then."""
    _, manifest = artifact.read_manifest(home, version)
    changed = _changed(home, version, manifest, sample_id)
    if not changed:
        return True
    old = [version.manifest_name] + [manifest["files"][name].get("at", name) for name in changed]
    mark = new_id()
    for name, data in changed.items():
        if data is None:  # of the features, none is left
            del manifest["files"][name]
            manifest = {key: value for key, value in manifest.items() if key not in BANKED}
            continue
        at = f"{mark}-{name}"
        home.blobs.put(f"{version.path}/{at}", data)
        manifest["files"][name] = {"sha256": sha256(data), "size": len(data), "at": at}
    content, at = json.dumps(manifest, indent=1).encode(), f"{mark}-{MANIFEST}"
    home.blobs.put(f"{version.path}/{at}", content)
    with home.db.write() as connection:
        this = version_table.c.name == version.name
        this &= version_table.c.manifest_sha256 == version.manifest_sha256
        told = {key: value for key, value in manifest.items() if key in version.manifest}
        new = {"manifest_sha256": sha256(content), "manifest_name": at, "manifest": told}
        moved = connection.execute(version_table.update().where(this).values(new)).rowcount == 1
    lost = old if moved else [at, *(f"{mark}-{name}" for name in changed)]
    home.blobs.delete(f"{version.path}/{name}" for name in lost)
    return moved


BANKED = ("novelty", "drift")  # of a manifest: what cannot be told without any features


def _changed(
    home: Home, version: Version, manifest: dict[str, Any], sample_id: str
) -> dict[str, bytes | None]:
    """The files of a version without the sample, of those that have it; None: nothing is left."""
    from safetensors.numpy import load, save

    found: dict[str, bytes | None] = {}
    for name, ids in _NAMED.items():
        if name not in manifest["files"]:
            continue
        arrays = load(artifact.read(home, version, manifest, name))
        wanted = packed([sample_id])[0]
        keep = (ids(home, manifest, arrays) != wanted).any(axis=1)
        if not keep.all():
            rest = {key: np.ascontiguousarray(rows[keep]) for key, rows in arrays.items()}
            found[name] = save(rest) if keep.any() or name == GOLDEN else None
    return found


Arrays = dict[str, Any]


def _ids(_home: Home, _manifest: dict[str, Any], arrays: Arrays) -> Any:
    return arrays["ids"]


def _ids_of_golden(home: Home, manifest: dict[str, Any], arrays: Arrays) -> Any:
    """Until 0.2.0 they were the first of valid, and nothing else said so."""
    if "ids" not in arrays:
        try:
            snapshot = snapshots.load(home, manifest["snapshot"]["fingerprint"])
        except NotFound as exc:
            raise Broken(
                f"which samples the golden images of version {manifest['version']} are cannot be "
                f"told: {exc}"
            ) from exc
        first = snapshot.of_split("valid")[: len(arrays["images"])]
        arrays["ids"] = packed([row.id for row in first])
    return arrays["ids"]


_NAMED: dict[str, Callable[[Home, dict[str, Any], Arrays], Any]] = {
    FEATURES: _ids,
    GOLDEN: _ids_of_golden,
}
