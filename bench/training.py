"""Accuracy, time and memory of trainings, beside plain fastai and beside a bare PyTorch loop.

`trashnet-160` and ImageNet weights are looked for in `shared/` beside the project; without them the
digits alone are measured. Plain fastai is `Learner.fine_tune` over the same network, from the same
files, split as ours are, with its own defaults.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil
import torch
from PIL import Image

import training
from bench import subjects
from bench.common import main, options
from bench.subjects import Subject
from toploss import snapshots
from toploss.blobs import image_path
from toploss.home import Home
from toploss.network import Network
from toploss.plan import Plan
from toploss.settings import available_cores, read_settings
from toploss.snapshots import Row
from training import lesson, memory, randomness, recipe
from training.data import Pictures, loaders, preprocessing
from training.follower import Unheard
from training.trained import Epoch

PRETRAINED = ("squeezenet1_0", "mobilenet_v2")
SEEDS = (0, 1, 2)
PARTS = ("memory", "accuracy", "stage_one", "bare_loop")
ROUNDS = 3  # of epochs by us and by the bare loop in turn
MANY = 10_000  # images


def measure(quick: bool, only: str = "") -> dict[str, Any]:
    """Every part, or one alone: `memory`, `accuracy`, `stage_one`, `bare_loop`."""
    memory.keep_freed()
    seeds = SEEDS[:1] if quick else SEEDS
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="toploss-bench-") as scratch:
        folder = Path(scratch)
        if only in ("", "memory"):
            figures["memory"] = _memory(folder, MANY // 4 if quick else MANY)
        if only in ("", "accuracy"):
            figures |= {key: {} for key in ("accuracy", "fine_tune_accuracy", "seconds")}
            _against_fine_tune(figures, "digits", subjects.digits(folder), seeds)
        if not subjects.TRASHNET.is_dir():
            return figures | {"left_out": "trashnet-160: it is not there"}
        for arch in PRETRAINED[:1] if quick else PRETRAINED:
            subject = subjects.trashnet(folder, arch, size=96 if quick else 160)
            if only in ("", "stage_one"):
                figures.setdefault("stage_one", {})[arch] = _stage_one(subject, seeds)
            if only in ("", "bare_loop"):
                figures.setdefault("over_bare_loop", {})[arch] = _over_bare_loop(subject)
            if only in ("", "accuracy"):
                _against_fine_tune(figures, "trashnet-160", subject, seeds)
    if "stage_one" in figures:
        figures["stage_one_speedup"] = min(
            measured["speedup"] for measured in figures["stage_one"].values()
        )
    return figures


def _against_fine_tune(
    figures: dict[str, Any], data: str, subject: Subject, seeds: tuple[int, ...]
) -> None:
    """Test accuracy and seconds of the default recipe and of plain fastai, in turn."""
    arch = subject.plan.arch
    for seed in seeds:
        plan = replace(subject.plan, seed=seed)
        began = time.monotonic()
        learned = lesson.learn(
            subject.home, subject.material, plan, Unheard(), threads=available_cores()
        )
        seconds = time.monotonic() - began
        theirs, their_seconds = _fine_tune(subject, plan)
        for name, value in (
            ("accuracy", subject.judged(learned.network)),
            ("fine_tune_accuracy", subject.judged(theirs)),
        ):
            figures[name].setdefault(data, {}).setdefault(arch, []).append(value)
            print(f"{data} {arch} seed {seed} {name} {value:.4f}", flush=True)
        times = figures["seconds"].setdefault(data, {}).setdefault(arch, [])
        times.append({"ours": round(seconds), "fine_tune": round(their_seconds)})


def _fine_tune(subject: Subject, plan: Plan) -> tuple[Network, float]:
    """Plain fastai's two stages over the same network: as many epochs, its own rates."""
    from fastai.vision.all import CrossEntropyLossFlat, Learner, accuracy

    net = _plain(_fresh(subject, plan))
    learner = Learner(
        _plain_loaders(subject, plan),
        net,
        loss_func=CrossEntropyLossFlat(),
        metrics=[accuracy],
        splitter=lambda made: [[*made.body.parameters()], [*made.head.parameters()]],
    )
    began = time.monotonic()
    with learner.no_bar(), learner.no_logging():
        if plan.from_scratch:
            learner.fit_one_cycle(plan.epochs_head + plan.epochs_all, plan.lr)
        else:
            learner.fine_tune(plan.epochs_all, freeze_epochs=plan.epochs_head)
    return net, time.monotonic() - began


