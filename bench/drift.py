"""How often drift is called an alarm: where there is none, and where it was planted.

One small training each of digits and photographs. What is held out is shared by chance into the
version's reference and the images that it is asked about, as often as there are trials.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from bench import faults, subjects
from bench.common import main, options
from bench.faults import HEALTHY, Case, Held, Pool
from toploss import novelty, traits
from toploss.drift import Kind, Reference, State, shifts
from toploss.traffic import CLASSES, Seen
from training import evaluation, features, memory, randomness, recipe
from training.data import Material
from training.follower import Unheard

REFERENCE = 400  # held-out images
VALID = 100  # that the training looks at
ANSWERS = (200, 500)
TRIALS = 200

Pictures = npt.NDArray[np.uint8]


def _each(change: Callable[[Image.Image], Image.Image]) -> Callable[[Pictures], Pictures]:
    def changed(pictures: Pictures) -> Pictures:
        images = (Image.fromarray(picture.transpose(1, 2, 0)) for picture in pictures)
        return np.stack([np.asarray(change(image)).transpose(2, 0, 1) for image in images])

    return changed


def _lit(factor: float, more: float = 0) -> Callable[[Pictures], Pictures]:
    return lambda pictures: (pictures * factor + more).clip(0, 255).astype(np.uint8)


def _noisy(pictures: Pictures) -> Pictures:
    noise = np.random.default_rng(1).normal(0, 20, pictures.shape)
    return (pictures + noise).clip(0, 255).astype(np.uint8)


DRIFTS: dict[str, Callable[[Pictures], Pictures]] = {
    "none": lambda pictures: pictures,
    "darker, × 0.6": _lit(0.6),
    "brighter, + 50": _lit(1, 50),
    "blurred, 1 pixel": _each(lambda image: image.filter(ImageFilter.GaussianBlur(1))),
    "noise, σ 20": _noisy,
    "turned by 15°": _each(lambda image: image.rotate(15, Image.Resampling.BILINEAR)),
}
MORE = (2, 4)  # times as many images of one class


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a network says of the held-out images."""

    features: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    predicted: npt.NDArray[np.intp]

    def __getitem__(self, rows: npt.NDArray[np.intp]) -> "Said":
        return Said(
            features=self.features[rows],
            confidence=self.confidence[rows],
            predicted=self.predicted[rows],
        )


def measure(quick: bool) -> dict[str, Any]:
    memory.keep_freed()
    pools = [faults.read_digits()]
    if subjects.TRASHNET.is_dir() and not quick:
        pools.append(faults.read_photos(subjects.TRASHNET, subjects.WEIGHTS / "squeezenet1_0.pth"))
    return {"rows": [row for pool in pools for row in _rows(pool, TRIALS // (8 if quick else 1))]}


def _rows(pool: Pool, trials: int) -> Iterator[dict[str, Any]]:
    case = Case(data=pool.name, fault=HEALTHY, seed=0, images=faults.TRAINED_ON[pool.name][0])
    drawn = faults.draw(case, pool)
    learned = set(drawn.train.tolist()) | set(drawn.valid[:VALID].tolist())
    held = np.array([place for place in range(len(pool.truth)) if place not in learned])
    bank, ask = _trained(pool, case, drawn)
    said = {name: ask(change(pool.pictures[held])) for name, change in DRIFTS.items()}
    alike, first = np.ones(len(held)), pool.truth[held] == 0
    asked = {name: (found, alike) for name, found in said.items()}
    for times in MORE:
        asked[f"one class × {times}"] = (said["none"], np.where(first, float(times), 1.0))
    counted: Counter[tuple[str, int, Kind, State]] = Counter()
    for trial in range(trials):
        for key in _tried(pool, bank, said["none"], asked, trial):
            counted[key] += 1
    for name, answers in product(asked, ANSWERS):
        row: dict[str, Any] = {"data": pool.name, "drift": name, "answers": answers}
        for kind, state in product(Kind, (State.WATCH, State.ALARM)):
            row[f"{kind} {state}"] = round(counted[name, answers, kind, state] / trials, 3)
        print(row, flush=True)
        yield row


def _trained(
    pool: Pool, case: Case, drawn: faults.Drawn
) -> tuple[novelty.Bank, Callable[[Pictures], Said]]:
    material = Material(
        pictures=Held(pool),
        labels=pool.labels,
        train=pool.rows(drawn.train, pool.truth, "train"),
        valid=pool.rows(drawn.valid[:VALID], pool.truth, "valid"),
    )
    randomness.seed(case.seed, 1)
    net = pool.network()
    recipe.train(net, material, case.plan(), Unheard())

    def ask(pictures: Pictures) -> Said:
        given = Pool(pool.name, pictures, np.zeros(len(pictures), np.intp), pool.labels)
        rows = given.rows(np.arange(len(pictures)), given.truth, "test")
        model = evaluation.reference(net, material.pictures.how, "cpu")
        shares = evaluation.predicted(model, Held(given), rows)
        shown = features.pooled(net, Held(given), rows, "cpu")
        return Said(features=shown, confidence=shares.max(1), predicted=shares.argmax(1))

    shown = features.pooled(net, material.pictures, material.train, "cpu")
    ids = [f"{int(row.id):064x}" for row in material.train]
    return novelty.bank(shown, pool.truth[drawn.train], ids, ids), ask


def _tried(
    pool: Pool, bank: novelty.Bank, before: Said, asked: dict[str, tuple[Said, Any]], trial: int
) -> Iterator[tuple[str, int, Kind, State]]:
    """What is said of each drift, with one reference by chance."""
    chance = np.random.default_rng(trial)
    order = chance.permutation(len(before.predicted))
    known, rest = before[order[:REFERENCE]], order[REFERENCE:]
    watched, bins = traits.learn(bank, known.features, known.confidence)
    reference = Reference.of(known.predicted, len(pool.labels), bins, watched)
    for (name, (after, weights)), answers in product(asked.items(), ANSWERS):
        p = weights[rest] / weights[rest].sum()
        # Each image once, where there are enough: twins would look like a shift.
        window = after[chance.choice(rest, answers, replace=bool(np.ptp(p) > 0), p=p)]
        for kind, shift in shifts(pool.labels, reference, _seen(window, bank, watched)).items():
            yield name, answers, kind, shift.state


def _seen(asked: Said, bank: novelty.Bank, watched: traits.Traits) -> Seen:
    bins = watched.bins(asked.features, novelty.score(asked.features, bank), asked.confidence)
    counts = {(CLASSES, int(p)): int(n) for p, n in zip(*_counted(asked.predicted), strict=True)}
    for kind, column in enumerate(bins.T, start=CLASSES + 1):
        counts |= {(kind, int(p)): int(n) for p, n in zip(*_counted(column), strict=True)}
    return Seen(since=0.0, counts=counts)


def _counted(values: Any) -> Any:
    return np.unique(values, return_counts=True)


if __name__ == "__main__":
    parser = options("drift", "an eighth of the trials, the digits alone")
    main(parser, lambda args: measure(args.quick))
