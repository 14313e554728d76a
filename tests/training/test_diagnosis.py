"""Each rule on evidence with a known fault, and all of them on evidence without one."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.curve import Curve
from training.diagnosis import RULES, Finding, diagnose
from training.evidence import Evidence, Scored
from training.finder import Finder
from training.rules import Verdict
from training.trained import STAGE_ONE, STAGE_TWO, Epoch, Trained

LABELS = ("cat", "dog", "fox", "owl")
GUESSING = math.log(len(LABELS))
TABLE = Path(__file__).parents[2] / "docs" / "diagnosis.md"


def epoch(number: int, valid: float, plain: float, stage: str = STAGE_ONE) -> Epoch:
    return Epoch(
        stage=stage,
        epoch=number,
        train_loss=plain + 0.3,
        valid_loss=valid,
        accuracy=0.9,
        plain_loss=plain,
        plain_accuracy=0.95,
    )


def scored(images: int, *, sharpness: float = 12, wrong_labels: float = 0.0) -> Scored:
    """Answers of a network that is exactly as sure as it should be, on samples of which a share
    carries some other label. Right are 0.93 at the sharpness 12, 0.65 at 2."""
    chance = np.random.default_rng(5)
    logits = chance.normal(size=(images, len(LABELS))) * sharpness
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([chance.choice(len(LABELS), p=row) for row in shares])
    other = (truth + chance.integers(1, len(LABELS), images)) % len(LABELS)
    given = np.where(chance.random(images) < wrong_labels, other, truth)
    return Scored(probabilities=shares.astype(np.float32), truth=given)


def trained(**changes: Any) -> Trained:
    healthy = {
        "history": [
            epoch(1, 1.2, 1.0),
            epoch(2, 0.5, 0.3),
            epoch(1, 0.6, 0.25, STAGE_TWO),  # one-cycle raises it midway
            epoch(2, 0.45, 0.2, STAGE_TWO),
        ],
        "losses": [1.9, 1.4, 0.9, 0.7, 0.6, 0.5],
        "updates": [3e-3, 2e-2, 5e-3, 4e-4],
        "finder": Finder(
            rates=[1e-5, 1e-2, 1e-1],
            losses=[1.9, 0.8, 5.0],
            suggestions={"valley": 8e-4, "steep": 1e-3},
            chosen=9e-4,
            why="median",
        ),
        "rate": 9e-4,
    }
    return Trained(**{**healthy, **changes})  # type: ignore[arg-type]  # by name


NEVER_FELL = Finder(rates=[1e-5, 1e-2], losses=[1.0, 5.0], suggestions={}, chosen=3e-3, why="none")

HEALTHY = Evidence(
    labels=LABELS,
    counts=(100, 80, 120, 90),
    trained=trained(),
    from_scratch=False,
    valid=scored(300),
    test=scored(400),
    held_out=scored(800),
    dead=0.01,
    dead_before=0.01,
    curve=Curve(
        sizes=(50, 100, 200, 400),
        errors=(0.12, 0.10, 0.095, 0.094),
        doubled=0.093,
        interval=(0.090, 0.096),
        fall=(0.0, 0.004),
    ),
)


def of(rule: str, evidence: Evidence) -> Finding:
    return next(finding for finding in diagnose(evidence) if finding.rule == rule)


def found(evidence: Evidence) -> list[str]:
    return [f.rule for f in diagnose(evidence) if f.verdict is Verdict.FOUND]


def test_a_healthy_training_has_nothing_found_and_everything_judged() -> None:
    findings = diagnose(HEALTHY)

    assert [f.rule for f in findings] == [rule.name for rule in RULES]
    assert {f.rule: f.verdict for f in findings if f.verdict is not Verdict.CLEAR} == {}


@pytest.mark.parametrize(
    ("fault", "rules"),
    [
        (
            {"trained": trained(history=[epoch(1, 90, 60)], updates=[0.9])},
            ["diverged", "rate_too_high"],  # and nothing can be said of "underfit"
        ),
        (
            {"trained": trained(updates=[0.3]), "dead": 0.3},
            ["rate_too_high", "dead_filters"],
        ),
        (
            {"trained": trained(updates=[1e-4], history=[epoch(1, 1.3, 1.3)])},
            ["rate_too_low", "underfit"],
        ),
        ({"trained": trained(rate=1e-5, updates=[1e-4])}, ["rate_too_low"]),
        ({"trained": trained(rate=5e-3, updates=[0.2])}, ["rate_too_high"]),
        (
            {
                "trained": trained(
                    updates=[0.12],
                    history=[epoch(2, 0.5, 0.3), epoch(1, 0.9, 0.9 * GUESSING, STAGE_TWO)],
                )
            },
            ["rate_too_high"],
        ),
        ({"trained": trained(history=[epoch(1, 1.3, 0.8 * GUESSING)])}, ["underfit"]),
        (
            {"trained": trained(history=[epoch(1, 0.5, 0.4), epoch(2, 0.7, 0.01)])},
            ["overfit"],
        ),
        ({"dead": 0.2, "dead_before": 0.02}, ["dead_filters"]),
        ({"counts": (120, 10, 110, 100)}, ["imbalance"]),
        ({"held_out": scored(800, wrong_labels=0.1)}, ["label_noise"]),
        ({"held_out": None, "valid": scored(600, wrong_labels=0.12)}, ["label_noise"]),
        (
            {"curve": replace(HEALTHY.curve, doubled=0.06, fall=(0.01, 0.05))},  # type: ignore[type-var]  # it has a curve
            ["more_data"],
        ),
        ({"test": scored(60, sharpness=4)}, ["small_holdout"]),
    ],
)
def test_a_fault_is_found_and_only_it(fault: dict[str, Any], rules: list[str]) -> None:
    assert found(replace(HEALTHY, **fault)) == rules


def test_a_failed_training_is_diagnosed_by_what_it_left() -> None:
    """The loss was no number in the first epoch: no history, nothing predicted."""
    broken = Evidence(
        labels=LABELS,
        counts=(9, 9, 9, 9),
        trained=Trained(losses=[2.0, 80.0, math.nan], updates=[0.4, math.nan], rate=3.0),
        from_scratch=True,
        non_finite=True,
    )

    findings = diagnose(broken)

    assert found(broken) == ["diverged", "rate_too_high"]
    assert "no number any more at step 3" in of("diverged", broken).words
    # Strict JSON has no nan.
    assert json.loads(json.dumps([f.as_json() for f in findings], allow_nan=False))


def test_what_was_not_measured_cannot_be_told_and_says_what_it_takes() -> None:
    bare = replace(
        HEALTHY, valid=None, test=None, held_out=None, dead=None, dead_before=None, curve=None
    )
    findings = diagnose(bare)

    unknown = {f.rule for f in findings if f.verdict is Verdict.CANNOT_TELL}
    assert unknown == {"dead_filters", "label_noise", "more_data", "small_holdout"}
    assert all(f.remedy for f in findings if f.verdict is not Verdict.CLEAR)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"updates": [0.3]}, "rate_too_high"),
        (
            {"history": [epoch(2, 0.5, 0.3), epoch(1, 1.9, 1.1 * GUESSING, STAGE_TWO)]},
            "rate_too_high",
        ),
        ({"updates": [1e-4]}, "rate_too_low"),
    ],
)
def test_one_weak_sign_alone_tells_nothing(changes: dict[str, Any], rule: str) -> None:
    finding = of(rule, replace(HEALTHY, trained=trained(**changes)))

    assert finding.verdict is Verdict.CANNOT_TELL
    assert "may be too" in finding.words


def test_a_step_as_large_as_the_weights_needs_no_other_sign() -> None:
    wild = replace(HEALTHY, trained=trained(updates=[1.0]))

    assert of("rate_too_high", wild).verdict is Verdict.FOUND


def test_labels_that_are_wrong_cannot_be_learned() -> None:
    """More epochs would be the wrong advice."""
    history = [epoch(1, 1.3, 0.8 * GUESSING)]
    noisy = replace(
        HEALTHY, trained=trained(history=history), held_out=scored(800, wrong_labels=0.3)
    )

    assert of("underfit", noisy).verdict is Verdict.CANNOT_TELL


def test_a_loss_next_to_nothing_may_double() -> None:
    easy = trained(history=[epoch(1, 0.02, 0.01), epoch(2, 0.04, 0.001)])

    assert of("overfit", replace(HEALTHY, trained=easy)).verdict is Verdict.CLEAR


def test_on_few_images_of_valid_a_loss_may_rise_by_chance() -> None:
    rising = trained(history=[epoch(1, 0.6, 0.4), epoch(2, 0.72, 0.1)])

    assert of("overfit", replace(HEALTHY, trained=rising)).verdict is Verdict.FOUND
    few = replace(HEALTHY, trained=rising, valid=scored(60))
    assert of("overfit", few).verdict is Verdict.CLEAR


def test_little_learned_at_a_good_rate_is_no_sign_of_a_low_one() -> None:
    """Wrong labels or a hard set do that as well."""
    hard = replace(HEALTHY, trained=trained(history=[epoch(1, 1.3, 1.2)]))

    assert of("rate_too_low", hard).verdict is Verdict.CLEAR


def test_a_loss_that_rises_on_both_sides_is_no_overfitting() -> None:
    worse = trained(history=[epoch(1, 0.5, 0.2), epoch(2, 0.7, 0.4)])

    assert of("overfit", replace(HEALTHY, trained=worse)).verdict is Verdict.CLEAR


def test_overfitting_in_the_first_stage_is_seen_though_the_second_mends_it() -> None:
    history = [epoch(1, 0.5, 0.4), epoch(2, 3.0, 0.0), epoch(1, 0.5, 0.0, STAGE_TWO)]

    finding = of("overfit", replace(HEALTHY, trained=trained(history=history)))

    assert finding.verdict is Verdict.FOUND
    assert "0.50 after epoch 1 of stage-1 and is 3.00 at the end of stage-1" in finding.words


def test_dead_channels_of_pretrained_weights_are_theirs() -> None:
    as_they_came = replace(HEALTHY, dead=0.2, dead_before=0.18)

    assert of("dead_filters", as_they_came).verdict is Verdict.CLEAR
    # Random weights have some as well, and a training at a good rate wakes them.
    scratch = replace(as_they_came, from_scratch=True, trained=trained(losses=[1.0] * 93))
    assert of("dead_filters", scratch).verdict is Verdict.FOUND
    # After a few steps nothing can be said of them.
    short = replace(as_they_came, from_scratch=True, dead=0.17)
    assert of("dead_filters", short).verdict is Verdict.CANNOT_TELL


def test_imbalance_says_whether_it_does_harm() -> None:
    blind = scored(300)
    rare = blind.truth == 1
    blind.probabilities[rare] = [0.9, 0.05, 0.03, 0.02]  # the rare class is never answered

    harmless = of("imbalance", replace(HEALTHY, counts=(120, 10, 110, 100)))
    harmful = of("imbalance", replace(HEALTHY, counts=(120, 10, 110, 100), valid=blind))

    assert "'cat' has 120 training images, 'dog' has 10: 12.0 to 1" in harmful.words
    assert "clearly fewer. On" in harmful.words
    assert "a difference is not shown. On" in harmless.words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"counts": (120, 10, 110, 100)}, "as many fewer of the others."),
        ({"counts": (200, 10, 110, 100)}, "--balance raised the mean recall."),
        (
            {"counts": (120, 10, 110, 100), "from_scratch": True},
            "--balance raised the mean recall.",
        ),
    ],
)
def test_balance_is_advised_where_it_has_helped(changes: dict[str, Any], words: str) -> None:
    assert of("imbalance", replace(HEALTHY, **changes)).words.endswith(words)


def test_a_weak_network_s_errors_are_no_wrong_labels() -> None:
    """A third of its answers are wrong, but it was not sure of them."""
    weak = replace(HEALTHY, held_out=scored(800, sharpness=2))

    assert of("label_noise", weak).verdict is Verdict.CLEAR


def test_a_network_that_guesses_cannot_accuse_labels() -> None:
    guesses = scored(800)
    moved = replace(guesses, truth=np.roll(guesses.truth, 1))

    finding = of("label_noise", replace(HEALTHY, held_out=moved))

    assert finding.verdict is Verdict.CANNOT_TELL
    assert "has not learned" in finding.words


def test_few_held_out_images_cannot_tell_of_label_noise() -> None:
    few = replace(HEALTHY, held_out=None, valid=scored(60, wrong_labels=0.3))

    assert of("label_noise", few).verdict is Verdict.CANNOT_TELL


def test_a_wide_interval_of_wrong_labels_cannot_tell() -> None:
    unsure = of("label_noise", replace(HEALTHY, held_out=scored(150, wrong_labels=0.06)))

    low, high = unsure.numbers["interval"]
    assert low < 0.04 < unsure.numbers["share"] < high
    assert unsure.verdict is Verdict.CANNOT_TELL


def test_a_loss_without_bounds_on_valid_is_a_divergence_and_json() -> None:
    history = [epoch(1, 0.5, 0.4), epoch(2, math.inf, 0.3)]

    finding = of("diverged", replace(HEALTHY, trained=trained(history=history)))
    told = [f.as_json() for f in diagnose(replace(HEALTHY, trained=trained(history=history)))]

    assert finding.verdict is Verdict.FOUND
    assert json.dumps(told, allow_nan=False)


def test_a_wide_learning_curve_cannot_tell() -> None:
    assert HEALTHY.curve
    wide = replace(HEALTHY, curve=replace(HEALTHY.curve, doubled=0.06, fall=(-0.01, 0.07)))

    assert of("more_data", wide).verdict is Verdict.CANNOT_TELL


def test_a_small_holdout_says_how_many_images_it_takes() -> None:
    finding = of("small_holdout", replace(HEALTHY, test=scored(40, sharpness=4)))

    assert finding.numbers["wanted"] == math.ceil(1.96**2 * 0.9 * 0.1 / 0.05**2)
    assert f"about {finding.numbers['wanted']}" in finding.words


def test_every_rule_stands_in_the_table_for_readers() -> None:
    table = TABLE.read_text()

    assert [rule.name for rule in RULES if f"`{rule.name}`" not in table] == []


def test_a_sweep_that_never_fell_is_no_sign():
    rising = replace(HEALTHY, trained=trained(finder=NEVER_FELL, rate=3e-3))

    assert of("rate_too_high", rising).verdict is Verdict.CLEAR
