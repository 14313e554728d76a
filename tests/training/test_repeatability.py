"""Equal trainings are equal to the last bit, whatever happens around them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import QUICK, into_bucket
from tests.toploss import given
from toploss import attempts, lineage, models, records, runs, snapshots
from toploss.artifact import WEIGHTS
from toploss.blobs import sha256
from toploss.errors import NotFound, Refused
from toploss.home import Home
from toploss.network import build
from toploss.plan import Plan
from toploss.processes import identity
from training import fit, lesson, recipe
from training.checkpoints import Checkpoints
from training.data import Pictures, preprocessing
from training.export import write_weights
from training.fitting import resume
from training.follower import Unheard
from training.recipe import Place
from training.replay import replay
from training.run import Result, execute
from training.trained import Epoch, Trained

THREADS = 2


class Stop(Exception):  # what happens
    pass


@dataclass
class Until(Unheard):
    """Ends the training when so many epochs are done."""

    epochs: int
    seen: list[Epoch] = field(default_factory=list)

    def epoch(self, epoch: Epoch) -> None:
        self.seen.append(epoch)
        if len(self.seen) == self.epochs:
            raise Stop


def learn(
    home: Home, plan: Plan, *, epochs: int = 100, run: str | None = None, workers: int = 0
) -> tuple[dict[str, torch.Tensor], Trained]:
    snapshot = snapshots.freeze(home)
    learned = lesson.learn(
        home,
        lesson.material(Pictures(home, preprocessing(plan)), snapshot),
        plan,
        Until(epochs),
        keeper=Checkpoints(home, run) if run else None,
        place=Place(workers=workers),
        threads=THREADS,
    )
    return learned.network.state_dict(), learned.trained


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) for key in first
    )


@pytest.fixture
def pretrained(learned_home: Callable[..., Home], tmp_path: Path) -> tuple[Home, Plan]:
    """A plan with a weights file, so that stage one learns on features."""
    home = learned_home()
    torch.manual_seed(1)
    file = tmp_path / "body.safetensors"
    write_weights(build("squeezenet1_1", 3), file)
    plan = Plan.from_settings(home.settings).but(
        arch="squeezenet1_1",
        weights=str(file),
        size=32,
        batch_size=16,
        epochs_head=2,
        epochs_all=2,
        lr=1e-3,
    )
    return home, plan.stored(home)


@pytest.fixture
def scratch(learned_home: Callable[..., Home]) -> tuple[Home, Plan]:
    home = learned_home()
    return home, Plan.from_settings(home.settings).but(**{**QUICK, "epochs_head": 2})


@pytest.mark.parametrize("workers", [0, 2])
def test_processes_that_decode_change_nothing(scratch: tuple[Home, Plan], workers: int) -> None:
    once, first = learn(*scratch)
    again, second = learn(*scratch, workers=workers)

    assert equal(once, again)
    assert first == second


@pytest.mark.parametrize("cache", [True, False])
def test_the_rate_finder_changes_nothing_that_follows(
    pretrained: tuple[Home, Plan], cache: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, plan = pretrained
    plan = replace(plan, cache=cache)
    found, with_finder = learn(home, replace(plan, lr=None))
    beside, judged = learn(home, replace(plan, lr=with_finder.rate))
    monkeypatch.setattr(recipe, "find_rate", None)
    train = partial(recipe.train, sweep_anyway=False)
    monkeypatch.setattr(lesson.recipe, "train", train)
    given, without = learn(home, replace(plan, lr=with_finder.rate))

    assert with_finder.finder is not None
    assert without.finder is None
    assert (judged.finder is not None) == cache
    assert equal(found, beside)
    assert equal(found, given)
    assert with_finder.history == without.history


@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
@pytest.mark.parametrize("cache", [True, False])
def test_stopped_after_any_epoch_and_taken_up_again(
    pretrained: tuple[Home, Plan], epochs: int, cache: bool
) -> None:
    home, plan = pretrained
    plan = replace(plan, cache=cache)
    whole, first = learn(home, plan)
    with pytest.raises(Stop):
        learn(home, plan, epochs=epochs, run="x")
    resumed, second = learn(home, plan, run="x")

    assert equal(whole, resumed)
    assert first == second


def test_from_scratch_as_well(scratch: tuple[Home, Plan]) -> None:
    whole, first = learn(*scratch)
    for epochs in (1, 1):  # twice in a row
        with pytest.raises(Stop):
            learn(*scratch, epochs=epochs, run="x")
    resumed, second = learn(*scratch, run="x")

    assert equal(whole, resumed)
    assert first == second


def test_a_run_that_broke_is_resumed_with_the_data_and_settings_it_had(
    learned: tuple[Path, Result],
    learned_home: Callable[..., Home],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, home = learned[1], learned_home()
    kept = attempts.note

    def break_off(home: Home, lease: Any, **fields: Any) -> None:
        kept(home, lease, **fields)
        if len(fields.get("history", [])) == 3:
            raise Stop

    monkeypatch.setattr(attempts, "note", break_off)
    with pytest.raises(Stop):
        fit(home=home, **QUICK)
    monkeypatch.setattr(attempts, "note", kept)
    broken = records.listed(home)[0]
    assert broken["state"] == "failed"

    result = resume(broken["id"], home=home)

    assert result.run == broken["id"]
    assert result.history == whole.history
    assert digest(home, result.version) == digest(home, whole.version)
    assert Checkpoints(home, result.run).last() is None  # nothing is left lying about
    with pytest.raises(Refused, match="nothing to resume"):
        resume(broken["id"], home=home)
    with pytest.raises(NotFound):
        resume("nothing", home=home)


def test_in_a_bucket_a_run_that_broke_goes_on_and_a_retraining_begins_with_production(
    learned: tuple[Path, Result],
    learned_home: Callable[..., Home],
    new_s3: Callable[[], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As from a folder, to the last bit, and nothing of it lies on this machine."""
    whole, home = learned[1], learned_home(**new_s3(), retrain_start="shrink-perturb")
    folder = into_bucket(home)
    kept = attempts.note

    def break_off(home: Home, lease: Any, **fields: Any) -> None:
        kept(home, lease, **fields)
        if len(fields.get("history", [])) == 5:  # stage two's first epoch
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(attempts, "note", break_off)
        with pytest.raises(Stop):
            fit(home=home, **QUICK)
    broken = records.listed(home)[0]
    result = resume(broken["id"], home=home)

    assert result.history == whole.history
    assert digest(home, result.version) == digest(home, whole.version)
    assert Checkpoints(home, result.run).last() is None
    models.promote(home, result.version, reason="for the test", actor="ann")
    given.sample(home, 99, "red")
    runs.enqueue(home, reason="for the test", actor="ann")
    lease = runs.claim(home, owner=identity())
    assert lease is not None
    warm = execute(home, lease)

    (began, *_) = lineage.began_with(home, lease.run)
    assert (began.version, began.how) == (result.version, "shrink-perturb")
    assert warm.gate["against"] == result.version
    assert not folder.exists()
    assert not list((home.settings.home / "logs").rglob("*.txt"))


