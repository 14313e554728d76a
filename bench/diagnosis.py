"""What the diagnosis finds of faults that were planted, and what it cries over on healthy runs.

Every case is a small training of its own, by the product's recipe (`bench.faults`). What each left
is kept (`--keep FOLDER`), so that the rules are judged again in seconds and a broken-off
measurement goes on; `--no-train` judges what is there. The thresholds were settled on the seeds
`TUNED` (`--tuning`); the figures are those of the seeds `TOLD`.

Photographs (`--data`, a folder per class) and SqueezeNet's weights (`--weights`) are no part of the
project: they are looked for in `shared/` beside it, and without them the digits alone are measured.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bench import faults
from bench.common import main, options
from bench.faults import DIGITS, HEALTHY, PHOTOS, WRONG, Case, Pool
from bench.subjects import TRASHNET, WEIGHTS
from toploss.intervals import wilson
from training import curve, diagnosis, folds
from training.diagnosis import Finding, Severity
from training.evidence import Evidence, Scored
from training.rules import Verdict
from training.trained import Trained

TUNED = (1, 11, 12, 13)
TOLD = (21, 22, 23)
FEW_IN_TEST = 40  # images of a holdout that is too small

# Rule → the faults that it must find, and the data sets where it can.
WANTED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "diverged": ((faults.RATE_10,), (DIGITS, PHOTOS)),
    "overfit": ((faults.MANY,), (PHOTOS,)),
    "imbalance": ((faults.IMBALANCE,), (DIGITS, PHOTOS)),
    "label_noise": (WRONG, (DIGITS, PHOTOS)),
    "underfit": ((faults.RATE_LOW,), (DIGITS, PHOTOS)),
    "rate_too_high": ((faults.RATE_HIGH,), (DIGITS, PHOTOS)),
    "rate_too_low": ((faults.RATE_LOW,), (DIGITS, PHOTOS)),
    "dead_filters": ((faults.RATE_HIGH,), (DIGITS,)),  # a frozen body's filters do not die
    "more_data": ((faults.FEW,), (PHOTOS,)),  # from scratch there are no features to judge by
}


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="toploss-bench-") as scratch:
        keep = asked.keep or Path(scratch)
        keep.mkdir(parents=True, exist_ok=True)
        pools = {DIGITS: faults.read_digits()}
        figures: dict[str, Any] = {}
        if asked.data.is_dir() and asked.weights.is_file() and not asked.quick:
            pools[PHOTOS] = faults.read_photos(asked.data, asked.weights)
        else:
            figures["left_out"] = f"{PHOTOS} (--quick, or not there)"
        seeds = TUNED if asked.tuning else TOLD[:1] if asked.quick else TOLD
        judged = list(_judged(seeds, pools, keep, train=not asked.no_train))
        figures |= {"seeds": seeds, **_figures(judged)}
        if PHOTOS in pools:
            figures["advice"] = _doubled(judged, pools[PHOTOS])
        return figures


def _judged(
    seeds: tuple[int, ...], pools: dict[str, Pool], keep: Path, *, train: bool
) -> Iterator[tuple[Case, Evidence, list[Finding]]]:
    """Every case, as far as it is trained."""
    for case in faults.cases(seeds, list(pools)):
        if train and not (keep / f"{case.name}.json").is_file():
            print(case.name, file=sys.stderr)
            faults.train(case, pools[case.data], keep)
        if (keep / f"{case.name}.json").is_file():
            evidence = read(case, pools[case.data], keep)
            yield case, evidence, diagnosis.diagnose(evidence)


def read(case: Case, pool: Pool, keep: Path) -> Evidence:
    """What a case left. Nothing was chosen by valid or test, so both serve as held out."""
    told = json.loads((keep / f"{case.name}.json").read_text())
    with np.load(keep / f"{case.name}.npz") as kept:
        test = Scored(probabilities=kept["test_probabilities"], truth=kept["test_truth"])
        both = [
            np.concatenate([kept[f"{split}_{what}"] for split in ("valid", "test")])
            for what in ("probabilities", "truth")
        ]
        counts = np.bincount(kept["train_truth"], minlength=len(pool.labels))
    evidence = Evidence(
        labels=pool.labels,
        counts=tuple(counts.tolist()),
        trained=Trained.from_json(told["trained"]),
        from_scratch=pool.weights is None,
        non_finite=told["non_finite"],
        valid=Scored(probabilities=both[0], truth=both[1]),
        test=test,
        dead=told["dead"],
        dead_before=told["dead_before"],
    )
    if pool.weights is None:
        return evidence
    return replace(evidence, held_out=_held_out(case, pool), curve=_curve(case, pool, case.images))


def _held_out(case: Case, pool: Pool) -> Scored:
    """By heads of the folds, as in a run."""
    drawn = faults.draw(case, pool)
    members = np.concatenate([drawn.train, drawn.valid])
    found = folds.score(
        faults.Held(pool),
        pool.rows(members, drawn.given, "train"),
        pool.labels,
        replace(case.plan(), folds=5),
        build=pool.network,
        made=pool.features[members],
    )
    return Scored(
        probabilities=found.probabilities,
        truth=drawn.given[np.array([int(name) for name in found.ids])],
    )


def _curve(case: Case, pool: Pool, images: int) -> curve.Curve | None:
    drawn = faults.draw(replace(case, images=images), pool)
    return curve.measure(
        pool.features[drawn.train],
        drawn.given[drawn.train],
        pool.features[drawn.valid],
        drawn.given[drawn.valid],
        seed=case.seed,
    )


def _figures(judged: list[tuple[Case, Evidence, list[Finding]]]) -> dict[str, Any]:
    """Recall by rule, false alarms by rule and of any; beside each what it was counted on."""
    recall = {
        rule: {
            fault: [
                _found(findings, rule)
                for case, _, findings in judged
                if case.fault == fault and case.data in data
            ]
            for fault in wanted
        }
        for rule, (wanted, data) in WANTED.items()
    }
    healthy = [(evidence, found) for case, evidence, found in judged if case.fault == HEALTHY]
    recall["small_holdout"] = {
        f"{FEW_IN_TEST} in test": [
            _found(diagnosis.diagnose(_cut(evidence)), "small_holdout") for evidence, _ in healthy
        ]
    }
    # Advice does not say that something is wrong; whether it was good is measured apart.
    wrong = [rule.name for rule in diagnosis.RULES if rule.severity is not Severity.ADVICE]
    alarms = [any(_found(found, name) for name in wrong) for _, found in healthy]
    return {
        "recall": {rule: _share(list(chain(*by.values())))["share"] for rule, by in recall.items()},
        "false_alarm_rate": _share(alarms)["share"],
        "trainings": len(judged),
        "recall_by_fault": {
            rule: {fault: _share(hits) for fault, hits in by.items()} for rule, by in recall.items()
        },
        "false_alarms": {"any": _share(alarms)}
        | {
            rule.name: _share([_found(found, rule.name) for _, found in healthy])
            for rule in diagnosis.RULES
        },
        "cannot_tell": {
            rule.name: sum(
                _verdict(found, rule.name) is Verdict.CANNOT_TELL for _, found in healthy
            )
            for rule in diagnosis.RULES
        },
    }


def _doubled(judged: list[tuple[Case, Evidence, list[Finding]]], pool: Pool) -> dict[str, Any]:
    """Whether the error with twice the images, drawn from the same pool, lay where the curve said,
    and by how much it fell: where more data were advised, and elsewhere."""
    inside, advised, worth = [], [], []
    for case, evidence, findings in judged:
        enough = len(faults.draw(replace(case, images=2 * case.images), pool).train)
        if case.data != PHOTOS or evidence.curve is None or enough < 2 * case.images:
            continue
        larger = _curve(case, pool, 2 * case.images)
        assert larger is not None, "twice the images are enough if the images were"
        low, high = evidence.curve.interval
        inside.append(low <= larger.errors[-1] <= high)
        advised.append(_found(findings, "more_data"))
        worth.append(evidence.curve.errors[-1] - larger.errors[-1])
    return {
        "inside": _share(inside),
        "fall_when_advised": _spread([w for w, a in zip(worth, advised, strict=True) if a]),
        "fall_otherwise": _spread([w for w, a in zip(worth, advised, strict=True) if not a]),
    }


def _cut(evidence: Evidence) -> Evidence:
    assert evidence.test is not None
    few = slice(None, FEW_IN_TEST)
    test = Scored(probabilities=evidence.test.probabilities[few], truth=evidence.test.truth[few])
    return replace(evidence, test=test)


def _verdict(findings: list[Finding], rule: str) -> Verdict:
    return next(finding.verdict for finding in findings if finding.rule == rule)


def _found(findings: list[Finding], rule: str) -> bool:
    return _verdict(findings, rule) is Verdict.FOUND


def _share(hits: list[bool]) -> dict[str, Any]:
    low, high = wilson(sum(hits), len(hits))
    share = round(sum(hits) / len(hits), 3) if hits else None
    return {
        "share": share,
        "found": sum(hits),
        "of": len(hits),
        "interval": [round(low, 3), round(high, 3)],
    }


def _spread(values: list[float]) -> list[float]:
    """Lowest, median, highest."""
    return [round(float(v), 3) for v in np.percentile(values, (0, 50, 100))] if values else []


if __name__ == "__main__":
    parser = options("diagnosis", "one seed, the digits alone")
    parser.add_argument("--keep", type=Path, help="folder of what the trainings leave")
    parser.add_argument("--data", type=Path, default=TRASHNET)
    parser.add_argument("--weights", type=Path, default=WEIGHTS / "squeezenet1_0.pth")
    parser.add_argument("--tuning", action="store_true", help="the seeds the thresholds came from")
    parser.add_argument("--no-train", action="store_true", help="judge what is kept")
    main(parser, measure)
