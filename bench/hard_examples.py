"""Whether learning from the hard examples alone is worth it, at equal CPU seconds.

Selective-Backprop (Jiang et al., "Accelerating Deep Learning by Focusing on the Biggest Losers",
2019): every batch goes forward; a sample goes backward with the probability that its loss, to the
power BETA, ranks at among the latest ones. What is saved buys further epochs, until both ways have
used as many CPU seconds. Small trainings, as those of `bench.diagnosis`: digits from scratch;
photographs in stage two, after a stage one that both share. With the labels as they are, and with
one in ten of them wrong.
"""

import statistics
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bench import faults, subjects
from bench.common import main, options
from bench.faults import DIGITS, HEALTHY, PHOTOS, Case, Pool
from toploss.network import Network
from toploss.plan import Plan
from training import evaluation, memory, randomness, recipe
from training.data import Material, loaders
from training.follower import Unheard

SEEDS = (0, 1, 2)
EPOCHS = {DIGITS: 8, PHOTOS: 5}  # of the plain way; the other has as many as its seconds allow
IMAGES = {DIGITS: 800, PHOTOS: 1200}
BETA = 1.0  # half of the samples go backward
LATEST = 1000  # losses that a new one is ranked among
NOISES = (HEALTHY, "10 % wrong")


def measure(quick: bool) -> dict[str, Any]:
    memory.keep_freed()
    torch.set_num_threads(1)
    pools = [faults.read_digits()]
    if subjects.TRASHNET.is_dir() and not quick:
        pools.append(faults.read_photos(subjects.TRASHNET, subjects.WEIGHTS / "squeezenet1_0.pth"))
    seeds = SEEDS[:1] if quick else SEEDS
    rows = []
    for pool, noise in product(pools, NOISES):
        pairs = [_pair(pool, noise, seed) for seed in seeds]
        rows.append(
            {
                "data": pool.name,
                "labels": noise,
                **{key: statistics.fmean(pair[key] for pair in pairs) for key in pairs[0]},
                "gains": [round(pair["selective"] - pair["plain"], 4) for pair in pairs],
            }
        )
        print(rows[-1], flush=True)
    return {"rows": rows}


def _pair(pool: Pool, noise: str, seed: int) -> dict[str, float]:
    """Accuracy on test, under true labels, and CPU seconds: the plain way, then the other, in as
    many seconds."""
    case = Case(data=pool.name, fault=noise, seed=seed, images=IMAGES[pool.name])
    drawn = faults.draw(case, pool)
    material = Material(
        pictures=faults.Held(pool),
        labels=pool.labels,
        train=pool.rows(drawn.train, drawn.given, "train"),
        valid=pool.rows(drawn.valid, drawn.given, "valid"),
    )
    test = pool.rows(drawn.test, pool.truth, "test")
    plan = case.plan()
    epochs = EPOCHS[pool.name]
    found: dict[str, float] = {}

    def judged(name: str, training: "_Training", epochs: int) -> None:
        found[f"{name}_seconds"] = training.run(epochs)
        model = evaluation.reference(training.net, material.pictures.how, "cpu")
        answers = evaluation.predicted(model, material.pictures, test).argmax(axis=1)
        found[name] = float((answers == pool.truth[drawn.test]).mean())
        found[f"{name}_epochs"] = epochs

    judged("plain", _Training(pool, material, plan, selective=False), epochs)
    # How much cheaper an epoch is, is seen in one.
    once = _Training(pool, material, plan, selective=True).run(1)
    judged(
        "selective",
        _Training(pool, material, plan, selective=True),
        max(1, round(found["plain_seconds"] / once)),
    )
    return found


class _Training:
    """A bare loop over the product's batches."""

    def __init__(self, pool: Pool, material: Material, plan: Plan, *, selective: bool) -> None:
        randomness.seed(plan.seed, 1)
        self.net: Network = pool.network()
        self._plan, self._selective = plan, selective
        self._peaks = [3e-3] * 3
        if not plan.from_scratch:
            trained = recipe.train(self.net, material, replace(plan, epochs_all=0), Unheard())
            low, high = recipe.SHARES
            self._peaks = [trained.rate * share for share in np.geomspace(low, high, 3)]
        self._dls = loaders(material, plan, "cpu")
        self._latest: deque[float] = deque(maxlen=LATEST)
        self._chance = np.random.default_rng(plan.seed)

    def run(self, epochs: int) -> float:
        """CPU seconds of so many epochs."""
        began = time.process_time()
        steps = epochs * len(self._dls.train)
        optimizer = torch.optim.AdamW(
            [{"params": group} for group in self.net.groups()], weight_decay=0.01
        )
        rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, self._peaks, total_steps=steps)
        self.net.train()
        for epoch in range(epochs):
            randomness.seed_epoch(self._plan.seed, "bare", epoch, self._dls)
            for images, truth in self._chosen(rate.step):
                loss = cross_entropy(self.net(images), truth)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch's
                optimizer.step()
        return time.process_time() - began

    def _chosen(self, seen: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches to learn from; `seen` is called for every batch that was looked at."""
        kept: list[tuple[Tensor, Tensor]] = []
        for batch, labels in self._dls.train:
            images, truth = torch.Tensor(batch), torch.as_tensor(labels)
            seen()
            if not self._selective:
                yield images, truth
                continue
            with torch.no_grad():
                losses = cross_entropy(self.net(images), truth, reduction="none").tolist()
            self._latest.extend(losses)
            ranks = np.searchsorted(np.sort(self._latest), losses) / len(self._latest)
            take = torch.from_numpy(self._chance.random(len(losses)) < ranks**BETA)
            kept.append((images[take], truth[take]))
            if sum(len(part) for _, part in kept) >= self._plan.batch_size:
                yield torch.cat([part for part, _ in kept]), torch.cat([part for _, part in kept])
                kept = []


if __name__ == "__main__":
    main(options("hard_examples", "one seed, the digits alone"), lambda args: measure(args.quick))
