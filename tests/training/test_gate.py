"""The gate: verdicts with known answers."""

import json
from dataclasses import replace

import numpy as np
import pytest

from training import gate
from training.gate import CannotTell, Judgement, LeftOut, Rules, Sheet, Verdict
from training.servability import Servability, compared

LABELS = ("cat", "dog")


def hits(right: int, of: int) -> np.ndarray:
    return np.arange(of) < right


def sheet(candidate: np.ndarray, production: np.ndarray, **more) -> Sheet:
    """Half of the images are cats, half of the right answers among them too; each by itself."""
    size = len(candidate)
    told = {
        "truth": np.arange(size) % 2,
        "groups": np.arange(size),
        "labels": LABELS,
    }
    return Sheet(candidate=candidate, production=production, **told | more)


def compare(candidate: np.ndarray, production: np.ndarray, **more) -> Judgement:
    return gate.compare(sheet(candidate, production, **more), Rules(), against="old")


def fits(slower: float, limit: float = 1.5) -> Servability:
    return compared("onnx", lambda: 100.0, lambda: 100.0 * slower, limit=limit)


@pytest.mark.parametrize(
    ("right", "verdict"),
    [
        (970, Verdict.PROMOTE),  # 10 gained
        (960, Verdict.PROMOTE),  # the same answers
        (955, Verdict.PROMOTE),  # 5 lost of 1,000: above -0.011
        (940, Verdict.CANNOT_TELL),  # 20 lost: the margin itself
        (900, Verdict.REJECT),  # 60 lost: below -0.048
    ],
)
def test_by_the_bound_of_the_difference(right: int, verdict: Verdict) -> None:
    judged = compare(hits(right, 1000), hits(960, 1000))

    assert judged.verdict is verdict
    assert (judged.holdout, judged.candidate, judged.production) == (1000, right / 1000, 0.96)
    assert judged.difference == pytest.approx((right - 960) / 1000)
    assert judged.lower is not None
    assert judged.upper is not None
    assert (judged.lower > -0.02) == (verdict is Verdict.PROMOTE)
    assert (judged.upper < -0.02) == (verdict is Verdict.REJECT)
    assert "production's 0.960 on 1000 holdout samples" in judged.reason
    json.dumps(judged.as_json(), allow_nan=False)


def test_a_larger_margin_never_makes_a_verdict_worse() -> None:
    order = [Verdict.REJECT, Verdict.CANNOT_TELL, Verdict.PROMOTE]
    found = [
        gate.compare(
            sheet(hits(930, 1000), hits(960, 1000)), Rules(margin=margin), against="old"
        ).verdict
        for margin in np.linspace(0, 0.1, 21)
    ]

    assert [order.index(one) for one in found] == sorted(order.index(one) for one in found)
    assert {*found} == {*order}


def test_a_small_holdout_cannot_tell_and_says_what_would() -> None:
    judged = compare(hits(23, 24), hits(22, 24))

    assert judged.verdict is Verdict.CANNOT_TELL
    assert judged.more is not None
    assert f"about {judged.more:,} more would" in judged.reason
    # As good as it was, on as many as that: mostly told.
    more = (24 + judged.more) // 24
    assert (
        compare(np.tile(hits(23, 24), more + 1), np.tile(hits(22, 24), more + 1)).verdict
        is Verdict.PROMOTE
    )


@pytest.mark.parametrize(
    ("right", "cannot_tell", "promoted"),
    [
        (22, "better", True),
        (21, "better", False),
        (22, "hold", False),
        (21, "promote", True),
    ],
)
def test_what_follows_when_it_cannot_tell(
    right: int, cannot_tell: CannotTell, promoted: bool
) -> None:
    judged = compare(hits(right, 24), hits(22, 24))

    assert judged.verdict is Verdict.CANNOT_TELL
    assert gate.promotes(judged, cannot_tell) is promoted


@pytest.mark.parametrize(
    ("cannot_tell", "promoted"), [("better", False), ("hold", False), ("promote", True)]
)
def test_an_empty_holdout_cannot_tell(cannot_tell: CannotTell, promoted: bool) -> None:
    judged = compare(hits(0, 0), hits(0, 0))

    assert judged.verdict is Verdict.CANNOT_TELL
    assert gate.promotes(judged, cannot_tell) is promoted


def test_near_duplicates_are_no_evidence_of_their_own() -> None:
    """Forty images are gained, but all of them show the same thing."""
    before, after = hits(900, 1000), hits(920, 1000)
    alone = compare(after, before)

    alike = np.arange(1000)
    alike[900:920] = 900
    together = compare(after, before, groups=alike)

    assert alone.design == pytest.approx(1)
    assert together.design is not None
    assert together.design > 5
    assert together.lower is not None
    assert alone.lower is not None
    assert together.lower < alone.lower


def test_a_class_that_fell_is_named_and_rejects() -> None:
    """All in all it is better: every dog right, and of two hundred cats fifty no more."""
    truth = (np.arange(2000) < 200).astype(int)  # 1: dog's place taken by the rare class
    before, after = np.ones(2000, bool), np.ones(2000, bool)
    before[200:400] = False
    after[:50] = False

    judged = compare(after, before, truth=truth, labels=("dog", "cat"))

    assert judged.difference is not None
    assert judged.difference > 0
    assert judged.verdict is Verdict.REJECT
    assert "class 'cat' fell by more than its margin of 0.1: 0.750 of its 200" in judged.reason
    assert [(one.label, one.fell) for one in judged.classes] == [("cat", True)]


