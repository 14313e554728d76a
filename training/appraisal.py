"""What can be said of a trained network: how good, how sure, what is new to it, what is amiss."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from toploss import novelty, orders, samples, snapshots, traits
from toploss.drift import Reference
from toploss.engine import Probabilities, softmax
from toploss.home import Home
from toploss.network import Network
from toploss.novelty import Bank
from toploss.orders import Neighbours
from toploss.plan import Plan
from toploss.preprocess import thumbnail
from toploss.scoring import Opinion
from toploss.snapshots import Row, Snapshot
from toploss.traits import Traits
from training import calibration, curve, diagnosis, evaluation, features, folds
from training.curve import Curve
from training.data import Pictures
from training.diagnosis import Finding
from training.diary import Diary
from training.evidence import Evidence, Scored, dead_share
from training.features import Features
from training.folds import HeldOut
from training.lesson import LOOKED_AT, Learned
from training.recipe import Diverged, Place
from training.report import Picture

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
    traits: Traits
    reference: Reference  # that the traffic will be compared with
    opinion: Opinion  # held out: what the review list is made of
    diagnosis: list[Finding]

    def told(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {
            "metrics": self.metrics,
            "temperature": self.temperature,
            "novelty": self.novelty,
            "drift": self.reference.as_json(),
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
    bank = _bank(net, pictures, rows["train"], truth["train"], place)
    shown = features.pooled(net, pictures, rows["valid"], place.device)
    near, distances = novelty.nearest(shown, bank, orders.NEAREST)
    logits: Probabilities = np.log(np.maximum(found["valid"], calibration.TINY))
    temperature = calibration.temperature(logits, truth["valid"])
    by_valid = Opinion(
        ids=[row.id for row in rows["valid"]],
        probabilities=softmax(logits / np.float32(temperature)),
        neighbours=Neighbours(places=near, cosines=1 - distances),
        known=bank.ids,
    )
    watched, reference = _reference(
        net, pictures, rows["test"], place, bank, shown, found, temperature
    )
    opinion, held_out = _opinion(learned, snapshot, pictures, plan, place, diary, by_valid)
    diary.enter("diagnose")
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
        curve=_curve(learned, truth, plan.seed),
    )
    return Appraisal(
        valid=found["valid"],
        test=found["test"],
        metrics=metrics,
        temperature=temperature,
        bank=bank,
        novelty={
            "threshold": novelty.threshold(distances[:, : novelty.NEAREST].mean(axis=1)),
            "quantile": novelty.QUANTILE,
            "nearest": novelty.NEAREST,
        },
        traits=watched,
        reference=reference,
        opinion=opinion,
        diagnosis=diagnosis.diagnose(evidence),
    )


def _bank(net: Network, pictures: Pictures, rows: list[Row], truth: Any, place: Place) -> Bank:
    """Features of training images."""
    train = rows[:BANKED]  # by id, which is as good as chance
    return novelty.bank(
        features.pooled(net, pictures, train, place.device),
        truth[: len(train)],
        [row.id for row in train],
        [row.group for row in train],
    )


def _reference(
    net: Network,
    pictures: Pictures,
    test: list[Row],
    place: Place,
    bank: Bank,
    valid_features: Features,
    found: dict[str, Probabilities],
    temperature: float,
) -> tuple[Traits, Reference]:
    """What the network says of all held-out images, valid's and test's."""
    shown = np.concatenate([valid_features, features.pooled(net, pictures, test, place.device)])
    shares = calibration.scaled(np.concatenate([found["valid"], found["test"]]), temperature)
    watched, bins = traits.learn(bank, shown, shares.max(axis=1))
    return watched, Reference.of(shares.argmax(axis=1), shares.shape[1], bins, watched)


def _curve(learned: Learned, truth: dict[str, Any], seed: int) -> Curve | None:
    """What more data would bring, by the body's features; None: there is none that could tell."""
    if learned.features is None:
        return None
    train, valid = np.split(learned.features, [len(truth["train"])])
    return curve.measure(train, truth["train"], valid, truth["valid"], seed=seed)


def _opinion(
    learned: Learned,
    snapshot: Snapshot,
    pictures: Pictures,
    plan: Plan,
    place: Place,
    diary: Diary,
    by_valid: Opinion,
) -> tuple[Opinion, Scored | None]:
    """Held-out probabilities: by folds for the whole pool, where the plan has them; else by the
    network itself for the validation split."""
    if not plan.fold_count:
        return by_valid, None
    diary.enter("folds")
    try:
        held_out = _by_folds(learned, snapshot, pictures, plan, place, diary)
    except Diverged as exc:  # of one fold's training: the network itself is well
        log.warning("a fold's training has diverged (%s); the losses are those of valid", exc)
        return by_valid, None
    label = {row.id: row.label for row in snapshot.rows}
    places = {name: number for number, name in enumerate(snapshot.labels)}
    truth = np.array([places[label[sample]] for sample in held_out.ids], np.intp)
    opinion = Opinion(
        ids=held_out.ids,
        probabilities=held_out.probabilities,
        folds=held_out.folds.tolist(),
        neighbours=held_out.neighbours,
        known=held_out.pool,
    )
    return opinion, Scored(probabilities=held_out.probabilities, truth=truth)


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
    given = {row.id: row for row in snapshot.rows}
    opinion = appraisal.opinion
    rows = [given[sample] for sample in opinion.ids]
    losses = orders.loss(opinion.probabilities, snapshots.places(rows, snapshot.labels))
    with home.db.read() as connection:
        gone = samples.erased(connection)  # while it was trained
    there = [at for at, row in enumerate(rows) if row.id not in gone]
    worst = sorted(there, key=lambda at: (-losses[at], rows[at].id))[:PICTURES]
    return [
        Picture(
            sample=rows[at].id,
            name=rows[at].id[:12],
            label=rows[at].label,
            predicted=snapshot.labels[int(opinion.probabilities[at].argmax())],
            confidence=float(opinion.probabilities[at].max()),
            loss=float(losses[at]),
            thumbnail=thumbnail(home.blobs.get_image(rows[at].id), PICTURE_SIZE, home.limits),
        )
        for at in worst
    ]
