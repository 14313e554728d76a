from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from toploss import agreement


@pytest.mark.parametrize("seed", range(6))
def test_kappa_is_scikit_learn_s(seed):
    dice = np.random.default_rng(seed)
    first = dice.integers(0, 4, 200)
    second = np.where(dice.random(200) < seed / 6, first, dice.integers(0, 4, 200))

    found = agreement.agreement(Counter(zip(first.tolist(), second.tolist(), strict=True)))

    assert found.kappa == pytest.approx(cohen_kappa_score(first, second))
    assert found.pairs == 200
    assert found.agree == (first == second).sum()
    low, high = found.interval
    assert -1 <= low < found.kappa < high <= 1


def test_what_is_to_be_excluded_is_a_class_of_its_own():
    pairs = Counter({(1, 1): 20, (None, None): 15, (1, None): 5, (None, 1): 10})

    assert agreement.kappa(pairs) == pytest.approx(0.4)  # of a textbook's table


@pytest.mark.parametrize("pairs", [{}, {(1, 1): 30}, {(None, None): 2}])
def test_kappa_is_undefined_without_pairs_or_a_second_class(pairs):
    found = agreement.agreement(Counter(pairs))

    assert (found.kappa, found.interval) == (None, None)


def test_a_few_pairs_that_all_agree_are_not_certain():
    few, many = ({(1, 1): n, (2, 2): n} for n in (3, 300))

    assert agreement.kappa(Counter(few)) == 1
    assert agreement.interval(Counter(few))[0] < 0.3
    assert agreement.interval(Counter(many))[0] > 0.95
    assert agreement.interval(Counter({(1, 2): 3, (2, 1): 1}))[0] >= -1
