"""The course's two-stage recipe, by fastai's Learner over our network.

Stage one trains the head on the frozen body, by one-cycle at the found rate or 3e-3; stage two
unfreezes and trains all layers by one-cycle at `slice(rate / 1000, rate / 3)`. (Howard and Gugger,
"fastai: A Layered API for Deep Learning", 2020; Smith, "Super-Convergence", 2018, for one-cycle.)
From scratch nothing is frozen: a random body that stands still spoils the recipe.

A frozen body makes the same features of a picture in every epoch: they are made once and kept,
and the head learns from them, unaugmented.
"""

import math
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from toploss.engine import Probabilities, softmax
from toploss.errors import ToplossError
from toploss.network import Network
from toploss.plan import Plan
from training import evaluation, features, randomness
from training.checkpoints import Forgetful, Keeper, Moment
from training.data import Material, loaders
from training.features import Features
from training.finder import Finder, find_rate
from training.follower import Follower
from training.ranks import ALONE, Ranks
from training.trained import STAGE_ONE, STAGE_TWO, Epoch, Trained

# Of stage one's peak: the peaks of the earliest layers and of the head in stage two. Measured on
# trashnet-160 (docs/benchmarks.md): the course's 1e-6 and a tenth hardly move the body; at 1/300 a
# deep one whose batch norm keeps its statistics (MobileNetV2) is on the verge of diverging.
SHARES = (1 / 1000, 1 / 3)
FROM_SCRATCH = (1 / 300, 1 / 3)  # there is nothing yet that the earliest layers could lose
PLAIN_IMAGES = 256  # of train, on which the plain training loss is judged
UPDATES = 20  # steps of a stage whose updates are measured, about
FINDER = "lr-find"


