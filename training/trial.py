"""A candidate before the gate: on the frozen holdout, beside the version that serves."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sqlalchemy import select

from toploss import artifact, models
from toploss.artifact import Loaded
from toploss.engine import Engine, OnnxEngine
from toploss.home import Home
from toploss.quarantine import TAKES_PART
from toploss.schema import classes, samples, versions
from toploss.snapshots import Row, Snapshot
from toploss.space import Space
from toploss.trials import Trial
from training import evaluation, gate, servability
from training.data import Pictures
from training.exposure import Exposure, look
from training.gate import Judgement, LeftOut, Rules, Sheet

log = logging.getLogger("toploss.run")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What came of a candidate's trial."""

    judgement: Judgement
    generation: int  # of production, when it was compared with; 0: there was none
    trial: Trial  # what either called the samples of the holdout


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A version that is not published yet."""

    name: str
    loaded: Loaded  # its folder, and as much of its manifest as there is
    engine: Engine  # ONNX Runtime, which knows every architecture
    snapshot: Snapshot  # that it learned from


@dataclass(frozen=True, kw_only=True)
class _Holdout:
    """The frozen holdout under today's labels."""

    rows: list[Row]
    truth: npt.NDArray[np.intp]  # class ids
    names: dict[int, str]  # of the classes, by id

    @property
    def ids(self) -> list[str]:
        return [row.id for row in self.rows]


def judge(home: Home, candidate: Candidate, pictures: Pictures) -> Judged:
    """Candidate against production on the frozen holdout under today's labels, each by ONNX
    Runtime; and whether the candidate can be served here."""
    alias = models.production(home)
    holdout = _today(home)
    version = models.get(home, alias.version) if alias else None
    runs = [candidate.loaded.manifest["run"], *([version.run] if version else [])]
    exposure = look(home, holdout.rows, candidate.snapshot, runs)
    outputs = _outputs(home, candidate.snapshot.class_ids)
    said = outputs[_highest(candidate.engine, pictures, holdout.rows)]
    called = {candidate.name: said.tolist()}
    if version is None:
        judgement = _first(home, candidate, holdout, said, exposure)
    else:
        with tempfile.TemporaryDirectory(prefix="toploss-") as scratch:
            loaded = artifact.fetch(home, version, Path(scratch))
            production = OnnxEngine(loaded, threads=home.settings.thread_count)
            shown = Pictures(home, loaded.preprocessing)
            before = _outputs(home, _class_ids(home, version.name))
            theirs = before[_highest(production, shown, holdout.rows)]
            servable = servability.look(home.settings, candidate.loaded, loaded)
        called[version.name] = theirs.tolist()
        judgement = gate.compare(
            _sheet(holdout, outputs, before, said, theirs, exposure),
            Rules.of(home.settings),
            against=version.name,
            servable=servable,
        )
    passed = gate.promotes(judgement, home.settings.gate_cannot_tell)
    return Judged(
        judgement=replace(judgement, passed=passed),
        generation=alias.generation if alias else 0,
        trial=Trial(ids=holdout.ids, called=called),
    )


def _first(
    home: Home,
    candidate: Candidate,
    holdout: _Holdout,
    said: npt.NDArray[np.intp],
    exposure: Exposure,
) -> Judgement:
    servable = servability.look(home.settings, candidate.loaded, None)
    kept = ~exposure.any
    _, truth = np.unique(holdout.truth[kept], return_inverse=True)
    hits = (said == holdout.truth)[kept]
    return gate.first(hits, truth, servable=servable, left_out=_left_out(exposure))


def _sheet(
    holdout: _Holdout,
    outputs: npt.NDArray[np.intp],
    before: npt.NDArray[np.intp],
    said: npt.NDArray[np.intp],
    theirs: npt.NDArray[np.intp],
    exposure: Exposure,
) -> Sheet:
    """
    Args:
        outputs, before: the classes that candidate and production know, by id.
        said, theirs: what they called each sample.
    """
    known = np.unique(outputs)
    fair = ~exposure.any
    unknown = ~np.isin(holdout.truth, known) & fair
    kept = fair & ~unknown
    right = holdout.truth[kept]
    _, groups = np.unique([row.group for row in holdout.rows], return_inverse=True)

    def named(ids: npt.NDArray[np.intp]) -> tuple[str, ...]:
        return tuple(holdout.names[number] for number in ids.tolist())

    return Sheet(
        truth=np.searchsorted(known, right),
        groups=groups[kept],
        candidate=said[kept] == right,
        production=theirs[kept] == right,
        labels=named(known),
        new=named(np.setdiff1d(known, before)),
        removed=named(np.setdiff1d(before, known)),
        left_out=_left_out(exposure, unknown=int(unknown.sum())),
    )


def _left_out(exposure: Exposure, *, unknown: int = 0) -> LeftOut:
    return LeftOut(
        learned=int(exposure.own.sum()),
        inherited=int(exposure.inherited.sum()),
        unknown=unknown,
        unseen=exposure.unknown,
    )


def _today(home: Home) -> _Holdout:
    """What takes part in it now: labels were corrected and samples came while the run trained."""
    row = samples.c
    query = select(row.id, row.class_id, row.group_id).where(TAKES_PART, row.split == "test")
    with home.db.read() as connection:
        names = {found.id: found.name for found in connection.execute(select(classes))}
        found = connection.execute(query.order_by(row.id)).all()
    return _Holdout(
        rows=[
            Row(id=one.id, label=names[one.class_id], split="test", group=one.group_id)
            for one in found
        ],
        truth=np.array([one.class_id for one in found], np.intp),
        names=names,
    )


def _class_ids(home: Home, version: str) -> list[int]:
    with home.db.read() as connection:
        query = select(versions.c.class_ids).where(versions.c.name == version)
        return list(connection.execute(query).scalar_one())


def _outputs(home: Home, class_ids: Sequence[int]) -> npt.NDArray[np.intp]:
    """The class of today that each output means: a merged one is another."""
    with home.db.read() as connection:
        space = Space.of_outputs(connection, class_ids)
    return np.array(space.class_ids, np.intp)[space.columns]


def _highest(engine: Engine, pictures: Pictures, rows: list[Row]) -> npt.NDArray[np.intp]:
    """The output that is highest for each, (n,)."""
    if not rows:
        return np.zeros(0, np.intp)
    found = evaluation.predicted(engine.probabilities, pictures, rows)
    highest: npt.NDArray[np.intp] = found.argmax(axis=1)
    return highest
