"""Two processes train one network: the same command under torchrun."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import training
from tests.conftest import QUICK
from toploss import records, runs, snapshots
from toploss.errors import BadInput
from toploss.home import Home
from toploss.plan import Plan
from training import lesson, randomness
from training.data import Pictures, loaders, preprocessing
from training.ranks import Ranks
from training.run import BAD_DATA


def test_two_processes_come_to_the_accuracy_of_one(learned_home: Callable[..., Home]) -> None:
    home = learned_home(threads=1)
    searched = {**QUICK, "lr": "auto"}  # by both, who must come to one rate
    options = [
        part
        for key, value in searched.items()
        for part in (f"--{key.replace('_', '-')}", str(value))
    ]

    result = together(home, "train", *options, "--no-promote")

    assert len(result["history"]) == 5
    assert result["metrics"]["test"]["accuracy"] >= 0.9  # one process: 1.0 on these colours


@pytest.mark.slow
def test_two_processes_resume_what_one_began(learned_home: Callable[..., Home]) -> None:
    home = learned_home(threads=1)

    def watch(stage: str, _done: float) -> None:
        if stage == "stage-2":
            raise RuntimeError("the lights went out")

    with pytest.raises(RuntimeError):
        training.fit(home=home, promote=False, watch=watch, **QUICK)
    run = records.listed(home)[0]["id"]

    result = together(home, "runs", "resume", run)

    assert result["run"] == run
    assert result["metrics"]["test"]["accuracy"] >= 0.9


@pytest.mark.slow
def test_that_no_attempt_can_heal_it_is_told_by_the_exit_code(home: Home) -> None:
    """Of the training's own; torchrun's is 1 whatever went wrong."""
    run = str(runs.enqueue(home, reason="test", actor="test")["id"])
    runs.claim(home, owner="test")
    command = [sys.executable, "-m", "training.together", "2", run, "--fence", "1"]
    env = os.environ | {"TOPLOSS_HOME": str(home.settings.home), "TOPLOSS_DEVICE": "cpu"}

    done = subprocess.run(command, env=env, capture_output=True, check=False)

    assert done.returncode == BAD_DATA, done.stderr.decode()
    assert records.show(home, run)["state"] == "failed"  # of no data at all


def together(home: Home, *command: str) -> Any:
    """What the first of two processes says."""
    tools = Path(sys.executable).parent
    done = subprocess.run(
        [
            *(str(tools / "torchrun"), "--standalone", "--nproc-per-node", "2", "--no-python"),
            *(str(tools / "toploss"), *command, "--json"),
        ],
        env=os.environ
        | {
            "TOPLOSS_HOME": str(home.settings.home),
            "TOPLOSS_THREADS": "1",
            "TOPLOSS_DEVICE": "cpu",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)  # one process alone has spoken


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
