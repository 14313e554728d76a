"""Held-out probabilities for the whole pool: each sample judged by a model that never saw it.

The losses of images that a model learned from hide their wrong labels: it has memorised them. So
train and valid are dealt into folds, and each fold is judged by a model of the others: either by
a head alone, on the features of the pretrained body, or by the whole recipe.
"""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import compress

import numpy as np
import numpy.typing as npt
import torch

from toploss import orders, snapshots
from toploss.engine import softmax
from toploss.errors import BadData
from toploss.network import Network
from toploss.orders import Labels, Neighbours, Probabilities
from toploss.plan import Plan
from toploss.snapshots import Row
from toploss.splits import Split
from training import calibration, features, recipe
from training.curve import one_thread
from training.data import Material, Pictures
from training.features import Features
from training.follower import Unheard
from training.trained import STAGE_ONE, STAGE_TWO

log = logging.getLogger("toploss.folds")

NEVER = -1  # the fold of samples that every model learns from

# Weight of half the squared weights beside the mean cross-entropy. Of 0.003 to 3 the middle of the
# best on trashnet-160 (SqueezeNet, MobileNetV2; 10 % symmetric and pair noise), where 0.3 to 1 find
# alike: weaker, and the head learns the wrong labels too.
L2 = 0.5
MORE = "import other images of the class"

Folds = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]
Logits = npt.NDArray[np.float32]  # (n, classes); a row's constant does not matter
Heard = Callable[[float], None]  # a share that is done, 0 to 1; may end the work by raising


class Variant(StrEnum):
    """Who judges a fold."""

    FROZEN = "frozen"  # a head of its own on the pretrained body's features
    FULL = "full"  # a network of its own, by the whole recipe


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What models that did not see them say of the samples of train and valid."""

    variant: Variant
    ids: tuple[str, ...]
    probabilities: Probabilities  # float32, (n, classes), rows sum to 1; each fold calibrated
    neighbours: Neighbours  # of each, of the other folds, among `pool`
    pool: tuple[str, ...]  # the ids of all samples of train and valid
    folds: Folds  # (n,), which one each was held out in
    temperatures: tuple[float, ...]  # one per fold
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Pool:
    """What is to be judged, and how its judges are made."""

    pictures: Pictures
    labels: tuple[str, ...]  # in the order of the networks' outputs
    rows: list[Row]  # of train and valid
    truth: Labels  # their labels' places
    plan: Plan
    build: Callable[[], Network]
    place: recipe.Place
    made: Features | None  # the pretrained body's, of the rows
    heard: Heard


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """What the model of a fold makes of the pool."""

    features: Features  # (n, f), of the whole pool
    logits: Logits  # of what is held out


def score(
    pictures: Pictures,
    rows: Sequence[Row],
    labels: tuple[str, ...],
    plan: Plan,
    *,
    build: Callable[[], Network],
    place: recipe.Place | None = None,
    made: Features | None = None,
    heard: Heard = lambda _: None,
) -> HeldOut:
    """Judge every sample of train and valid by a model that saw neither it nor a near-duplicate.

    Samples of a class that cannot be held out are missing in the result; the log names the class.
    Equal rows, plan, network and threads give equal probabilities. The random state is changed.

    Args:
        rows: a snapshot's; those of test are left out.
        plan: the run's. Give it the rate that the run found as `lr`, or each fold looks for its
            own.
        build: makes a network to begin with, the same each time; never an earlier version's, for
            that has seen what is to be held out.
        made: what the pretrained body makes of the rows that are judged, in their order, where
            that is known: (n, 2f).
        heard: hears after every batch how much of the whole is done.

    Raises:
        BadData: no class can be held out. What `heard` and the recipe raise.
    """
    began = time.monotonic()
    members = [row for row in rows if row.split != Split.TEST]
    truth = snapshots.places(members, labels)
    folds = assign(truth, [row.group for row in members], plan.fold_count, plan.seed)
    masks = [folds == fold for fold in range(folds.max() + 1)]
    pool = _Pool(
        pictures=pictures,
        labels=labels,
        rows=members,
        truth=truth,
        plan=plan,
        build=build,
        place=place or recipe.Place(),
        made=made,
        heard=heard,
    )
    variant = Variant.FULL if plan.trains_folds else Variant.FROZEN
    judge = _by_recipes if variant is Variant.FULL else _by_heads
    probabilities = np.zeros((len(members), len(labels)), np.float32)
    number = min(orders.NEAREST, min(int((~held).sum()) for held in masks))
    places = np.zeros((len(members), number), np.intp)
    cosines = np.zeros((len(members), number), np.float32)
    temperatures = []
    for held, judged in zip(masks, judge(pool, masks), strict=True):
        temperatures.append(calibration.temperature(judged.logits, truth[held]))
        probabilities[held] = softmax(judged.logits / np.float32(temperatures[-1]))
        near = orders.nearest(judged.features[held], judged.features[~held], number=number)
        places[held], cosines[held] = np.flatnonzero(~held)[near.places], near.cosines
        agreed = float((judged.logits.argmax(axis=1) == truth[held]).mean())
        log.info("fold %d of %d: agrees with %.4f", len(temperatures), len(masks), agreed)
    scored = folds != NEVER
    for label in sorted({row.label for row in compress(members, ~scored)}):
        log.warning("class %r is not scored whole: its images are near-duplicates; %s", label, MORE)
    return HeldOut(
        variant=variant,
        ids=tuple(row.id for row in compress(members, scored)),
        probabilities=probabilities[scored],
        neighbours=Neighbours(places=places[scored], cosines=cosines[scored]),
        pool=tuple(row.id for row in members),
        folds=folds[scored],
        temperatures=tuple(temperatures),
        seconds=time.monotonic() - began,
    )


def assign(labels: Labels, groups: Sequence[str], number: int, seed: int) -> Folds:
    """Deal samples into folds: groups stay whole, and every class is spread evenly.

    The largest groups are dealt first, each to the fold that has least of its classes so far, and
    of those to the smallest. The same arguments in the same order give the same folds.

    Returns:
        (n,): 0 to at most `number` - 1, none of them empty; `NEVER` for the groups of a class that
        one fold would hold wholly, so that its model could not know it.

    Raises:
        BadData: that is so for every class.
    """
    of_group: dict[str, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        of_group[group].append(place)
    in_order = list(of_group.values())
    dealt = [in_order[turn] for turn in np.random.default_rng(seed).permutation(len(in_order))]
    dealt.sort(key=len, reverse=True)
    has: list[Counter[int]] = [Counter() for _ in range(number)]
    sizes = [0] * number
    folds = np.empty(len(labels), np.intp)
    for members in dealt:
        brings = Counter(labels[members].tolist())
        crowded = [sum(fold[label] * n for label, n in brings.items()) for fold in has]
        best = min(range(number), key=lambda fold: (crowded[fold], sizes[fold]))
        has[best] += brings
        sizes[best] += len(members)
        folds[members] = best
    for label in np.unique(labels):
        of_label = np.flatnonzero(labels == label).tolist()
        if len(np.unique(folds[of_label])) == 1:
            for place in of_label:
                folds[of_group[groups[place]]] = NEVER
    if (folds == NEVER).all():
        raise BadData(f"of no class can images be held out: they are near-duplicates; {MORE}")
    return np.unique(folds, return_inverse=True)[1] - int(NEVER in folds)


def _by_heads(pool: _Pool, masks: Sequence[Mask]) -> Iterator[_Judged]:
    """One body as it comes, a head for each fold."""
    made = pool.made
    if made is None:
        net = pool.build()
        made = features.pooled(net, pool.pictures, pool.rows, pool.place.device, pool.heard)
    for held in masks:
        pool.heard(1.0)
        logits = _by_head(made[~held], pool.truth[~held], made[held], len(pool.labels))
        yield _Judged(features=made, logits=logits)


def _by_head(known: Features, labels: Labels, features: Features, classes: int) -> Logits:
    """Logits of features by multinomial logistic regression on the known ones, scaled.

    It finds as many planted errors as fastai's head after five epochs, in a fifth of the time.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    head = LogisticRegression(C=1 / (L2 * len(known)), max_iter=1000)
    with one_thread():
        model = make_pipeline(StandardScaler(), head).fit(known, labels)
    shares = np.zeros((len(features), classes), np.float32)
    shares[:, head.classes_] = model.predict_proba(features)
    logs: Logits = np.log(np.maximum(shares, orders.LOWEST))
    return logs