def _plain_loaders(subject: Subject, plan: Plan) -> Any:
    """As the course has them: from files, resized per item, augmented per batch."""
    from fastai.vision.all import (
        CategoryBlock,
        DataBlock,
        ImageBlock,
        IndexSplitter,
        Normalize,
        Resize,
        ResizeMethod,
        aug_transforms,
    )

    rows: list[Row] = [*subject.material.train, *subject.material.valid]
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock(vocab=list(subject.snapshot.labels))),
        get_x=lambda row: Path(subject.home.blobs.root) / image_path(row.id),
        get_y=lambda row: row.label,
        splitter=IndexSplitter(list(range(len(subject.material.train), len(rows)))),
        item_tfms=Resize(plan.size, method=ResizeMethod.Squish),
        batch_tfms=[
            *aug_transforms(do_flip=plan.flip, size=plan.size),
            Normalize.from_stats(subject.pictures.how.mean, subject.pictures.how.std, cuda=False),
        ],
    )
    return block.dataloaders(rows, bs=plan.batch_size, num_workers=0, device=torch.device("cpu"))


def _stage_one(subject: Subject, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Stage one alone, at the same rate: on cached features, with the body run in every epoch, and
    plain fastai's. Feature extraction counts."""
    from fastai.vision.all import CrossEntropyLossFlat, Learner

    times: dict[str, list[float]] = {"cached": [], "uncached": [], "fastai": []}
    hits: dict[str, list[float]] = {"cached": [], "uncached": [], "fastai": []}

    def took(name: str, net: Network, work: Callable[[], object]) -> None:
        began = time.monotonic()
        work()
        times[name].append(time.monotonic() - began)
        hits[name].append(subject.judged(net))
        print(f"stage one {name} {times[name][-1]:.1f} s {hits[name][-1]:.4f}", flush=True)

    for seed in seeds:
        plan = replace(subject.plan, seed=seed, lr=3e-3, epochs_all=0)
        for name, cache in (("cached", True), ("uncached", False)):
            net = _fresh(subject, plan)
            ours = replace(plan, cache=cache)
            took(
                name,
                net,
                lambda: recipe.train(net, subject.material, ours, Unheard(), sweep_anyway=False),  # noqa: B023 — called at once
            )
        net = _plain(_fresh(subject, plan))
        learner = Learner(
            _plain_loaders(subject, plan),
            net,
            loss_func=CrossEntropyLossFlat(),
            splitter=lambda made: [[*made.body.parameters()], [*made.head.parameters()]],
        )
        learner.freeze()
        with learner.no_bar(), learner.no_logging():
            took("fastai", net, lambda: learner.fit_one_cycle(plan.epochs_head, plan.lr))  # noqa: B023 — called at once
    pairs = zip(times["fastai"], times["cached"], strict=True)
    return {
        "speedup": statistics.median(theirs / ours for theirs, ours in pairs),
        "seconds": times,
        "accuracy": hits,
    }


def _over_bare_loop(subject: Subject) -> dict[str, float]:
    """Seconds of an epoch of stage two over those of a bare loop on the same batches, in turn.

    Ours has its evaluation on plain training images; `like_for_like` is without.
    """
    plan = replace(subject.plan, lr=3e-3, epochs_head=0, epochs_all=1)
    whole, like_for_like = [], []
    for _ in range(ROUNDS):
        net, clock = _fresh(subject, plan), _Parts()
        plain = recipe._Training._plain
        with mock.patch.object(recipe._Training, "_plain", clock.before(plain)):
            recipe.train(net, subject.material, plan, clock)
        bare = _bare(subject, plan)
        whole.append((clock.epoch_end - clock.begin) / bare)
        like_for_like.append((clock.last_step_and_valid - clock.begin) / bare)
    return {
        "with_plain_loss": statistics.median(whole),
        "like_for_like": statistics.median(like_for_like),
        "spread": max(like_for_like) - min(like_for_like),
    }


class _Parts(Unheard):
    """An epoch's beginning, its end, and when its evaluation on plain images began."""

    begin = last_step_and_valid = epoch_end = 0.0

    def stage(self, name: str, epochs: int, rate: str) -> None:
        self.begin = time.monotonic()

    def before(self, plain: Callable[[Any], tuple[float, float]]) -> Callable[[Any], Any]:
        def timed(training: Any) -> tuple[float, float]:
            self.last_step_and_valid = time.monotonic()
            return plain(training)

        return timed

    def epoch(self, epoch: Epoch) -> None:
        self.epoch_end = time.monotonic()


def _bare(subject: Subject, plan: Plan) -> float:
    """Seconds of an epoch in plain PyTorch: the same batches, the same arithmetic."""
    net = _fresh(subject, plan)
    net.fix_statistics(True)
    dls = loaders(subject.material, plan, "cpu")
    groups = zip(net.groups(), (1e-6, 1e-5, 3e-4), strict=True)
    optimizer = torch.optim.AdamW([{"params": list(g), "lr": rate} for g, rate in groups])
    randomness.seed_epoch(plan.seed, "bare", 0, dls)
    began = time.monotonic()
    net.train()
    for images, truth in dls.train:
        loss = torch.nn.functional.cross_entropy(net(torch.Tensor(images)), torch.as_tensor(truth))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()
    net.eval()
    with torch.no_grad():
        for images, _ in dls.valid:
            net(torch.Tensor(images))
    return time.monotonic() - began


def _plain(net: Network) -> Network:
    """With its weights laid out as PyTorch does by itself: ours lie channels last."""
    net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return net


def _fresh(subject: Subject, plan: Plan) -> Network:
    return lesson.build(subject.home, plan, subject.snapshot.labels, threads=available_cores())


def _memory(folder: Path, many: int) -> dict[str, Any]:
    """Memory of the process after each epoch on many images, half of which do not fit into the
    cache of decoded pictures; a few layers, since the images are what it is about."""
    images = folder / "many"
    chance = np.random.default_rng(0)
    for label in ("one", "two"):
        (images / label).mkdir(parents=True)
        for number in range(many // 2):
            noise = chance.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(noise).save(images / label / f"{number}.png", compress_level=1)
    home = Home.open(read_settings(home=folder / "many-home"))
    training.from_folder(images, home=home)
    plan = Plan.from_settings(home.settings).but(
        arch="squeezenet1_1", weights="none", size=32, epochs_head=3, epochs_all=3, lr=1e-3
    )
    snapshot = snapshots.freeze(home)
    pictures = Pictures(home, preprocessing(plan), cache_bytes=many // 2 * 3 * 32 * 32)
    weight = _Weight()
    lesson.learn(home, lesson.material(pictures, snapshot), plan, weight, threads=available_cores())
    return {
        "images": len(snapshot.rows),
        "after_each_epoch_mb": [round(size) for size in weight.sizes],
        "last_over_first": weight.sizes[-1] / weight.sizes[0],
    }


class _Weight(Unheard):
    """Resident memory after each epoch, in MiB."""

    def __init__(self) -> None:
        self.sizes: list[float] = []

    def epoch(self, epoch: Epoch) -> None:
        self.sizes.append(psutil.Process().memory_info().rss / 2**20)


if __name__ == "__main__":
    parser = options("training", "one seed, SqueezeNet at 96 pixels; fewer images for memory")
    parser.add_argument("--only", default="", choices=PARTS, help="one part")
    main(parser, lambda args: measure(args.quick, args.only))
