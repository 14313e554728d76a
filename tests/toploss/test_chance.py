import numpy as np
import pytest
from scipy.stats import binomtest, fisher_exact

from toploss.chance import more_than, more_than_before

RNG = np.random.default_rng(0)
SIZES = [tuple(map(int, RNG.integers(1, 300, 2))) for _ in range(100)]


@pytest.mark.parametrize(("n", "before"), SIZES)
def test_it_is_fisher_s_and_the_binomial_s(n, before):
    hits, hits_before = int(RNG.integers(0, n + 1)), int(RNG.integers(0, before + 1))
    table = [[hits, n - hits], [hits_before, before - hits_before]]
    fisher = fisher_exact(table, alternative="greater").pvalue
    found = more_than_before(hits, n, hits_before, before)
    larger = hits * before > hits_before * n
    assert found == pytest.approx(fisher, rel=1e-6, abs=1e-12) if larger else found == 1

    exact = binomtest(hits, n, 0.1, alternative="greater").pvalue
    found = more_than(hits, n, 0.1)
    assert found == pytest.approx(exact, rel=1e-6, abs=1e-12) if hits > 0.1 * n else found == 1


def test_millions_are_told_at_once():
    assert 0 < more_than_before(10_400, 1_000_000, 100_000, 10_000_000) < 1e-3
    assert more_than_before(10_000, 1_000_000, 100_000, 10_000_000) == 1
    assert more_than(0, 0, 0.1) == 1
