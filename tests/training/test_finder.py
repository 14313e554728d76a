"""What is made of a sweep."""

import math

from training.finder import _until_diverged

RATES = [1e-4, 1e-3, 1e-2, 1e-1]


def test_a_sweep_ends_where_its_loss_has_run_away() -> None:
    assert _until_diverged(RATES, [2.0, 1.0, 4.1, 0.5]) == (RATES[:3], [2.0, 1.0, 4.1])
    assert _until_diverged(RATES, [2.0, 1.0, 4.0, 0.5]) == (RATES, [2.0, 1.0, 4.0, 0.5])


def test_a_loss_that_is_no_number_is_no_part_of_it() -> None:
    assert _until_diverged(RATES, [2.0, 1.0, math.nan, 0.5]) == (RATES[:2], [2.0, 1.0])
    assert _until_diverged(RATES, [math.nan] * 4) == ([], [])