def test_a_run_that_broke_before_its_first_checkpoint_keeps_its_data(
    learned_home: Callable[..., Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = learned_home()

    def break_off(*_: Any, **__: Any) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(lesson, "learn", break_off)
        with pytest.raises(Stop):
            fit(home=home, **QUICK)
    broken = records.listed(home)[0]
    given.sample(home, 99, "red")

    assert resume(broken["id"], home=home).fingerprint == broken["fingerprint"]


def test_stage_two_again_from_the_network_that_stage_one_left(
    learned: tuple[Path, Result], learned_home: Callable[..., Home]
) -> None:
    whole, home = learned[1], learned_home()

    again = fit(home=home, start=f"{whole.run}/stage-1", **{"promote": False})

    assert again.history == [epoch for epoch in whole.history if epoch["stage"] == "stage-2"]
    assert digest(home, again.version) == digest(home, whole.version)
    with pytest.raises(NotFound, match="stage-3"):
        fit(home=home, start=f"{whole.run}/stage-3")


def test_a_replay_proves_an_old_run(learned_home: Callable[..., Home]) -> None:
    home = learned_home()
    run = records.listed(home)[0]["id"]

    found = replay(home, run, Unheard())

    assert found.equal
    assert found.words == "the same to the last bit"
    assert len(records.listed(home)) == 1  # it is no run


def test_a_replay_says_what_has_moved_since(
    learned_home: Callable[..., Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = learned_home()
    run = records.listed(home)[0]["id"]
    monkeypatch.setattr("training.randomness._derived", lambda *parts: len(str(parts)))
    monkeypatch.setattr("training.manifest.installed", lambda name: f"{name} of tomorrow")

    found = replay(home, run, Unheard())

    assert not found.equal
    assert not found.weights_equal
    assert found.first_difference is not None
    assert found.first_difference["epoch"] == 1
    assert found.moved["torch"][1] == "torch of tomorrow"
    assert "torch of tomorrow" in found.words


def test_killed_in_the_middle_and_resumed_on_the_command_line(
    learned: tuple[Path, Result], learned_home: Callable[..., Home]
) -> None:
    """SIGKILL to a training in stage one; `toploss runs resume` comes to the same weights."""
    whole, home = learned[1], learned_home()
    arguments = [
        part for key, value in QUICK.items() for part in (f"--{key.replace('_', '-')}", str(value))
    ]
    toploss = [str(Path(sys.executable).with_name("toploss"))]
    environment = {"TOPLOSS_HOME": str(home.settings.home), "TOPLOSS_THREADS": "2"}
    with subprocess.Popen(
        [*toploss, "train", *arguments],
        env={**_environment(), **environment},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "epoch 2 of 4" in line:
                process.send_signal(signal.SIGKILL)
                break
    run = records.listed(home)[0]["id"]
    subprocess.run(
        [*toploss, "runs", "resume", run], env={**_environment(), **environment}, check=True
    )

    found = records.show(home, run)
    assert found["state"] == "succeeded"
    assert found["history"] == whole.history
    assert digest(home, found["version"]) == digest(home, whole.version)


def digest(home: Home, version: str) -> str:
    return sha256(home.blobs.get(f"{models.get(home, version).path}/{WEIGHTS}"))


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("TOPLOSS_")}
