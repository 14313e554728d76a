"""What can be said of a trained network: how good, how sure, what is new to it, what is amiss."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from toploss import novelty, snapshots
from toploss.engine import Probabilities
from toploss.home import Home
from toploss.losses import nats
from toploss.network import Network
from toploss.novelty import Bank
from toploss.plan import Plan
from toploss.preprocess import thumbnail
from toploss.snapshots import Row, Snapshot
from training import calibration, curve, diagnosis, evaluation, features, folds
from training.data import Pictures
from training.diagnosis import Finding
from training.diary import Diary
from training.evidence import Evidence, Scored, dead_share
from training.folds import HeldOut
from training.lesson import LOOKED_AT, Learned
from training.recipe import Diverged, Place
from training.report import Picture
from training.settlement import Scores

log = logging.getLogger("toploss.run")

BANKED = 8000  # training images at most that the bank of features is chosen from
PICTURES = 24  # of the top losses, in the report
PICTURE_SIZE = 160  # pixels


@dataclass(frozen=True, kw_only=True)
class Appraisal:
    """All that is found out about a network after its training."""

    valid: Probabilities  # float32, (n, classes), as the network gives them
    test: Probabilities
    metrics: dict[str, dict[str, float]]  # split → accuracy, loss
    temperature: float
    bank: Bank
    novelty: dict[str, float | int]
    scores: Scores  # held out: what the review list is made of
    diagnosis: list[Finding]

    def told(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {
            "metrics": self.metrics,
            "temperature": self.temperature,
            "novelty": self.novelty,
            "diagnosis": [finding.as_json() for finding in self.diagnosis],
        }


def appraise(
    learned: Learned,
    snapshot: Snapshot,
    pictures: Pictures,
    plan: Plan,
    place: Place,
    diary: Diary,
) -> Appraisal:
    """Look at the network from all sides; it is left in eval mode."""
    net = learned.network
    diary.enter("evaluate")
    model = evaluation.reference(net, pictures.how, place.device)
    rows = {split: snapshot.of_split(split) for split in ("train", "valid", "test")}
    truth = {split: snapshots.places(of, snapshot.labels) for split, of in rows.items()}
    found = {s: evaluation.predicted(model, pictures, rows[s]) for s in ("valid", "test")}
    metrics = {split: evaluation.metrics(found[split], truth[split]) for split in found}
    for split, measured in metrics.items():
        log.info("%s: accuracy %.4f, loss %.4f", split, measured["accuracy"], measured["loss"])
    diary.enter("features")
    bank, familiar = _bank(net, pictures, rows, truth["train"], place)
    scores, held_out = _scores(learned, snapshot, pictures, plan, place, diary, found)
    diary.enter("diagnose")
    made = learned.features
    evidence = Evidence(
        labels=snapshot.labels,
        counts=tuple(np.bincount(truth["train"], minlength=len(snapshot.labels)).tolist()),
        trained=learned.trained,
        from_scratch=plan.from_scratch,
        valid=Scored(probabilities=found["valid"], truth=truth["valid"]),
        test=Scored(probabilities=found["test"], truth=truth["test"]),
        held_out=held_out,
        dead=dead_share(net, pictures.stack(rows["valid"][:LOOKED_AT]), pictures.how, place.device),
        dead_before=learned.dead_before,
        curve=None
        if made is None
        else curve.measure(
            made[: len(rows["train"])],
            truth["train"],
            made[len(rows["train"]) :],
            truth["valid"],
            seed=plan.seed,
        ),
    )
    logits = np.log(np.maximum(found["valid"], calibration.TINY))
    return Appraisal(
        valid=found["valid"],
        test=found["test"],
        metrics=metrics,
        temperature=calibration.temperature(logits, truth["valid"]),
        bank=bank,
        novelty={
            "threshold": novelty.threshold(familiar),
            "quantile": novelty.QUANTILE,
            "nearest": novelty.NEAREST,
        },
        scores=scores,
        diagnosis=diagnosis.diagnose(evidence),
    )


def _bank(
    net: Network, pictures: Pictures, rows: dict[str, list[Row]], truth: Any, place: Place
) -> tuple[Bank, Any]:
    """Features of training images, and how novel valid's are beside them."""
    train = rows["train"][:BANKED]  # by id, which is as good as chance
    bank = novelty.bank(
        features.pooled(net, pictures, train, place.device),
        truth[: len(train)],
        [row.id for row in train],
        [row.group for row in train],
    )
    return bank, novelty.score(features.pooled(net, pictures, rows["valid"], place.device), bank)


def _scores(
    learned: Learned,
    snapshot: Snapshot,
    pictures: Pictures,
    plan: Plan,
    place: Place,
    diary: Diary,
    found: dict[str, Probabilities],
) -> tuple[Scores, Scored | None]:
    """Held-out probabilities: by folds for the whole pool, where the plan has them; else by the
    network itself for the validation split."""
    ids = [row.id for row in snapshot.of_split("valid")]
    by_valid = Scores(ids=ids, probabilities=found["valid"]), None
    if not plan.fold_count:
        return by_valid
    diary.enter("folds")
    try:
        held_out = _by_folds(learned, snapshot, pictures, plan, place, diary)
    except Diverged as exc:  # of one fold's training: the network itself is well
        log.warning("a fold's training has diverged (%s); the losses are those of valid", exc)
        return by_valid
    label = {row.id: row.label for row in snapshot.rows}
    places = {name: number for number, name in enumerate(snapshot.labels)}
    truth = np.array([places[label[sample]] for sample in held_out.ids], np.intp)
    scores = Scores(
        ids=held_out.ids,
        probabilities=held_out.probabilities,
        folds=[int(fold) for fold in held_out.folds],
    )
    return scores, Scored(probabilities=held_out.probabilities, truth=truth)


def _by_folds(
    learned: Learned,
    snapshot: Snapshot,
    pictures: Pictures,
    plan: Plan,
    place: Place,
    diary: Diary,
) -> HeldOut:
    return folds.score(
        pictures,
        [*snapshot.of_split("train"), *snapshot.of_split("valid")],
        snapshot.labels,
        plan.anew().but(lr=learned.trained.rate, folds=plan.fold_count),
        build=learned.build,
        place=place,
        made=learned.features,
        heard=diary.step,
    )


def pictured(home: Home, appraisal: Appraisal, snapshot: Snapshot) -> list[Picture]:
    """The top losses with their thumbnails, highest first, for the report."""
    label = {row.id: row.label for row in snapshot.rows}
    place = {name: number for number, name in enumerate(snapshot.labels)}
    scores = appraisal.scores
    rated = sorted(
        (
            (nats(float(p[place[label[sample]]])), sample, p)
            for sample, p in zip(scores.ids, scores.probabilities, strict=True)
        ),
        key=lambda entry: (-entry[0], entry[1]),
    )
    return [
        Picture(
            sample=sample,
            name=sample[:12],
            label=label[sample],
            predicted=snapshot.labels[int(p.argmax())],
            confidence=float(p.max()),
            loss=loss,
            thumbnail=thumbnail(home.blobs.get_image(sample), PICTURE_SIZE, home.limits),
        )
        for loss, sample, p in rated[:PICTURES]
    ]