class Diverged(ToplossError):
    """The training loss is no number any more."""

    def __init__(self, message: str, trained: Trained) -> None:
        super().__init__(message)
        self.trained = trained  # up to there


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a training happens."""

    device: str = "cpu"
    workers: int = 0  # processes that decode pictures
    ranks: Ranks = ALONE


def train(
    network: Network,
    material: Material,
    plan: Plan,
    follower: Follower,
    *,
    keeper: Keeper | None = None,
    place: Place | None = None,
    made: Features | None = None,
    sweep_anyway: bool = True,
) -> Trained:
    """Train the network in place by both stages, or go on where the keeper says it stood.

    Every epoch seeds what it draws, so that the result follows from network, material, plan and
    threads: with and without the rate finder, uninterrupted or not.

    Args:
        made: what `frozen_features` made of the material by this network, if that is known.
        sweep_anyway: where a rate is given, sweep all the same if it takes a second, as it does on
            features: the rate is judged by the curve.

    Raises:
        Diverged: a loss is not finite.
        Whatever the follower raises.
    """
    training = _Training(network, material, plan, follower, keeper or Forgetful(), place or Place())
    training.sweep_anyway = sweep_anyway
    return training.run(made)


def sweep(
    network: Network, material: Material, plan: Plan, follower: Follower, stage: int, place: Place
) -> Finder:
    """What the rate finder says at the beginning of stage 1, or of stage 2 after stage 1 was done.
    The network is as that beginning found it.

    Raises:
        As `train`.
    """
    training = _Training(network, material, plan.but(lr="auto"), follower, Forgetful(), place)
    return training.sweep(stage)


def frozen_features(
    network: Network, material: Material, place: Place, follower: Follower
) -> Features:
    """Pooled features of train, then of valid: (n, 2f), by the body as it is, unaugmented. Each of
    the processes that train together makes its share of them."""
    follower.stage("features", 0, "")
    ranks = place.ranks
    rows = [*material.train, *material.valid]
    mine = rows[ranks.rank :: ranks.world]
    made = features.pooled(network, material.pictures, mine, place.device, follower.step)
    return ranks.together(made)


class _Training:
    """One pass through the recipe."""

    sweep_anyway = False

    def __init__(
        self,
        network: Network,
        material: Material,
        plan: Plan,
        follower: Follower,
        keeper: Keeper,
        place: Place,
    ) -> None:
        self.network, self.material, self.plan = network, material, plan
        self.follower, self.keeper, self.place = follower, keeper, place
        self.moment = keeper.last()
        self.trained = self.moment.trained if self.moment else Trained(part=plan.part)
        self.trained.rate = plan.lr or self.trained.rate
        network.to(place.device)
        # What pretrained weights were learned with is right for them: batches of ours are small
        # and few, and their statistics drift (measured: docs/benchmarks.md).
        network.fix_statistics(not plan.from_scratch)

    def run(self, made: Features | None) -> Trained:
        with tempfile.TemporaryDirectory() as scratch:
            self.scratch = Path(scratch)
            in_one = self.moment is None or self.moment.stage == STAGE_ONE
            if in_one and (self.plan.head_epochs or self.plan.lr is None):
                self._stage_one(made)
                self.keeper.stage(STAGE_ONE, self.network)
            self._stage_two()
            self.keeper.stage(STAGE_TWO, self.network)
        return self.trained

    def sweep(self, stage: int) -> Finder:
        with tempfile.TemporaryDirectory() as scratch:
            self.scratch = Path(scratch)
            if stage == 1:
                self.plan = replace(self.plan, epochs_head=0)
            self._stage_one(None)
            if stage == 2:
                self._sweep(self._learner(frozen=False))
        assert self.trained.finder is not None
        return self.trained.finder

    def _stage_one(self, made: Features | None) -> None:
        images = len(self.material.train) + len(self.material.valid)
        frozen = not self.plan.from_scratch
        if frozen and self.plan.cache and features.fit_in_memory(self.network, images):
            self._on_features(made)
            return
        learner = self._learner(frozen=frozen)
        if self.moment is None and self.plan.lr is None:
            self._sweep(learner)
        self._fit(learner, STAGE_ONE, self.plan.head_epochs, self.trained.rate, self._plain)

    def _on_features(self, made: Features | None) -> None:
        """Stage one where the body is never run but once."""
        from training import learner

        self.trained.cached = True
        if made is None:
            made = frozen_features(self.network, self.material, self.place, self.follower)
        head = self.network.head
        train = slice(0, len(self.material.train))
        valid = slice(len(self.material.train), None)
        of_head = learner.make(
            head,
            features.loaders(made[train], made[valid], self.material, self.plan, self.place.device),
            [list(head.parameters())],
            scratch=self.scratch,
        )
        if self.plan.lr is None or self.sweep_anyway:
            self._sweep(of_head)
        plain = torch.from_numpy(made[: min(PLAIN_IMAGES, len(self.material.train))])

        def judged() -> tuple[float, float]:
            head.eval()
            with torch.inference_mode():
                logits = head(plain.to(self.place.device)).float().cpu().numpy()
            return self._measured(softmax(logits))

        self._fit(of_head, STAGE_ONE, self.plan.head_epochs, self.trained.rate, judged)
        self.place.ranks.agree(head)

    def _stage_two(self) -> None:
        learner = self._learner(frozen=False)
        shares = FROM_SCRATCH if self.plan.from_scratch else SHARES
        rates = slice(*(self.trained.rate * share for share in shares))
        self._fit(learner, STAGE_TWO, self.plan.epochs_all, rates, self._plain)

    def _learner(self, *, frozen: bool) -> Any:
        from training import learner

        made = learner.make(
            self.network,
            loaders(
                self.material,
                self.plan,
                self.place.device,
                workers=self.place.workers,
                ranks=self.place.ranks,
            ),
            self.network.groups(),
            scratch=self.scratch,
            part=self.trained.part,
            on_parted=self._parted,
        )
        if frozen:
            made.freeze()
        else:
            made.unfreeze()
        made.network = self.place.ranks.wrap(self.network)
        made.alone = self.place.ranks.alone
        return made

    def _sweep(self, learner: Any) -> None:
        """Find the rate; one that was given stays."""
        self.follower.stage(FINDER, 0, "sweep")
        randomness.seed_epoch(self.plan.seed, FINDER, 0, learner.dls, self.place.ranks.rank)
        found = find_rate(learner, self.follower.step, self.place.ranks)
        self.trained.finder = found
        self.trained.rate = self.plan.lr or found.chosen
        self.follower.finder(found)

    def _fit(
        self,
        learner: Any,
        stage: str,
        epochs: int,
        rate: float | slice,
        plain: Callable[[], tuple[float, float]],
    ) -> None:
        """The epochs of a stage that are still to do."""
        from training.learner import Following, Stepping

        done = self._restore(learner, stage)
        self.follower.stage(stage, epochs, _told(rate))
        if done >= epochs:
            return
        steps: list[float] = []

        def begin(epoch: int) -> None:
            steps.clear()
            randomness.seed_epoch(self.plan.seed, stage, epoch, learner.dls, self.place.ranks.rank)

        def step(loss: float, share: float) -> None:
            self.trained.losses.append(loss)
            if not math.isfinite(loss):
                raise Diverged(
                    f"the training loss is {loss} at step {len(self.trained.losses)}, in {stage}; "
                    "give a lower --lr",
                    self.trained,
                )
            steps.append(loss)
            self.follower.step(share)

        def end(epoch: int, valid_loss: float, accuracy: float) -> None:
            plain_loss, plain_accuracy = plain()
            shown = Epoch(
                stage=stage,
                epoch=epoch + 1,
                train_loss=statistics.fmean(steps),
                valid_loss=valid_loss,
                accuracy=accuracy,
                plain_loss=plain_loss,
                plain_accuracy=plain_accuracy,
            )
            self.trained.history.append(shown)
            if learner.model is self.network:  # what runs on features is done again in seconds
                self._keep(learner, stage, epoch + 1)
            self.follower.epoch(shown)

        every = max(1, epochs * len(learner.dls.train) // UPDATES)
        watched = Stepping(_matrices(self.network.head), every, self.trained.updates.append)
        following = Following(first=done, begin=begin, step=step, end=end)
        with learner.added_cbs([following, watched]):
            learner.fit_one_cycle(epochs, rate, start_epoch=done)
        following.raise_caught()

    def _restore(self, learner: Any, stage: str) -> int:
        """Bring network and optimizer to the kept moment; returns the epochs done of the stage."""
        moment, self.moment = self.moment, None
        if moment is None or moment.stage != stage:
            return 0
        self.network.load_state_dict(moment.weights)
        device = self.place.device
        learner.opt.load_state_dict(
            {
                "state": [
                    {k: v.to(device) if hasattr(v, "to") else v for k, v in state.items()}
                    for state in moment.optimizer
                ],
                "hypers": learner.opt.hypers,
            }
        )
        return moment.epochs

    def _keep(self, learner: Any, stage: str, epochs: int) -> None:
        self.keeper.moment(
            Moment(
                stage=stage,
                epochs=epochs,
                trained=self.trained,
                weights=dict(self.network.state_dict()),
                optimizer=learner.opt.state_dict()["state"],
            )
        )

    def _plain(self) -> tuple[float, float]:
        """Loss and accuracy on a fixed part of train, in eval mode, unaugmented."""
        how = self.material.pictures.how
        model = evaluation.reference(self.network, how, self.place.device)
        rows = self.material.train[:PLAIN_IMAGES]
        return self._measured(evaluation.predicted(model, self.material.pictures, rows))

    def _measured(self, probabilities: Probabilities) -> tuple[float, float]:
        truth = self.material.places(self.material.train[: len(probabilities)])
        found = evaluation.metrics(probabilities, truth)
        return found["loss"], found["accuracy"]

    def _parted(self, images: int) -> None:
        self.trained.part = images
        self.follower.parted(images)


def _matrices(head: nn.Module) -> Sequence[torch.Tensor]:
    return [layer.weight for layer in head.modules() if isinstance(layer, nn.Linear)]


def _told(rate: float | slice) -> str:
    if isinstance(rate, slice):
        return f"slice({rate.start:.1e}, {rate.stop:.1e})"
    return f"{rate:.1e}"
