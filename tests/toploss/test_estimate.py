import numpy as np
import pytest

from toploss.estimate import LEAST, Left, Word, remaining


def world(seed, *, noise, size=3000, sure=1.0):
    """Losses of a list, worst first, and which labels are wrong; the model errs both ways."""
    chance = np.random.default_rng(seed)
    wrong = chance.random(size) < noise
    odds = sure * np.where(wrong, chance.normal(3, 2, size), chance.normal(-4, 2, size))
    losses = np.logaddexp(0, odds)
    order = np.argsort(-losses)
    return losses[order], wrong[order]


def said(losses):
    """By a model of two classes: it agrees where the label is the likelier."""
    return Word(losses, losses < np.log(2))


def after(losses, wrong, reviewed):
    rest = losses[reviewed:]
    left = Left(said(rest), np.ones(len(rest)))
    return remaining(said(losses[:reviewed]), wrong[:reviewed], left)


def test_nothing_is_said_of_a_handful():
    losses, wrong = world(0, noise=0.1)
    assert after(losses, wrong, LEAST - 1) is None
    assert after(losses, wrong, LEAST) is not None


@pytest.mark.parametrize("sure", [1.0, 2.0], ids=["calibrated", "too sure"])
@pytest.mark.parametrize("noise", [0.03, 0.1])
def test_the_interval_holds_the_truth_where_a_tenth_is_reviewed(noise, sure):
    held = 0
    for seed in range(20):
        losses, wrong = world(seed, noise=noise, sure=sure)
        found = after(losses, wrong, 300)
        held += found.low <= wrong[300:].sum() <= found.high
        assert found.low <= found.errors <= found.high
    assert held >= 15  # of 90 %, in 20 worlds


def test_it_follows_what_reviewers_find():
    losses, _ = world(0, noise=0.1)
    none, all_of_them = np.zeros(len(losses), bool), np.ones(len(losses), bool)
    assert after(losses, none, 300).high < 0.02 * len(losses)
    assert after(losses, all_of_them, 300).errors > 5 * after(losses, none, 300).errors


def test_a_sample_of_what_is_left_stands_for_it():
    losses, wrong = world(0, noise=0.1)
    rest = losses[300:]
    left = Left(said(rest[::10]), np.full(len(rest[::10]), 10.0))
    few = remaining(said(losses[:300]), wrong[:300], left)
    assert few.errors == pytest.approx(after(losses, wrong, 300).errors, rel=0.2)


def test_where_nothing_is_left_nothing_is_wrong():
    losses, wrong = world(0, noise=0.1)
    found = remaining(said(losses), wrong, Left(said(np.zeros(0)), np.zeros(0)))
    assert (found.errors, found.low, found.high) == (0.0, 0.0, 0.0)


def test_losses_at_both_ends_are_finite():
    losses = np.array([0.0, 87.0] * 20)
    found = remaining(said(losses), losses > 1, Left(said(losses), np.ones(40)))
    assert np.isfinite([found.errors, found.low, found.high]).all()


def test_where_the_model_agrees_a_label_is_seldom_wrong():
    losses = np.full(200, 1.5)  # unsure of all
    decided = Word(losses[:40], np.zeros(40, bool))
    wrong = np.arange(40) < 20
    agreed, differing = (
        remaining(decided, wrong, Left(Word(losses, np.full(200, agrees)), np.ones(200))).errors
        for agrees in (True, False)
    )
    assert agreed < differing / 2
