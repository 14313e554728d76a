"""The two stages as the course has them, seen through a follower."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from toploss import network, snapshots
from toploss.home import Home
from toploss.network import Network
from toploss.plan import Plan
from training import randomness, recipe
from training.data import Pictures, loaders
from training.recipe import Epoch, Finder


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

    def finder(self, finder: Finder) -> None:
        self.stages.append(("found", len(finder.rates), f"{finder.chosen:.1e}"))


def train(home: Home, net: Network, notes: Notes, **settings: Any) -> dict[str, dict[str, Any]]:
    """Train a network on the home's data; returns its state at each checkpoint."""
    snapshot = snapshots.freeze(home)
    plan = Plan.from_settings(home.settings).but(
        size=32, batch_size=16, epochs_head=1, epochs_all=1, **settings
    )
    made = loaders(Pictures(home, 32), snapshot, plan, "cpu")
    states: dict[str, dict[str, Any]] = {}

    def checkpoint(stage: str, now: Network) -> None:
        states[stage] = {key: value.clone() for key, value in now.state_dict().items()}

    recipe.train(net, made, plan, notes, checkpoint)
    return states


def build(arch: str = "squeezenet1_1") -> Network:
    randomness.seed(7, 2)
    return network.build(arch, 3)


def test_the_head_learns_first_and_then_all_layers(learned_home: Callable[..., Home]) -> None:
    """Weights that the plan calls pretrained: the body stands still in stage one."""
    net, notes = build(), Notes()
    before = {key: value.clone() for key, value in net.state_dict().items()}

    states = train(learned_home(), net, notes, lr=4e-3)

    def moved(first: dict[str, Any], second: dict[str, Any], part: str) -> set[bool]:
        keys = [key for key in first if key.startswith(part) and key.endswith("weight")]
        return {not torch.equal(first[key], second[key]) for key in keys}

    assert moved(before, states["stage-1"], "body") == {False}
    assert moved(before, states["stage-1"], "head") == {True}
    assert moved(states["stage-1"], states["stage-2"], "body") == {True}
    assert notes.stages == [
        ("stage-1", 1, "4.0e-03"),
        ("stage-2", 1, "slice(1e-06, 4.0e-04)"),
    ]


def test_from_scratch_nothing_is_frozen(learned_home: Callable[..., Home]) -> None:
    net, notes = build(), Notes()
    before = {key: value.clone() for key, value in net.state_dict().items()}

    states = train(learned_home(), net, notes, lr=1e-3, weights="none")

    body = [key for key in before if key.startswith("body") and key.endswith("weight")]
    assert all(not torch.equal(before[key], states["stage-1"][key]) for key in body)


def test_a_rate_beyond_reason_ends_in_words(learned_home: Callable[..., Home]) -> None:
    net = build("resnet18")
    with torch.no_grad():
        net.head[-1].weight.fill_(float("nan"))  # type: ignore[union-attr]  # a layer of ours

    with pytest.raises(FloatingPointError, match=r"training loss is nan.*lower --lr"):
        train(learned_home(), net, Notes(), lr=1e-3, weights="none")


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
