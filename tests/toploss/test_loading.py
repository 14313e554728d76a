import sys
import time

import numpy as np
import pytest
import torch

from tests.toploss.nets import IMAGES, bright_or_dark, expected, sealed, torch_version
from toploss import loading
from toploss.engine import Outputs
from toploss.errors import Broken


@pytest.fixture
def known(tmp_path):
    return sealed(tmp_path / "v", golden=(IMAGES, expected(IMAGES)), model=bright_or_dark())


def test_auto_is_onnx_on_the_processor(known):
    assert loading.load(known, engine="auto", device="cpu", threads=1).name == "onnx"


@pytest.mark.parametrize(
    "golden",
    [
        (IMAGES, expected(IMAGES)[:, ::-1].copy()),
        (IMAGES, expected(IMAGES) + np.float32(2e-4)),
        (IMAGES, np.full((4, 2), np.nan, np.float32)),
    ],
)
def test_a_version_that_disagrees_with_training_is_not_served(tmp_path, golden):
    loaded = sealed(tmp_path / "v", golden=golden, model=bright_or_dark())

    with pytest.raises(Broken, match=r"version v1 on onnx differs from training by .*; promote"):
        loading.load(loaded, engine="onnx", threads=1)


def test_a_small_difference_is_borne(tmp_path):
    golden = (IMAGES, expected(IMAGES) + np.float32(5e-5))

    assert loading.load(
        sealed(tmp_path / "v", golden=golden, model=bright_or_dark()), engine="onnx", threads=1
    )


@pytest.mark.parametrize(
    ("model", "golden"),
    [
        (b"no network", (IMAGES, expected(IMAGES))),
        (b"", (IMAGES, expected(IMAGES))),
        (bright_or_dark(), (IMAGES[:, :2], expected(IMAGES))),
        (bright_or_dark(), (IMAGES, np.zeros((4, 3), np.float32))),
    ],
)
def test_what_does_not_load_is_told(tmp_path, model, golden):
    loaded = sealed(
        tmp_path / "v", golden=tuple(np.ascontiguousarray(a) for a in golden), model=model
    )

    with pytest.raises(Broken, match=r"(?s)version v1 does not load: .*; promote another one"):
        loading.load(loaded, engine="onnx", threads=1)


def test_weights_of_another_network_do_not_load(tmp_path):
    loaded = sealed(
        tmp_path / "v", golden=(IMAGES, expected(IMAGES)), weights={"a": torch.zeros(1)}
    )

    with pytest.raises(Broken, match="does not load"):
        loading.load(loaded, engine="torch", device="cpu", threads=torch.get_num_threads())


@pytest.mark.parametrize("model", [b"no network", bright_or_dark()])
def test_auto_takes_pytorch_where_onnx_fails_or_disagrees(tmp_path, model):
    loaded, probabilities = torch_version(tmp_path / "v", model=model)

    made = loading.load(loaded, device="cpu", threads=torch.get_num_threads())

    assert made.name == "torch"
    np.testing.assert_allclose(made.probabilities(IMAGES), probabilities, atol=1e-6)
    with pytest.raises(Broken):
        loading.load(loaded, engine="onnx", threads=1)


def test_where_nothing_agrees_the_first_reason_is_told(tmp_path):
    wrong = (IMAGES, expected(IMAGES)[:, ::-1].copy())
    loaded = sealed(tmp_path / "v", golden=wrong, model=bright_or_dark())

    with pytest.raises(Broken, match="on onnx differs from training"):
        loading.load(loaded, device="cpu", threads=1)


@pytest.mark.parametrize("given", [{"engine": "torch"}, {"device": "cuda"}])
def test_an_installation_without_pytorch_says_what_it_lacks(known, monkeypatch, given):
    monkeypatch.setitem(sys.modules, "torch", None)

    with pytest.raises(Broken, match="torch is not installed here; set TOPLOSS_ENGINE and"):
        loading.load(known, **({"engine": "torch", "device": "cpu"} | given), threads=1)


class Timed:
    """An engine that takes its time."""

    name, lanes, largest = "onnx", 1, 2

    def __init__(self, seconds, told="timed", wrong=False):
        self.seconds, self.told, self.wrong = seconds, told, wrong

    def outputs(self, images, *, alone=True):
        time.sleep(self.seconds)
        shares = expected(images)
        return Outputs(logits=np.log(shares[:, ::-1] if self.wrong else shares), features=images)


@pytest.fixture
def offer(monkeypatch):
    """These engines are to be chosen from, as on a GPU; notes which of them are made."""
    monkeypatch.setattr(loading, "_fastest", {})
    made = []

    def offered(*engines):
        def makers(*_):
            def maker(engine):
                return lambda: made.append(engine) or engine

            return {engine.told: maker(engine) for engine in engines}, None

        made.clear()
        monkeypatch.setattr(loading, "_makers", makers)

    offered.made = made
    return offered


def test_auto_takes_the_fastest_of_those_that_agree(known, offer):
    slow, fast = Timed(0.05, "slow"), Timed(0.005, "fast")
    asides = []

    def aside(work):
        asides.append(work)
        return work()

    offer(slow, fast, Timed(0.1, "slower"), Timed(0, "wrong", wrong=True))

    assert loading.load(known, threads=1, aside=aside) is fast
    assert len(asides) == 4 + 3 * loading.TURNS  # a check of each, the turns of those that agree
    assert (
        10 < loading.images_per_s(slow, known, 0.2) < 41
    )  # two in a twentieth of a second, or later


def test_what_was_fastest_once_is_not_measured_again(known, offer):
    slow, fast = Timed(0.02, "slow"), Timed(0.001, "fast")
    offer(slow, fast)
    assert loading.load(known, threads=1) is fast

    offer(slow, fast)
    assert loading.load(known, threads=1) is fast
    assert offer.made == [fast]

    offer(slow, Timed(0, "fast", wrong=True))
    assert loading.load(known, threads=1) is slow

    offer(slow, fast)
    assert loading.load(known, threads=2) is fast  # with so many threads it is another question
    assert offer.made == [slow, fast]


def test_all_lanes_are_busy_while_it_is_measured(known):
    class Wide(Timed):
        lanes, largest = 4, 1

    assert loading.images_per_s(Wide(0.05), known, 0.3) > 45  # one lane alone would do 20


def test_both_ways_of_computing_are_held_against_training(known):
    asked = []

    class Witness(Timed):
        def outputs(self, images, *, alone=True):
            asked.append((len(images), alone))
            return super().outputs(images)

    loading.check(Witness(0), known)

    assert asked == [(2, True), (2, False)]
