import json
from dataclasses import replace

import pytest

from toploss.errors import BadInput
from toploss.plan import Plan, Start
from toploss.settings import read_settings


@pytest.fixture
def plan(home):
    return Plan.from_settings(home.settings)


def test_the_defaults_are_those_of_the_settings():
    plan = Plan.from_settings(read_settings(train_lr="0.01", train_arch="resnet18", train_seed=7))

    assert (plan.arch, plan.lr, plan.seed) == ("resnet18", 0.01, 7)
    assert Plan.from_settings(read_settings()).lr is None


def test_a_plan_travels_as_json(plan):
    assert Plan.from_json(json.loads(json.dumps(plan.as_json()))) == plan


def test_a_warm_plan_travels_as_json(plan):
    warm = plan.again(Start.SHRINK, "versions/x/weights.safetensors")

    assert Plan.from_json(json.loads(json.dumps(warm.as_json()))) == warm
    assert warm.as_json()["warm"] == "shrink-perturb"


def test_a_retraining_begins_as_it_is_asked_to(plan):
    warm = plan.again(Start.FRESH_HEAD, "versions/x/weights.safetensors")

    assert (warm.start, warm.warm) == ("versions/x/weights.safetensors", Start.FRESH_HEAD)
    assert warm.again(Start.SHRINK, "y").start == "y"
    assert warm.again(Start.COLD, "y") == plan
    assert plan.again(Start.COLD, "y") == plan
    onward = replace(plan, start="runs/x/stage-1.safetensors", onward=True)
    assert onward.head_epochs == 0
    assert onward.again(Start.COLD, "y") == plan


def test_plans_that_differ_in_the_parts_of_a_batch_alone_make_the_same(plan):
    assert plan.but(part=8).equals(plan)
    assert not plan.but(part=8, seed=1).equals(plan)


def test_some_settings_changed(plan):
    changed = plan.but(size=64, seed=None, flip=False)

    assert (changed.size, changed.seed, changed.flip) == (64, plan.seed, False)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sise": 1}, "'sise' is no setting of a training"),
        ({"size": 7}, "size 7 is not between 8 and 2048"),
        ({"batch_size": 1}, "batch_size 1 is not between"),
        ({"epochs_head": -1}, "epochs_head -1"),
        ({"epochs_head": 0, "epochs_all": 0}, "both stages have 0 epochs"),
        ({"seed": 2**32}, "seed 4294967296"),
        ({"lr": 0.0}, "lr 0 is not above 0"),
        ({"lr": float("nan")}, "lr nan"),
        ({"lr": 11.0}, "lr 11"),
    ],
)
def test_what_is_out_of_range_is_told(plan, change, says):
    with pytest.raises(BadInput, match=says):
        plan.but(**change)


def test_a_weights_file_is_kept_by_its_content(home, plan, tmp_path):
    file = tmp_path / "body.pth"
    file.write_bytes(b"weights")

    stored = plan.but(weights=str(file)).stored(home)
    file.write_bytes(b"others")

    assert home.blobs.get(stored.weights) == b"weights"
    assert stored.stored(home) == stored
    assert plan.but(weights=str(file)).stored(home).weights != stored.weights


@pytest.mark.parametrize("word", ["default", "none"])
def test_words_for_weights_are_no_files(home, plan, word):
    assert plan.but(weights=word).stored(home).weights == word


@pytest.mark.parametrize("name", ["", "nowhere.pth", "/", "weights", "images"])
def test_a_weights_file_that_is_not_there_is_told(home, plan, name):
    home.blobs.put("weights/x", b"")
    home.blobs.put("images/x", b"")

    with pytest.raises(BadInput, match=f"no weights file '{name}'"):
        plan.but(weights=name).stored(home)


def test_from_scratch(plan):
    assert plan.but(weights="none").from_scratch
    assert not plan.but(weights="default").from_scratch
