"""A candidate before the gate: on the frozen holdout, beside the version that serves."""

import tempfile
from pathlib import Path
from typing import Any

from toploss import artifact, models, snapshots
from toploss.engine import Engine, OnnxEngine
from toploss.home import Home
from toploss.schema import versions
from toploss.snapshots import Row, Snapshot
from training import evaluation, gate
from training.data import Pictures
from training.gate import Judgement


def judge(
    home: Home, candidate: Engine, snapshot: Snapshot, pictures: Pictures
) -> tuple[Judgement, int]:
    """Candidate against production on the frozen holdout under today's labels, each by ONNX
    Runtime, which knows every architecture; with the generation that it was compared with (0:
    none)."""
    alias = models.production(home)
    rows = snapshot.of_split("test")
    if alias is None:
        truth = snapshots.places(rows, snapshot.labels)
        found = evaluation.predicted(candidate.probabilities, pictures, rows)
        return gate.first(found.argmax(axis=1) == truth, truth), 0
    with tempfile.TemporaryDirectory(prefix="toploss-") as scratch:
        version = models.get(home, alias.version)
        loaded = artifact.fetch(home, version, Path(scratch))
        production = OnnxEngine(loaded, threads=home.settings.thread_count)
        ours = _as_learned(home, alias.version, snapshot)
        shared = [row for row in rows if row.label in ours]
        hits = _hits(candidate, pictures, shared, snapshot.labels)
        other = Pictures(home, loaded.preprocessing)
        renamed = [Row(**{**vars(row), "label": ours[row.label]}) for row in shared]
        theirs = _hits(production, other, renamed, loaded.labels)
    margin = home.settings.gate_margin
    return gate.compare(hits, theirs, margin=margin, against=alias.version), alias.generation


def _as_learned(home: Home, version: str, snapshot: Snapshot) -> dict[str, str]:
    """Today's label → the name under which that version learned the class; ids tell them apart."""
    with home.db.read() as connection:
        ids = connection.execute(versions.select().where(versions.c.name == version)).one()
    names = dict(zip(ids.class_ids, ids.manifest["labels"], strict=True))
    today = zip(snapshot.class_ids, snapshot.labels, strict=True)
    return {label: names[class_id] for class_id, label in today if class_id in names}


def _hits(engine: Engine, pictures: Pictures, rows: list[Row], labels: tuple[str, ...]) -> Any:
    if not rows:
        return snapshots.places(rows, labels) == 0
    found = evaluation.predicted(engine.probabilities, pictures, rows)
    return found.argmax(axis=1) == snapshots.places(rows, labels)
