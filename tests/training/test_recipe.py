"""The two stages as the course has them, seen through a follower."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from toploss import network, snapshots
from toploss.home import Home
from toploss.network import Network
from toploss.plan import Plan
from toploss.preprocess import Preprocessing
from training import lesson, randomness, recipe
from training.checkpoints import Moment
from training.data import Pictures
from training.finder import Finder
from training.recipe import Diverged
from training.trained import Epoch, Trained


class Notes:
    """A follower that remembers."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int, str]] = []
        self.epochs: list[Epoch] = []

    def stage(self, name: str, epochs: int, rate: str) -> None:
        self.stages.append((name, epochs, rate))

    def step(self, done: float) -> None:
        assert 0 <= done <= 1

    def epoch(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)

    def parted(self, images: int) -> None:
        self.stages.append(("parted", images, ""))

    def finder(self, finder: Finder) -> None:
        self.stages.append(("found", len(finder.rates), f"{finder.chosen:.1e}"))


class Stages:
    """A keeper that remembers the network after each stage."""

    def __init__(self) -> None:
        self.states: dict[str, dict[str, Any]] = {}

    def last(self) -> None:
        return None

    def moment(self, moment: Moment) -> None:
        pass

    def stage(self, name: str, network: nn.Module) -> None:
        self.states[name] = {key: value.clone() for key, value in network.state_dict().items()}


def train(
    home: Home, net: Network, notes: Notes, **settings: Any
) -> tuple[Trained, dict[str, dict[str, Any]]]:
    """Train a network on the home's data; returns its course, and its state after each stage."""
    plan = Plan.from_settings(home.settings).but(
        **{"size": 32, "batch_size": 16, "epochs_head": 1, "epochs_all": 1, **settings}
    )
    keeper = Stages()
    snapshot = snapshots.freeze(home)
    material = lesson.material(Pictures(home, Preprocessing(size=32)), snapshot)
    trained = recipe.train(net, material, plan, notes, keeper=keeper)
    return trained, keeper.states


def build(arch: str = "squeezenet1_1") -> Network:
    randomness.seed(7, 2)
    return network.build(arch, 3)


def test_the_head_learns_first_and_then_all_layers(learned_home: Callable[..., Home]) -> None:
    """Weights that the plan calls pretrained: the body stands still in stage one."""
    net, notes = build(), Notes()
    before = {key: value.clone() for key, value in net.state_dict().items()}

    _, states = train(learned_home(), net, notes, lr=4e-3)

    def moved(first: dict[str, Any], second: dict[str, Any], part: str) -> set[bool]:
        keys = [key for key in first if key.startswith(part) and key.endswith("weight")]
        return {not torch.equal(first[key], second[key]) for key in keys}

    assert moved(before, states["stage-1"], "body") == {False}
    assert moved(before, states["stage-1"], "head") == {True}
    assert moved(states["stage-1"], states["stage-2"], "body") == {True}
    assert notes.stages == [
        ("features", 0, ""),
        ("lr-find", 0, "sweep"),
        *[told for told in notes.stages if told[0] == "found"],
        ("stage-1", 1, "4.0e-03"),
        ("stage-2", 1, "slice(4.0e-06, 1.3e-03)"),
    ]


def test_a_rate_that_was_given_is_shown_on_the_curve_and_stays(
    learned_home: Callable[..., Home],
) -> None:
    trained, _ = train(learned_home(), build(), Notes(), lr=7e-2)

    assert trained.finder is not None
    assert trained.rate == 7e-2 != trained.finder.chosen


def test_from_scratch_nothing_is_frozen(learned_home: Callable[..., Home]) -> None:
    net, notes = build(), Notes()
    before = {key: value.clone() for key, value in net.state_dict().items()}

    _, states = train(learned_home(), net, notes, lr=1e-3, weights="none")

    body = [key for key in before if key.startswith("body") and key.endswith("weight")]
    assert all(not torch.equal(before[key], states["stage-1"][key]) for key in body)


def test_a_rate_beyond_reason_ends_in_words(learned_home: Callable[..., Home]) -> None:
    net = build("resnet18")
    with torch.no_grad():
        net.head[-1].weight.fill_(float("nan"))  # type: ignore[union-attr]  # a layer of ours

    with pytest.raises(Diverged, match=r"training loss is nan.*lower --lr") as failed:
        train(learned_home(), net, Notes(), lr=1e-3, weights="none")

    assert len(failed.value.trained.losses) == 1


def test_a_sweep_that_suggests_nothing_falls_back_to_the_course_s_rate(
    learned_home: Callable[..., Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object) -> tuple[float, object]:
        raise IndexError

    for name in ("valley", "steep", "minimum"):
        monkeypatch.setattr(f"fastai.callback.schedule.{name}", nothing)
    notes = Notes()

    train(learned_home(), build(), notes, lr="auto")

    assert ("stage-1", 1, "3.0e-03") in notes.stages


@pytest.mark.parametrize("cache", [True, False])
def test_the_course_of_a_training_is_kept(learned_home: Callable[..., Home], cache: bool) -> None:
    notes = Notes()
    trained, _ = train(learned_home(), build(), notes, lr=4e-3, epochs_head=2, cache=cache)

    steps = 48 // 16
    assert trained.cached == cache
    assert [(e.stage, e.epoch) for e in trained.history] == [
        ("stage-1", 1),
        ("stage-1", 2),
        ("stage-2", 1),
    ]
    assert trained.history == notes.epochs
    assert len(trained.losses) == 3 * steps
    first = sum(trained.losses[:steps]) / steps
    assert trained.history[0].train_loss == pytest.approx(first)
    assert min(trained.updates) > 0
    assert max(trained.updates) < 1
    assert all(0 <= e.plain_accuracy <= 1 and e.plain_loss > 0 for e in trained.history)


def test_a_frozen_body_keeps_its_statistics_in_both_stages(
    learned_home: Callable[..., Home],
) -> None:
    net = build("resnet18")
    before = {k: v.clone() for k, v in net.state_dict().items() if "running" in k}

    train(learned_home(), net, Notes(), lr=4e-3, cache=False)

    after = net.state_dict()
    body = {torch.equal(before[key], after[key]) for key in before if key.startswith("body")}
    head = {torch.equal(before[key], after[key]) for key in before if key.startswith("head")}
    assert (body, head) == ({True}, {False})


def test_balance_draws_every_class_as_often(open_home: Callable[..., Home]) -> None:
    """48 of one class, 4 of the other: drawn by chance, but evenly."""
    from tests.conftest import coloured
    from toploss import classes, samples
    from toploss.splits import Split
    from training.data import loaders

    home = open_home()
    for label, number in (("blue", 48), ("red", 4)):
        classes.add(home, label, actor="test")
        for seed in range(number + 4):
            data = coloured(label, seed)
            split = [Split.VALID, Split.TEST, Split.TRAIN][min(seed // 2, 2)]
            samples.add(home, data, label, name="x.png", actor="test", split=split)
    material = lesson.material(Pictures(home, Preprocessing(size=32)), snapshots.freeze(home))
    plan = Plan.from_settings(home.settings).but(size=32, batch_size=4, balance=True)
    made = loaders(material, plan, "cpu")
    randomness.seed_epoch(1, "stage-1", 0, made)

    drawn = [label for _, labels in made.train for label in labels.tolist()]

    assert len(drawn) == 52
    assert 16 <= sum(drawn) <= 36
