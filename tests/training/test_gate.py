"""The first gate: verdicts with known answers."""

import numpy as np
import pytest

from training import gate
from training.gate import Verdict


def hits(right: int, of: int) -> np.ndarray:
    return np.arange(of) < right


@pytest.mark.parametrize(
    ("candidate", "verdict"),
    [(100, Verdict.PROMOTE), (96, Verdict.PROMOTE), (94, Verdict.PROMOTE), (93, Verdict.REJECT)],
)
def test_not_worse_by_more_than_the_margin(candidate: int, verdict: Verdict) -> None:
    judged = gate.compare(hits(candidate, 100), hits(96, 100), margin=0.02, against="old")

    assert judged.verdict is verdict
    assert judged.candidate == candidate / 100
    assert "production's 0.960 on 100 holdout samples" in judged.reason


@pytest.mark.parametrize(
    ("cannot_tell", "promoted"), [("better", False), ("hold", False), ("promote", True)]
)
def test_an_empty_holdout_cannot_tell(cannot_tell: str, promoted: bool) -> None:
    judged = gate.compare(hits(0, 0), hits(0, 0), margin=0.02, against="old")

    assert judged.verdict is Verdict.CANNOT_TELL
    assert gate.promotes(judged, cannot_tell) is promoted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("right", "verdict"), [(60, Verdict.REJECT), (67, Verdict.REJECT), (80, Verdict.PROMOTE)]
)
def test_the_first_version_beats_the_majority_beyond_doubt(right: int, verdict: Verdict) -> None:
    truth = np.array([0] * 60 + [1] * 40)

    assert gate.first(hits(right, 100), truth).verdict is verdict