def _by_recipes(pool: _Pool, masks: Sequence[Mask]) -> Iterator[_Judged]:
    """A network for each fold."""
    for number, held in enumerate(masks):
        material = Material(
            pictures=pool.pictures,
            labels=pool.labels,
            train=list(compress(pool.rows, ~held)),
            valid=list(compress(pool.rows, held)),  # watched only: the recipe chooses nothing by it
        )
        net, device = pool.build(), pool.place.device
        progress = Progress(pool.plan, pool.heard, part=number, parts=len(masks))
        recipe.train(net, material, pool.plan, progress, place=pool.place, sweep_anyway=False)
        made = features.pooled(net, pool.pictures, pool.rows, device, progress.after)
        with torch.inference_mode():
            logits = net.head(torch.from_numpy(made[held]).to(device)).float().cpu().numpy()
        yield _Judged(features=made, logits=logits)


class Progress(Unheard):
    """Follows one of several trainings: makes one share of the epochs of both stages, and keeps
    all else to itself. What a run writes down of its training is not of its folds."""

    def __init__(self, plan: Plan, heard: Heard, *, part: int = 0, parts: int = 1) -> None:
        self._epochs = {STAGE_ONE: plan.epochs_head, STAGE_TWO: plan.epochs_all}
        self._heard, self._part, self._parts = heard, part, parts
        self._before, self._share = 0.0, 0.0  # of this training: done, and of the present stage

    def stage(self, name: str, epochs: int, rate: str) -> None:
        self._before += self._share
        self._share = self._epochs.get(name, 0) / sum(self._epochs.values())

    def step(self, done: float) -> None:
        self._heard((self._part + self._before + self._share * done) / self._parts)

    def after(self, _: float) -> None:
        """What still happens when the training is done."""
        self._heard((self._part + 1) / self._parts)