def test_a_class_that_may_have_fallen_by_chance_does_not_reject() -> None:
    """Two of its four are lost, of twenty classes."""
    truth = np.concatenate([np.zeros(4, int), np.repeat(np.arange(1, 20), 100)])
    before, after = np.ones(1904, bool), np.ones(1904, bool)
    after[:2] = False

    judged = compare(after, before, truth=truth, labels=tuple("abcdefghijklmnopqrst"))

    assert judged.verdict is Verdict.PROMOTE
    assert [(one.label, one.candidate, one.fell) for one in judged.classes] == [("a", 0.5, False)]


@pytest.mark.parametrize(
    ("right", "of", "verdict"),
    [
        (8, 8, Verdict.PROMOTE),
        (4, 8, Verdict.PROMOTE),
        (3, 8, Verdict.CANNOT_TELL),
        (1, 8, Verdict.REJECT),  # 9 / 256: beyond doubt
        (7, 7, Verdict.CANNOT_TELL),  # too few
        (0, 0, Verdict.CANNOT_TELL),
    ],
)
def test_a_new_class_by_its_own_recall(right: int, of: int, verdict: Verdict) -> None:
    truth = np.concatenate([np.full(of, 2), np.arange(1000) % 2])
    before = np.concatenate([hits(0, of), hits(960, 1000)])
    after = np.concatenate([hits(right, of), hits(960, 1000)])

    judged = compare(after, before, truth=truth, labels=("cat", "dog", "eel"), new=("eel",))

    assert judged.verdict is verdict
    assert judged.holdout == 1000  # the pair is compared on what both know
    (eel,) = judged.new_classes
    assert (eel.label, eel.samples, eel.verdict) == ("eel", of, verdict)
    assert f"class 'eel' is new: right on {right} of its {of} holdout samples" in judged.reason
    assert gate.promotes(judged, "better") is (verdict is not Verdict.REJECT and right * 2 >= of)


def test_a_new_class_that_cannot_be_judged_yet_holds_up_no_better_one() -> None:
    """Five lost of a thousand are no doubt; the doubt is about the new class alone."""
    truth = np.concatenate([np.full(3, 2), np.arange(1000) % 2])
    before = np.concatenate([hits(0, 3), hits(960, 1000)])
    after = np.concatenate([hits(2, 3), hits(955, 1000)])

    judged = compare(after, before, truth=truth, labels=("cat", "dog", "eel"), new=("eel",))

    assert judged.verdict is Verdict.CANNOT_TELL
    assert judged.more is None
    assert gate.promotes(judged, "better")
    assert not gate.promotes(judged, "hold")


def test_what_was_left_out_is_told() -> None:
    left_out = LeftOut(learned=3, inherited=2, unknown=5, unseen=1)
    judged = compare(hits(960, 1000), hits(960, 1000), removed=("emu",), left_out=left_out)

    assert "production alone knows 'emu', which was not compared" in judged.reason
    assert "left out: 5 of classes that the candidate does not know" in judged.reason
    assert "left out: 3 that a version may have learned from" in judged.reason
    assert "left out: 2 more that a network which a version began with may have" in judged.reason
    assert "what 1 of the networks that a version is made of learned from" in judged.reason
    assert judged.as_json()["left_out"] == {
        "learned": 3,
        "inherited": 2,
        "unknown": 5,
        "unseen": 1,
    }
    first = gate.first(hits(90, 100), np.zeros(100, int), left_out=LeftOut(inherited=2))
    assert "left out: 2 that a network" in first.reason


@pytest.mark.parametrize("slower", [0.5, 1.0, 1.5])
def test_one_that_is_fast_enough_is_served(slower: float) -> None:
    assert fits(slower).fits


def test_one_that_is_too_slow_is_rejected_with_the_figures() -> None:
    same = sheet(hits(960, 1000), hits(960, 1000))

    judged = gate.compare(same, Rules(), against="old", servable=fits(1.6))

    assert judged.verdict is Verdict.REJECT
    assert "100 images/s on onnx, production 160: 1.60 times as slow, beyond the limit of 1.5" in (
        judged.reason
    )


def test_a_machine_that_is_busy_for_a_while_makes_no_candidate_slow() -> None:
    """Ours is disturbed in every turn of the first rounds but one of the last."""
    turns = iter([30.0] * 9 + [100.0] * 7)

    found = compared("onnx", lambda: next(turns), lambda: 100.0, limit=1.5)

    assert found.fits
    assert (found.images_per_s, found.slower) == (100, 1)


def test_one_lucky_turn_of_production_makes_no_candidate_slow() -> None:
    turns = iter([100.0] * 5 + [200.0] + [100.0] * 10)

    found = compared("onnx", lambda: 100.0, lambda: next(turns), limit=1.5)

    assert found.fits
    turns = iter([200.0] * 16)
    assert not compared("onnx", lambda: 100.0, lambda: next(turns), limit=1.5).fits
    turns = iter([200.0] + [100.0] * 15)  # looked at anew before it is called slow
    found = compared("onnx", lambda: 100.0, lambda: next(turns), limit=1.5)
    assert (found.fits, found.slower) == (True, 1)


@pytest.mark.parametrize(
    ("right", "verdict"), [(60, Verdict.REJECT), (67, Verdict.REJECT), (80, Verdict.PROMOTE)]
)
def test_the_first_version_beats_the_majority_beyond_doubt(right: int, verdict: Verdict) -> None:
    truth = np.array([0] * 60 + [1] * 40)

    assert gate.first(hits(right, 100), truth).verdict is verdict


def test_the_first_version_must_load_too() -> None:
    broken = replace(fits(1.0), fits=False, engine=None, words="version x does not load")
    truth = np.array([0] * 60 + [1] * 40)

    judged = gate.first(hits(90, 100), truth, servable=broken)

    assert (judged.verdict, judged.reason.endswith("does not load")) == (Verdict.REJECT, True)
