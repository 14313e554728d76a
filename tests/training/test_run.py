"""One run from snapshot to verdict, on a real tiny training."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from threadpoolctl import threadpool_info

import training
from tests.conftest import BRIEF, COLOURS, QUICK, coloured, write_folder
from toploss import (
    artifact,
    attempts,
    loading,
    losses,
    models,
    network,
    outbox,
    records,
    runs,
    samples,
    snapshots,
    trials,
)
from toploss.attempts import Lease
from toploss.engine import OnnxEngine
from toploss.errors import BadInput, Cancelled, Fenced, Refused
from toploss.home import Home
from toploss.orders import Order
from toploss.plan import Plan
from toploss.preprocess import Limits, decode
from toploss.processes import identity
from toploss.scoring import Source
from toploss.settings import read_settings
from toploss.splits import Split
from training import checkpoints, trial
from training.data import Pictures
from training.run import Result


def test_a_run_learns_publishes_and_promotes(
    learned: tuple[Path, Result], learned_home: Callable[..., Home]
) -> None:
    result, home = learned[1], learned_home()

    assert result.metrics["test"]["accuracy"] > 0.8
    assert [(e["stage"], e["epoch"]) for e in result.history] == [
        *(("stage-1", epoch) for epoch in range(1, 5)),
        ("stage-2", 1),
    ]
    alias = models.production(home)
    assert alias is not None
    assert (alias.version, alias.generation) == (result.version, 1)
    shown = records.show(home, result.run)
    assert shown["state"] == "succeeded"
    assert shown["fingerprint"] == result.fingerprint
    assert "stage-1: epoch 4 of 4" in records.read_log(home, result.run)


def test_a_run_on_postgresql(
    open_home: Callable[..., Home], new_postgres: Callable[[], str], tmp_path: Path
) -> None:
    home = open_home(database_url=new_postgres(), threads=2)
    few = {"train": 4, "valid": 2, "test": 2}
    training.from_folder(write_folder(tmp_path / "images", few), home=home)

    result = training.fit(home=home, **BRIEF)

    assert records.show(home, result.run)["state"] == "succeeded"
    assert models.get(home, result.version).run == result.run


def test_the_artifact_is_whole_and_names_what_made_it(
    learned: tuple[Path, Result], learned_home: Callable[..., Home], tmp_path: Path
) -> None:
    home, result = learned_home(), learned[1]

    loaded = artifact.fetch(home, models.get(home, "production"), tmp_path / "version")

    manifest = loaded.manifest
    assert manifest["labels"] == sorted(COLOURS)
    assert manifest["snapshot"]["fingerprint"] == result.fingerprint
    assert set(manifest["files"]) == {
        *(artifact.WEIGHTS, artifact.ONNX, artifact.GOLDEN, artifact.FEATURES, artifact.TRAITS),
        *artifact.NCNN,
    }
    assert manifest["settings"]["arch"] == QUICK["arch"]
    assert manifest["metrics"] == result.metrics
    assert manifest["gate"]["verdict"] == "promote"
    assert max(manifest["parity"]["difference"].values()) < 1e-4
    assert not list(tmp_path.rglob("*.pkl"))
    report = home.blobs.get(f"versions/{result.version}/report.html").decode()
    assert "Confusion on test" in report
    assert "http" not in report.replace("http://www.w3.org", "")


@pytest.mark.parametrize("name", ["ncnn", "onnx", "torch"])
def test_serving_gives_training_s_probabilities_for_the_same_file(
    learned_home: Callable[..., Home], tmp_path: Path, name: loading.Choice
) -> None:
    home = learned_home()
    loaded = artifact.fetch(home, models.get(home, "production"), tmp_path / "version")

    made = loading.load(loaded, engine=name, device="cpu", threads=2)

    golden = load_file(loaded.folder / artifact.GOLDEN)
    snapshot = snapshots.freeze(home)
    first = snapshot.of_split("valid")[: len(golden["images"])]
    files = [home.blobs.get_image(row.id) for row in first]
    images = np.stack([decode(file, loaded.preprocessing.size, Limits()) for file in files])
    assert (images == golden["images"]).all()
    assert np.abs(made.probabilities(images) - golden["probabilities"]).max() < 1e-4


def test_named_checkpoints_load_again(
    learned: tuple[Path, Result], learned_home: Callable[..., Home]
) -> None:
    home, result = learned_home(), learned[1]
    one, two = (network.build(QUICK["arch"], len(COLOURS)) for _ in range(2))

    for stage, net in (("stage-1", one), ("stage-2", two)):
        kept = home.blobs.get(checkpoints.path(result.run, stage))
        net.load_state_dict(network.read_weights(kept, "stage.safetensors"))

    published = home.blobs.get(f"versions/{result.version}/{artifact.WEIGHTS}")
    final = network.read_weights(published, artifact.WEIGHTS)
    assert all(torch.equal(final[key], value) for key, value in two.state_dict().items())
    assert any(not torch.equal(final[key], value) for key, value in one.state_dict().items())


def test_what_a_version_called_the_holdout_is_kept(
    learned: tuple[Path, Result], learned_home: Callable[..., Home]
) -> None:
    home, result = learned_home(), learned[1]

    with home.db.read() as connection:
        (measured,) = trials.measured(connection)

    assert (measured.version, measured.production) == (result.version, True)
    assert measured.at_training == {**result.metrics["test"], "samples": 24}
    assert measured.today == {"accuracy": result.metrics["test"]["accuracy"], "samples": 24}


def test_a_candidate_is_tried_beside_production_on_the_same_samples(
    learned: tuple[Path, Result], learned_home: Callable[..., Home], tmp_path: Path
) -> None:
    home = learned_home()
    loaded = artifact.fetch(home, models.get(home, "production"), tmp_path / "version")
    snapshot = snapshots.freeze(home)
    engine = OnnxEngine(loaded, threads=1)

    itself = trial.Candidate(name="itself", loaded=loaded, engine=engine, snapshot=snapshot)
    judged = trial.judge(home, itself, Pictures(home, loaded.preprocessing))

    itself, production = judged.trial.called["itself"], judged.trial.called[learned[1].version]
    assert itself == production
    assert set(itself) <= set(snapshot.class_ids)
    assert list(judged.trial.ids) == [row.id for row in snapshot.of_split("test")]
    assert (judged.generation, judged.judgement.holdout) == (1, 24)
    assert judged.judgement.candidate == judged.judgement.production


def test_validation_samples_have_held_out_losses(learned_home: Callable[..., Home]) -> None:
    home = learned_home()

    page = losses.top(home, limit=100)

    alias = models.production(home)
    assert alias is not None
    assert page.version == alias.version
    assert page.total == len(page.items) == 3 * 5
    assert {item.split for item in page.items} == {"valid"}
    assert {item.source for item in page.items} == {Source.VALID}
    found = [item.loss for item in page.items]
    assert found == sorted(found, reverse=True)
    by_neighbours = losses.top(home, order=Order.NEIGHBOURS, limit=100).items
    assert all(0 <= item.score <= 1 for item in by_neighbours)


@pytest.fixture(scope="module")
def found(
    learned: tuple[Path, Result], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Home, Result]]:
    """A run that has found its rate by itself."""
    folder = tmp_path_factory.mktemp("found") / "home"
    shutil.copytree(learned[0], folder)
    home = Home.open(read_settings(home=folder, threads=2))
    yield home, training.fit(home=home, promote=False, **BRIEF | {"lr": "auto"})
    home.db.close()


@pytest.mark.parametrize("lr", ["auto", QUICK["lr"]])
def test_equal_runs_are_equal_to_the_last_digit(
    request: pytest.FixtureRequest,
    learned: tuple[Path, Result],
    learned_home: Callable[..., Home],
    lr: str | float,
) -> None:
    home = learned_home()
    if lr == "auto":
        first_home, first = request.getfixturevalue("found")
        second = training.fit(home=home, promote=False, **BRIEF | {"lr": lr})
    else:  # as the first was trained
        first_home, first = home, learned[1]
        told: list[float | None] = []  # seconds that it still takes, as one of its kind has ended
        second = training.fit(
            home=home,
            promote=False,
            watch=lambda *_: told.append(records.listed(home)[0]["left_s"]),
            **QUICK,
        )
        left = [seconds for seconds in told if seconds is not None]
        assert left[0] > left[-1]

    assert first.version != second.version
    assert first.fingerprint == second.fingerprint
    assert first.history == second.history
    assert first.metrics == second.metrics
    weights = [
        network.read_weights(
            home.blobs.get(f"versions/{result.version}/{artifact.WEIGHTS}"), artifact.WEIGHTS
        )
        for home, result in ((first_home, first), (home, second))
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_the_rate_finder_changes_nothing_that_follows(
    found: tuple[Home, Result], learned_home: Callable[..., Home]
) -> None:
    """Training at the rate that was found gives what finding it and going on gave."""
    home, result = found
    finder = records.show(home, result.run)["finder"]
    assert len(finder["rates"]) == len(finder["losses"]) > 50

    given = training.fit(home=learned_home(), promote=False, **BRIEF | {"lr": finder["chosen"]})

    assert given.history == result.history


def test_a_class_with_one_image_waits_and_the_run_says_so(
    learned_home: Callable[..., Home],
) -> None:
    home = learned_home()
    with home.db.write() as connection:
        from toploss import classes

        class_id = classes.ensure(connection, "violet", "test")
        kept = samples.keep(home, coloured("red", 9_999), "violet.png")
        samples.record(connection, home, kept, class_id, actor="test", among=(Split.TRAIN,))

    result = training.fit(home=home, promote=False, **BRIEF)

    assert "violet" not in models.get(home, result.version).manifest["labels"]
    assert "left out until there are more: class 'violet'" in records.read_log(home, result.run)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"arch": "resnet19"}, "resnet19.*torchvision"),
        ({"arch": "vit_b_16"}, "vit_b_16.*take vit_base_patch16_224"),
        ({"weights": "nowhere.pth"}, r"nowhere\.pth.*give a \.pth"),
        ({"size": 4}, "size 4"),
        ({"lr": -1.0}, "lr -1"),
        ({"epochs_head": 0, "epochs_all": 0}, "0 epochs"),
        ({"colour": "red"}, "'colour' is no setting"),
    ],
)
def test_wrong_settings_are_named(
    learned_home: Callable[..., Home], wrong: dict[str, object], words: str
) -> None:
    home = learned_home()

    with pytest.raises(BadInput, match=words):
        training.fit(home=home, **{**QUICK, **wrong})

    assert all(run["state"] in ("succeeded", "failed") for run in records.listed(home))


def test_weights_of_another_architecture_are_refused(
    learned_home: Callable[..., Home], tmp_path: Path
) -> None:
    file = tmp_path / "other.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, file)
    stages: list[str] = []

    with pytest.raises(BadInput, match="not one of resnet18: it lacks"):
        training.fit(
            home=learned_home(),
            watch=lambda stage, _done: stages.append(stage),
            **{**QUICK, "arch": "resnet18", "weights": str(file)},
        )

    assert stages == ["weights"]  # nothing that takes its time came first


def test_without_the_internet_it_says_so_before_it_reads_the_pictures(
    learned_home: Callable[..., Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, stages = learned_home(), list[str]()

    def away(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", away)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", away)

    with pytest.raises(BadInput, match=r"cannot be fetched.*--weights FILE"):
        training.fit(
            home=home,
            watch=lambda stage, _done: stages.append(stage),
            **{**QUICK, "arch": "resnet18", "weights": "default"},
        )

    assert stages == ["weights"]
    assert records.listed(home)[0]["error"].endswith("--weights none")


def test_one_training_at_a_time(learned_home: Callable[..., Home]) -> None:
    home = learned_home()
    plan = Plan.from_settings(home.settings)
    lease = runs.start(home, plan, owner=identity(), actor="test", promote=False)

    with pytest.raises(Refused, match=lease.run):
        training.fit(home=home, **QUICK)


def test_the_linear_algebra_keeps_to_the_threads_of_the_settings(
    learned_home: Callable[..., Home],
) -> None:
    """What is measured after the training is NumPy's and SciPy's work, and those ask nobody."""
    home = learned_home()
    home = Home.open(read_settings(home=home.settings.home, threads=1))
    seen: list[int] = []

    def watch(stage: str, _done: float) -> None:
        if stage == "diagnose":
            pools = threadpool_info()
            seen.extend(pool["num_threads"] for pool in pools if pool["user_api"] == "blas")

    training.fit(home=home, promote=False, watch=watch, **BRIEF)

    assert seen
    assert set(seen) == {1}


def test_a_cancelled_run_stops_and_leaves_no_version(learned_home: Callable[..., Home]) -> None:
    home = learned_home(lease_s=1.1)
    before = len(models.listed(home))

    def watch(stage: str, _done: float) -> None:
        if stage == "stage-1":
            runs.cancel(home, records.listed(home)[0]["id"])
            threading.Event().wait(0.5)

    with pytest.raises(Cancelled):
        training.fit(home=home, watch=watch, **QUICK | {"epochs_head": 50})

    assert records.listed(home)[0]["state"] == "cancelled"
    assert len(models.listed(home)) == before


def test_a_zombie_publishes_nothing(learned_home: Callable[..., Home]) -> None:
    """An attempt that was given up for lost comes back at the very end."""
    home = learned_home()
    before = len(models.listed(home))

    def watch(stage: str, _done: float) -> None:
        if stage == "publish":
            active = records.listed(home)[0]
            attempts.give_up(home, Lease(run=active["id"], fence=active["attempt"]), error="silent")

    with pytest.raises(Fenced):
        training.fit(home=home, watch=watch, **BRIEF)

    assert len(models.listed(home)) == before
    assert records.listed(home)[0]["state"] == "failed"


def test_a_later_run_is_compared_with_production(
    learned: tuple[Path, Result], refused_home: tuple[Home, dict[str, Any]]
) -> None:
    home, worse = refused_home

    assert worse["gate"]["verdict"] == "reject"
    assert worse["gate"]["against"] == learned[1].version
    production = models.production(home)
    assert production is not None
    assert (production.version, production.generation) == (learned[1].version, 1)
    manifest = models.get(home, worse["version"]).manifest
    assert json.dumps(manifest["gate"]["verdict"]) == '"reject"'
    outbox.address(home, ["somebody"])
    types = []
    while messages := outbox.due(home, ["somebody"]):
        types += [message.type for message in messages]
        outbox.told(home, messages[0])
    ended = "run.succeeded"  # told last: version and verdict are there by then
    assert types == ["version.promoted", ended, "version.refused", ended]


def test_what_was_decided_during_a_run_counts_toward_the_next(
    learned_home: Callable[..., Home],
) -> None:
    home = learned_home()

    def watch(stage: str, done: float) -> None:
        if stage == "evaluate":
            samples.add(
                home, coloured("red", 7_777), "red", name="new.png", actor="x", split=Split.TRAIN
            )

    training.fit(home=home, watch=watch, **BRIEF)

    assert snapshots.overview(home)["changed"] == 1


def test_the_same_work_is_not_done_again_unless_forced(
    learned: tuple[Path, Result], learned_home: Callable[..., Home]
) -> None:
    """Whoever asks over HTTP is not refused, for that takes the data: the run is, at its freeze."""
    home = learned_home()
    asked = runs.enqueue(home, reason="once more", actor="ann")["id"]
    lease = runs.claim(home, owner=identity())
    assert lease is not None

    with pytest.raises(Cancelled, match="nothing to learn"):
        training.run.execute(home, lease)

    shown = records.show(home, asked)
    assert (shown["state"], shown["version"]) == ("cancelled", None)
    assert f"run {learned[1].run} had the same data and settings" in shown["error"]
    assert shown["fingerprint"] == learned[1].fingerprint

    runs.enqueue(home, reason="once more", actor="ann")
    runs.enqueue(home, reason="even so", actor="ann", force=True)  # joins it
    lease = runs.claim(home, owner=identity())
    assert lease is not None
    forced = attempts.take_up(home, lease, owner=identity())
    training.run._not_again(home, lease, learned[1].fingerprint, forced)
