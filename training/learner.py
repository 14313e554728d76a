"""fastai's Learner as the recipe uses it: silent, and by parts where memory is short.

Importing this imports fastai, which takes seconds: import it late.
"""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from fastai.vision.all import (
    Callback,
    CancelFitException,
    CrossEntropyLossFlat,
    Learner,
    ProgressCallback,
    accuracy,
)
from torch import Tensor, nn

from toploss.errors import BadInput
from training import precision
from training.memory import exhausted, release

log = logging.getLogger("toploss.run")

FEWEST = 2  # images at once: batch norm has no statistics of one


class Parted(Learner):  # type: ignore[misc]  # fastai is untyped
    """Takes a batch in parts when it does not fit into memory as a whole.

    The gradients of the parts add up to the batch's, so the optimizer's steps are those of the
    batch, the last and smaller one of an epoch included; but batch norm sees the parts.
    """

    part: int | None = None  # images that go through the network at once; None: the batch
    alone = True  # no other process trains along
    on_parted: Callable[[int], None] = staticmethod(lambda _: None)  # hears of a smaller part
    network: Callable[[Tensor], Tensor]  # the module, or what wraps it for several processes

    def save(self, *_: Any, **__: Any) -> None:
        """A sweep's weights are kept by `find_rate`: fastai's file is the first process's alone,
        and its load makes that one wait for the others for ever."""

    def _do_one_batch(self) -> None:
        while not self._fits():
            # Outside the handler: its traceback would hold what has to be freed.
            self.opt.zero_grad()
            release()
        self("after_pred")
        self("after_loss")
        if self.training:
            self._with_events(self._step, "step", _Never)
            self.opt.zero_grad()

    def _fits(self) -> bool:
        """Predictions, loss and gradients of the batch; False: memory did not suffice, and the
        parts are half as large from now on."""
        (images,), (truth,) = self.xb, self.yb
        size = min(self.part or len(images), len(images))
        try:
            # Rather a part larger by one than a last one of a single image.
            number = min(math.ceil(len(images) / size), max(1, len(images) // FEWEST))
            self._by_parts(images, truth, number)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as exc:
            if not exhausted(exc) or size // 2 < FEWEST:
                raise
            if not self.alone:  # the others would wait for gradients of parts that they do not have
                raise BadInput(
                    f"out of memory with {size} images at once, and several processes cannot take "
                    "a batch in parts; give a smaller --batch-size"
                ) from exc
            self.part = math.ceil(size / 2)
            log.warning("out of memory with %d images at once; from now on %d", size, self.part)
            self.on_parted(self.part)
            return False
        return True

    def _by_parts(self, images: Tensor, truth: Tensor, number: int) -> None:
        predictions, total = [], torch.zeros((), device=images.device)
        for some, theirs in zip(
            images.tensor_split(number), truth.tensor_split(number), strict=True
        ):
            with precision.learning(images.device):
                made = self.network(some)
            loss = self.loss_func(made.float(), theirs) * (len(some) / len(images))
            if self.training:
                loss.backward()
            total = total + loss.detach()
            predictions.append(made.detach().float())
        self.pred, self.loss = torch.cat(predictions), total


class _Never(Exception):  # what fastai would take as "skip this": we never do
    pass


def make(
    module: nn.Module,
    loaders: Any,
    groups: Sequence[Sequence[nn.Parameter]],
    *,
    scratch: Path,
    part: int | None = None,
    on_parted: Callable[[int], None] = lambda _: None,
) -> Parted:
    """A learner of `module`, silent, with a parameter group of its own for each rate.

    Args:
        scratch: a folder where fastai parks weights during a sweep of the rate.
        part: images that go through the network at once; None: a batch.
    """
    # fastai draws random numbers when it first asks how many inputs a batch has: now, and not in an
    # epoch that has been seeded.
    assert all(loader.n_inp == 1 for loader in loaders)
    learner = Parted(
        loaders,
        module,
        loss_func=CrossEntropyLossFlat(),
        metrics=[accuracy],
        splitter=lambda _: [list(group) for group in groups],
        path=scratch,
        train_bn=False,  # batch norm of a frozen body learns nothing
    )
    learner.remove_cbs([cb for cb in learner.cbs if isinstance(cb, ProgressCallback)])
    learner.logger = _silent  # fastai prints a table to standard output, which is --json's
    learner.network, learner.part, learner.on_parted = module, part, on_parted
    return learner


class Calling(Callback):  # type: ignore[misc]
    """Calls back. fastai rewrites the errors that come out of a callback: ours end the fit, and are
    raised after it by `raise_caught`."""

    caught: BaseException | None = None

    def _call(self, heard: Callable[..., None], *args: Any) -> None:
        try:
            heard(*args)
        except Exception as exc:
            self.caught = exc
            raise CancelFitException from exc

    def raise_caught(self) -> None:
        if self.caught is not None:
            raise self.caught


class Following(Calling):
    """Calls back at the moments that the recipe is interested in."""

    order = 60  # after fastai's Recorder

    def __init__(
        self,
        *,
        first: int,
        begin: Callable[[int], None],
        step: Callable[[float, float], None],
        end: Callable[[int, float, float], None],
    ) -> None:
        self._first, self._begin, self._step, self._end = first, begin, step, end

    def before_epoch(self) -> None:
        if self.epoch >= self._first:
            self._call(self._begin, self.epoch)

    def after_batch(self) -> None:
        if self.training:
            self._call(self._step, float(self.loss), float(self.pct_train))

    def after_epoch(self) -> None:
        # A tensor for every step, strewn over the heap: none of it could be used again as a whole.
        self.recorder.losses.clear()
        if self.epoch >= self._first and self.caught is None:
            _, _, loss, hits, *_ = self.recorder.log
            self._call(self._end, self.epoch, float(loss), float(hits))


class Stepping(Callback):  # type: ignore[misc]
    """Measures how far single steps move some matrices, relative to their size."""

    def __init__(self, matrices: Sequence[Tensor], every: int, heard: Callable[[float], None]):
        self._matrices, self._every, self._heard = matrices, every, heard
        self._before: list[Tensor] | None = None

    def before_step(self) -> None:
        wanted = (self.epoch * self.n_iter + self.iter) % self._every == 0
        self._before = [matrix.detach().clone() for matrix in self._matrices] if wanted else None

    def after_step(self) -> None:
        if self._before is not None:
            moved = sum(
                float((now.detach() - was).norm() / was.norm().clamp_min(1e-12))
                for now, was in zip(self._matrices, self._before, strict=True)
            )
            self._heard(moved / len(self._matrices))


class Sweeping(Calling):
    """Lets somebody hear of every step of a sweep, and end it by raising."""

    def __init__(self, steps: int, heard: Callable[[float], None]) -> None:
        self._steps, self._heard = steps, heard

    def after_batch(self) -> None:
        self._call(self._heard, min(1.0, self.train_iter / self._steps))


def _silent(*_: Any) -> None:
    pass
