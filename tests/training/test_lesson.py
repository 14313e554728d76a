"""What a training begins with."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load as load_tensors

from toploss import records, runs, snapshots
from toploss.errors import Pruned
from toploss.home import Home
from toploss.network import Network
from toploss.plan import Plan, Start
from toploss.processes import identity
from toploss.schema import versions
from training import lesson
from training.data import Pictures, preprocessing
from training.follower import Unheard
from training.run import execute

LABELS = ("blue", "green", "red")


@pytest.fixture
def home(learned_home: Callable[..., Home]) -> Home:
    return learned_home()


@pytest.fixture
def plan(home: Home) -> Plan:
    """That of production's run."""
    return Plan.from_json(records.listed(home)[0]["settings"])


@pytest.fixture
def weights(home: Home) -> str:
    """Where production's network lies."""
    return f"versions/{records.listed(home)[0]['version']}/weights.safetensors"


def begun(home: Home, plan: Plan, labels: Sequence[str] = LABELS) -> dict[str, Any]:
    return lesson.build(home, plan, labels, threads=1).state_dict()


def of(state: dict[str, Any], part: str) -> list[str]:
    return [key for key in state if key.startswith(part) and state[key].is_floating_point()]


def test_a_fresh_head_stands_on_productions_body(home: Home, plan: Plan, weights: str) -> None:
    production, cold = load_tensors(home.blobs.get(weights)), begun(home, plan)

    made = begun(home, plan.again(Start.FRESH_HEAD, weights))

    assert all(torch.equal(made[key], production[key]) for key in of(made, "body."))
    assert all(torch.equal(made[key], cold[key]) for key in of(made, "head."))


def test_shrink_and_perturb_lies_between_production_and_a_cold_start(
    home: Home, plan: Plan, weights: str
) -> None:
    production, cold = load_tensors(home.blobs.get(weights)), begun(home, plan)

    made = begun(home, plan.again(Start.SHRINK, weights))

    for key in of(made, ""):
        torch.testing.assert_close(made[key], (production[key] + cold[key]) / 2)


@pytest.mark.parametrize("start", [Start.SHRINK, None])
def test_each_class_goes_on_with_what_is_known_of_it(
    home: Home, plan: Plan, weights: str, start: Start | None
) -> None:
    """Two classes have changed places, and one is new."""
    now = ("green", "blue", "yellow")
    production, cold = load_tensors(home.blobs.get(weights)), begun(home, plan, now)

    made = begun(home, replace(plan, start=weights, warm=start), now)

    last, kept = "head.6.weight", 0.5 if start else 1.0
    for place, label in enumerate(now[:2]):
        theirs = production[last][LABELS.index(label)]
        expected = torch.lerp(cold[last][place], theirs, kept)
        torch.testing.assert_close(made[last][place], expected)
    assert torch.equal(made[last][2], cold[last][2])


def test_a_version_that_was_pruned_is_no_beginning(home: Home, plan: Plan, weights: str) -> None:
    with home.db.write() as connection:
        connection.execute(versions.update().values(pruned_at=0.0))

    with pytest.raises(Pruned, match="was pruned on 1970-01-01"):
        begun(home, replace(plan, start=weights))


def test_with_more_classes_the_new_ones_begin_anew(home: Home, plan: Plan, weights: str) -> None:
    more = (*LABELS, "yellow")

    made = begun(home, replace(plan, start=weights), more)

    production, cold = load_tensors(home.blobs.get(weights)), begun(home, plan, more)
    assert torch.equal(made["head.6.weight"][:3], production["head.6.weight"])
    assert torch.equal(made["head.6.weight"][3], cold["head.6.weight"][3])


@pytest.mark.parametrize("start", [Start.SHRINK, Start.FRESH_HEAD])
def test_a_warm_retraining_holds_out_what_it_judges(
    home: Home, plan: Plan, weights: str, start: Start
) -> None:
    """Its folds begin as a cold start does: production knows what they are to be asked about."""
    snapshot = snapshots.freeze(home)
    warm = replace(plan.again(start, weights), epochs_head=0, epochs_all=1, lr=1e-3)
    material = lesson.material(Pictures(home, preprocessing(warm)), snapshot)

    learned = lesson.learn(home, material, warm, Unheard(), threads=1)

    first: Network = learned.build()
    cold = begun(home, plan)
    assert all(torch.equal(value, cold[key]) for key, value in first.state_dict().items())
    assert learned.features is None


def test_a_retraining_from_production_ends_with_a_version(
    learned_home: Callable[..., Home],
) -> None:
    home = learned_home(retrain_start="shrink-perturb")
    runs.enqueue(home, reason="try", actor="ann")
    lease = runs.claim(home, owner=identity())
    assert lease is not None

    result = execute(home, lease)

    kept = records.show(home, result.run)["settings"]
    assert kept["warm"] == "shrink-perturb"
    assert result.metrics["test"]["accuracy"] > 0.5
