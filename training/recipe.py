"""The course's two-stage recipe, by fastai's Learner over our network.

Stage one trains the head on the frozen body, by one-cycle at the found rate or 3e-3; stage two
unfreezes and trains all layers by one-cycle at `slice(1e-6, rate / 10)`. (Howard and Gugger,
"fastai: A Layered API for Deep Learning", 2020; Smith, "Super-Convergence", 2018, for one-cycle.)
From scratch nothing is frozen: a random body that stands still spoils the recipe.
"""

import logging
import math
import statistics
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from toploss.network import Network
from toploss.plan import Plan
from training import randomness

log = logging.getLogger(__name__)

FALLBACK_RATE = 3e-3  # the course's, for a head on a pretrained body
LOWEST_RATE = 1e-6  # of the earliest layers in stage two
FINDER_STEPS = 100  # fewer make the suggestions unstable
SUGGESTED_WITHIN = (1e-5, 1e-1)  # what a sweep says beyond this is not believed

FINDER, STAGE_ONE, STAGE_TWO = "lr-find", "stage-1", "stage-2"


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What an epoch showed."""

    stage: str
    epoch: int  # within the stage, from 1
    train_loss: float  # fastai's: smoothed, augmented, under dropout
    valid_loss: float  # nats
    accuracy: float  # on valid


@dataclass(frozen=True, kw_only=True)
class Finder:
    """The rate finder's sweep and what was made of it."""

    rates: list[float]
    losses: list[float]  # smoothed, nats
    suggestions: dict[str, float]
    chosen: float
    why: str


class Follower(Protocol):
    """Hears how a training goes, and may end it by raising."""

    def stage(self, name: str, epochs: int, rate: str) -> None: ...

    def step(self, done: float) -> None:
        """After every batch; `done` is the share of the stage, 0 to 1."""

    def epoch(self, epoch: Epoch) -> None: ...

    def finder(self, finder: Finder) -> None: ...


@dataclass
class Trained:
    """What a recipe leaves beside the network that it trained in place."""

    history: list[Epoch] = field(default_factory=list)
    finder: Finder | None = None
    rate: float = FALLBACK_RATE  # stage one's peak

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(epoch) for epoch in self.history]


def train(
    network: Network,
    loaders: Any,
    plan: Plan,
    follower: Follower,
    checkpoint: Callable[[str, Network], None],
) -> Trained:
    """Train the network in place by both stages; `checkpoint` is handed it after each.

    The random state must be seeded before the loaders and the network are made. With and without
    the rate finder, what follows draws the same random numbers.

    Raises:
        FloatingPointError: a loss is not finite.
        Whatever the follower raises.
    """
    trained = Trained()
    with tempfile.TemporaryDirectory() as scratch:  # fastai parks weights there during the sweep
        learner = _learner(network, loaders, Path(scratch))
        _follow(learner, follower, trained)
        if plan.from_scratch:
            learner.unfreeze()
        else:
            learner.freeze()
        if plan.lr is None:
            follower.stage(FINDER, 0, "sweep")
            trained.finder = find_rate(learner, loaders)
            follower.finder(trained.finder)
        trained.rate = plan.lr or (trained.finder.chosen if trained.finder else FALLBACK_RATE)
        _stage(learner, STAGE_ONE, plan.epochs_head, trained.rate, follower)
        checkpoint(STAGE_ONE, network)
        learner.unfreeze()
        rates = slice(LOWEST_RATE, trained.rate / 10)
        _stage(learner, STAGE_TWO, plan.epochs_all, rates, follower)
        checkpoint(STAGE_TWO, network)
    return trained


def find_rate(learner: Any, loaders: Any) -> Finder:
    """Sweep the rate and choose: the median of what fastai's valley, steep and minimum suggest.

    Weights, optimizer and random state are as before.
    """
    from fastai.callback.schedule import minimum, steep, valley

    suggestions: dict[str, float] = {}
    with randomness.untouched(loaders), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fastai reads a deprecated corner of NumPy here
        with learner.no_bar(), learner.no_logging():
            learner.lr_find(num_it=FINDER_STEPS, show_plot=False, suggest_funcs=None)
        rates = [float(rate) for rate in learner.recorder.lrs]
        losses = [float(loss) for loss in learner.recorder.losses]
        # As fastai does: without the first tenth, nor the end where it diverges.
        judged = slice(FINDER_STEPS // 10, -5)
        for suggest in (valley, steep, minimum):
            try:
                rate = float(
                    suggest(
                        torch.tensor(rates[judged]), torch.tensor(losses[judged]), FINDER_STEPS
                    )[0]
                )
            except (IndexError, ValueError, RuntimeError):
                continue  # a short or early diverging sweep has no valley, or no slope
            if math.isfinite(rate) and SUGGESTED_WITHIN[0] <= rate <= SUGGESTED_WITHIN[1]:
                suggestions[suggest.__name__] = rate
    if not suggestions:
        chosen, why = FALLBACK_RATE, "the sweep suggests nothing usable: the course's 3e-3"
    else:
        chosen = statistics.median(suggestions.values())
        why = "median of " + ", ".join(f"{name} {rate:.1e}" for name, rate in suggestions.items())
    return Finder(rates=rates, losses=losses, suggestions=suggestions, chosen=chosen, why=why)


def _learner(network: Network, loaders: Any, scratch: Path) -> Any:
    from fastai.vision.all import (
        CrossEntropyLossFlat,
        Learner,
        ProgressCallback,
        accuracy,
    )

    learner = Learner(
        loaders,
        network,
        loss_func=CrossEntropyLossFlat(),
        metrics=[accuracy],
        splitter=lambda made: made.groups(),
        path=scratch,
    )
    learner.remove_cbs([cb for cb in learner.cbs if isinstance(cb, ProgressCallback)])
    learner.logger = _silent  # fastai prints a table to standard output, which is --json's
    return learner


def _stage(learner: Any, name: str, epochs: int, rate: Any, follower: Follower) -> None:
    told = f"slice({rate.start:.0e}, {rate.stop:.1e})" if isinstance(rate, slice) else f"{rate:.1e}"
    follower.stage(name, epochs, told)
    if epochs:
        learner.stage_name = name
        learner.fit_one_cycle(epochs, rate)


def _follow(learner: Any, follower: Follower, trained: Trained) -> None:
    from fastai.callback.core import Callback

    class Following(Callback):  # type: ignore[misc]  # fastai is untyped
        order = 60  # after fastai's Recorder

        def after_batch(self) -> None:
            if self.training and not math.isfinite(float(self.loss.detach())):
                raise FloatingPointError(
                    f"the training loss is {float(self.loss.detach())} at step {self.train_iter}; "
                    "give a lower --lr"
                )
            if self.training:
                follower.step(float(self.pct_train))

        def after_epoch(self) -> None:
            if not hasattr(self.learn, "stage_name") or not hasattr(self.learn, "recorder"):
                return
            _, train_loss, valid_loss, accuracy, *_ = self.recorder.log
            epoch = Epoch(
                stage=self.learn.stage_name,
                epoch=self.epoch + 1,
                train_loss=float(train_loss),
                valid_loss=float(valid_loss),
                accuracy=float(accuracy),
            )
            trained.history.append(epoch)
            follower.epoch(epoch)

    learner.add_cb(Following())


def _silent(*_: Any) -> None:
    pass
