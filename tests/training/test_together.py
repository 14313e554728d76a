"""Two processes train one network: the same command under torchrun."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import QUICK
from toploss import snapshots
from toploss.errors import BadInput
from toploss.home import Home
from toploss.plan import Plan
from training import lesson, randomness
from training.data import Pictures, loaders, preprocessing
from training.ranks import Ranks


def test_two_processes_come_to_the_accuracy_of_one(learned_home: Callable[..., Home]) -> None:
    home = learned_home(threads=1)
    tools = Path(sys.executable).parent
    searched = {**QUICK, "lr": "auto"}  # by both, who must come to one rate
    options = [
        part
        for key, value in searched.items()
        for part in (f"--{key.replace('_', '-')}", str(value))
    ]
    done = subprocess.run(
        [
            *(str(tools / "torchrun"), "--standalone", "--nproc-per-node", "2", "--no-python"),
            *(str(tools / "toploss"), "train", *options, "--no-promote", "--json"),
        ],
        env=os.environ | {"TOPLOSS_HOME": str(home.settings.home), "TOPLOSS_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads(done.stdout)  # one process alone has spoken
    assert len(result["history"]) == 5
    assert result["metrics"]["test"]["accuracy"] >= 0.9  # one process: 1.0 on these colours


def test_each_process_takes_its_share_of_every_batch(learned_home: Callable[..., Home]) -> None:
    home = learned_home()
    plan = Plan.from_settings(home.settings).but(**QUICK)
    material = lesson.material(Pictures(home, preprocessing(plan)), snapshots.freeze(home))

    def order(ranks: Ranks) -> list[list[int]]:
        made = loaders(material, plan, "cpu", ranks=ranks)
        randomness.seed_epoch(1, "stage-1", 0, made, ranks.rank)
        return np.array(made.train.get_idxs()).reshape(-1, made.train.bs).tolist()

    alone = order(Ranks())
    first, second = (order(Ranks(rank=rank, world=2)) for rank in (0, 1))

    assert len(alone) == len(first) == 6
    assert [a + b for a, b in zip(first, second, strict=True)] == alone


def test_a_batch_too_small_to_share_is_refused() -> None:
    with pytest.raises(BadInput, match="batch of 4 images is too small for 3 processes"):
        Ranks(world=3).share(4)
