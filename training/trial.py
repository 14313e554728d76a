"""A candidate before the gate: on the frozen holdout, beside the version that serves."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sqlalchemy import select

from toploss import artifact, models, snapshots
from toploss.engine import Engine, OnnxEngine
from toploss.home import Home
from toploss.schema import versions
from toploss.snapshots import Row, Snapshot
from toploss.trials import Trial
from training import evaluation, gate
from training.data import Pictures
from training.gate import Judgement


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What came of a candidate's trial."""

    judgement: Judgement
    generation: int  # of production, when it was compared with; 0: there was none
    trial: Trial  # what either called the samples of the holdout


def judge(
    home: Home, name: str, candidate: Engine, snapshot: Snapshot, pictures: Pictures
) -> Judged:
    """Candidate against production on the frozen holdout under today's labels, each by ONNX
    Runtime, which knows every architecture.

    Args:
        name: the candidate's, as a version.
    """
    alias = models.production(home)
    rows = snapshot.of_split("test")
    truth = snapshots.places(rows, snapshot.labels)
    ours = _called(candidate, pictures, rows)
    ids = [row.id for row in rows]
    called = {name: [snapshot.class_ids[place] for place in ours.tolist()]}
    if alias is None:
        found = gate.first(ours == truth, truth)
        return Judged(judgement=found, generation=0, trial=Trial(ids=ids, called=called))
    with tempfile.TemporaryDirectory(prefix="toploss-") as scratch:
        version = models.get(home, alias.version)
        loaded = artifact.fetch(home, version, Path(scratch))
        production = OnnxEngine(loaded, threads=home.settings.thread_count)
        theirs = _called(production, Pictures(home, loaded.preprocessing), rows)
    outputs = _outputs(home, alias.version)
    called[alias.version] = [outputs[place] for place in theirs.tolist()]
    right = np.array([snapshot.class_ids[place] for place in truth], np.intp)
    shared = np.isin(right, outputs)
    hits = {version: (np.array(each, np.intp) == right)[shared] for version, each in called.items()}
    against, margin = alias.version, home.settings.gate_margin
    found = gate.compare(hits[name], hits[against], margin=margin, against=against)
    trial = Trial(ids=ids, called=called)
    return Judged(judgement=found, generation=alias.generation, trial=trial)


def _outputs(home: Home, version: str) -> list[int]:
    """The classes of a version's outputs, by their ids."""
    with home.db.read() as connection:
        query = select(versions.c.class_ids).where(versions.c.name == version)
        return list(connection.execute(query).scalar_one())


def _called(engine: Engine, pictures: Pictures, rows: list[Row]) -> npt.NDArray[np.intp]:
    """The output that is highest for each, (n,)."""
    found = evaluation.predicted(engine.probabilities, pictures, rows)
    highest: npt.NDArray[np.intp] = found.argmax(axis=1)
    return highest
