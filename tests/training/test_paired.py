"""Two models on the same images: figures that were computed by hand or otherwise."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from training.paired import Paired, holm


def outcomes(holdout: int, discordance: float, difference: float) -> tuple[Paired, Any]:
    """Every outcome that is not hopelessly rare, and how probable each is, exactly."""
    won, left = (discordance + difference) / 2, (discordance - difference) / 2
    gained, lost = np.meshgrid(np.arange(holdout // 5), np.arange(holdout // 4), indexing="ij")
    chance = binom.pmf(gained, holdout, won) * binom.pmf(lost, holdout - gained, left / (1 - won))
    assert chance.sum() == pytest.approx(1, abs=1e-5)
    return Paired(samples=holdout, gained=gained, lost=lost), chance


COUNTS = [(0, 0), (3, 7), (7, 3), (0, 12), (30, 10)]


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("value", [-0.3, -0.02, 0.0, 0.1])
def test_the_variance_is_that_of_the_likeliest_rates(counts: tuple[int, int], value: float) -> None:
    """Found by looking at every rate of losses that goes with the difference."""
    gained, lost = counts
    losses = np.linspace(max(0, -value) + 1e-7, (1 - value) / 2 - 1e-7, 400_001)
    likely = gained * np.log(losses + value) + lost * np.log(losses)
    likely += (100 - gained - lost) * np.log(1 - 2 * losses - value)
    best = losses[likely.argmax()]

    found = Paired(samples=100, gained=gained, lost=lost)._variance(value)

    assert found == pytest.approx(2 * best + value - value**2, abs=1e-5)


def test_no_image_apart_is_known_by_hand() -> None:
    """z is (n·m − ½) / √(n·m·(1 − m)): the likeliest rate of losses is the margin itself."""
    pair = Paired(samples=200, gained=0, lost=0)

    score = (200 * 0.02 - 0.5) / np.sqrt(200 * 0.02 * 0.98)
    assert pair._score(-0.02) == pytest.approx(score)
    assert pair.above(-0.02) == pytest.approx(0.0385, abs=1e-4)


@pytest.mark.parametrize("counts", COUNTS)
def test_what_is_gained_one_way_is_lost_the_other(counts: tuple[int, int]) -> None:
    one = Paired(samples=100, gained=counts[0], lost=counts[1])
    other = Paired(samples=100, gained=counts[1], lost=counts[0])

    assert one.lower() == -other.upper()
    assert one.above(-0.05) == other.below(0.05)
    assert one.mcnemar() == other.mcnemar()


@pytest.mark.parametrize("counts", COUNTS)
def test_the_bound_is_what_the_test_refuses(counts: tuple[int, int]) -> None:
    pair = Paired(samples=100, gained=counts[0], lost=counts[1])

    chances = [float(pair.above(value)) for value in np.linspace(-0.9, pair.difference, 100)[:-1]]
    assert chances == sorted(chances)  # the more is asked, the less it is sure
    assert pair.above(pair.lower()) == pytest.approx(0.05, abs=1e-6)
    assert pair.lower() < pair.difference < pair.upper()


def test_mcnemar_is_the_binomial_of_the_images_apart() -> None:
    # 2 · (1 + 10 + 45 + 120) / 2^10
    assert Paired(samples=50, gained=3, lost=7).mcnemar() == pytest.approx(0.34375)
    assert Paired(samples=50, gained=0, lost=0).mcnemar() == 1


def test_as_many_samples_as_it_says_tell_four_times_of_five() -> None:
    """At 5 % apart and no difference. (A variance of 0.05 alone would give 773.)"""
    needed = Paired(samples=10_000, gained=250, lost=250).needed(-0.02)

    assert needed == pytest.approx(837, rel=0.01)
    pairs, chance = outcomes(round(needed), 0.05, 0.0)
    assert chance[pairs.above(-0.02) < 0.05].sum() == pytest.approx(0.8, abs=0.03)
    assert Paired(samples=100, gained=3, lost=5).needed(-0.02) == float("inf")


def test_images_by_themselves_are_worth_one_each_and_twins_less() -> None:
    chance = np.random.default_rng(0)
    candidate, production = (chance.random(400) < share for share in (0.9, 0.85))
    alone = Paired.of(candidate, production, np.arange(400))

    twice = Paired.of(np.repeat(candidate, 2), np.repeat(production, 2), np.arange(800) // 2)

    assert alone.design == pytest.approx(1)
    assert twice.design == pytest.approx(2)
    # Twins tell no more than one of them; the correction is of half an image, be it one or two.
    assert twice.lower() == pytest.approx(float(alone.lower()), abs=1e-6)


@pytest.mark.parametrize(("holdout", "discordance"), list(product((200, 1000), (0.05, 0.1, 0.15))))
def test_one_worse_by_the_margin_is_seldom_taken_for_good(holdout: int, discordance: float) -> None:
    pairs, chance = outcomes(holdout, discordance, -0.02)

    assert 0.02 < chance[pairs.above(-0.02) < 0.05].sum() <= 0.05


def test_holm_by_hand() -> None:
    """Of four at 5 %: 0.0125, then 0.0167, then 0.025, and none behind one that stands."""
    assert holm(np.array([0.03, 0.01, 0.016, 0.04])).tolist() == [False, True, True, False]
    assert holm(np.array([0.02, 0.02, 0.02])).tolist() == [False] * 3
    assert holm(np.array([])).tolist() == []
