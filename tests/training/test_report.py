"""The report: one page that needs nothing beside it."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import training
from tests.conftest import QUICK, picture
from toploss import artifact, charts, models, records
from toploss.home import Home
from training import report
from training.finder import Finder
from training.gate import Class, Judgement, Verdict
from training.report import Contents, Picture
from training.trained import Epoch, Trained

Make = Callable[..., Contents]

CAT, DOG = "a" * 64, "b" * 64
FINDING = {
    "rule": "label_noise",
    "verdict": "found",
    "severity": "warning",
    "numbers": {"share": 0.0912345},
    "threshold": 0.05,
    "source": "held-out scores",
    "words": "About 9 of 100 labels look wrong.",
    "remedy": "Review them: `toploss top-losses`.",
}


def manifest(labels: list[str]) -> dict[str, Any]:
    counts = {split: dict.fromkeys(labels, 2) for split in ("train", "valid", "test")}
    return {
        "name": "pets",
        "version": "01v",
        "run": "01r",
        "trained_at": 0.0,
        "labels": labels,
        "architecture": "resnet18",
        "preprocessing": {"size": 96},
        "snapshot": {"fingerprint": "f" * 64, "counts": counts},
        "metrics": {
            "valid": {"accuracy": 0.5, "loss": 0.7},
            "test": {"accuracy": 0.75, "loss": 0.6},
        },
        "gate": {"verdict": "promote", "reason": "right on 3 of 4"},
        "settings": {"arch": "resnet18", "seed": 42, "lr": None},
        "threads": 2,
        "temperature": 1.25,
        "novelty": {"threshold": 0.3},
        "diagnosis": [FINDING],
        "parity": {"difference": {"onnx": 1e-6}},
        "code": {"toploss": "0.1.0"},
        "libraries": {"torch": "2.12.1"},
    }


def epoch(stage: str, number: int, **fields: float) -> Epoch:
    usual = {"train_loss": 1.0, "valid_loss": 0.8, "accuracy": 0.5}
    return Epoch(
        stage=stage,
        epoch=number,
        **{**usual, "plain_loss": 0.7, "plain_accuracy": 0.6, **fields},
    )


@pytest.fixture
def make() -> Make:
    """Contents of a version with so many classes, each twice in test; changed as wanted."""

    def made(labels: tuple[str, ...] = ("<cat>", "dog"), **changed: Any) -> Contents:
        truth = np.arange(len(labels)).repeat(2)
        said = truth.copy()
        said[1] = (said[1] + 1) % len(labels)  # the first class is taken for the second once
        probabilities = np.full((len(truth), len(labels)), 0.1 / (len(labels) - 1), np.float32)
        probabilities[np.arange(len(truth)), said] = 0.9
        finder = Finder(
            rates=[1e-4, 1e-3, 1e-2],
            losses=[1.0, 0.8, 2.0],
            suggestions={"valley": 1e-3},
            chosen=1e-3,
            why="median of valley 1.0e-03",
        )
        history = [epoch("stage-1", 1), epoch("stage-1", 2), epoch("stage-2", 1)]
        shown = {"label": "<cat>", "predicted": "dog", "confidence": 0.9, "loss": 2.3}
        contents = Contents(
            manifest=manifest(list(labels)),
            trained=Trained(history=history, finder=finder, rate=1e-3),
            probabilities=probabilities,
            truth=truth,
            pictures=[
                Picture(sample=CAT, name="cats/1.png", thumbnail=picture(1), **shown),
                Picture(
                    sample=DOG, name="dogs/2.jpg", thumbnail=picture(2, format="JPEG"), **shown
                ),
            ],
        )
        return replace(contents, **changed)

    return made


def drawings(page: str) -> list[ElementTree.Element]:
    return [
        ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    ]


def test_the_summary_tells_accuracy_verdict_and_what_to_do(make: Make) -> None:
    page = report.page(make())
    summary = page[: page.index("Learning curves")]

    assert "75.0\u00a0%" in summary
    assert "3 of 4 right" in summary
    assert "between\n30.1\u00a0% and 95.4\u00a0%" in summary
    assert '<p class="big promote">promote</p>' in summary
    assert "About 9 of 100 labels look wrong." in summary
    assert "Review them: <code>toploss top-losses</code>." in summary
    assert "share 0.09123" in summary


def test_the_classes_that_lost_most_are_told_and_all_that_fell(make: Make) -> None:
    known = [
        Class(
            label=f"class {number}",
            samples=50,
            candidate=0.5,
            production=0.6,
            chance=0.01,
            fell=number == 3,
        )
        for number in range(5)
    ]
    judged = Judgement(
        verdict=Verdict.REJECT,
        reason="no better",
        holdout=250,
        candidate=0.5,
        production=0.6,
        margin=0.02,
        against="v1",
        difference=-0.12,
        lower=-0.1,
        gained=1,
        lost=26,
        design=1.0,
        mcnemar=0.01,
        classes=tuple(known),
    )
    contents = make()
    contents.manifest["gate"] = judged.as_json()

    page = " ".join(report.page(contents).split())

    assert "-12.0 points against production, with 95 % certainty above -10.0" in page
    lost = page[page.index("classes that lost most") : page.index("Learning curves")]
    assert re.findall(r"class \d", lost) == [f"class {number}" for number in (0, 1, 2, 3)]
    assert "class 3: beyond its margin</td><td>50</td> <td>60.0 %</td><td>50.0 %</td>" in lost


def test_what_was_not_found_is_told_after_what_was(make: Make) -> None:
    findings = [
        FINDING | {"verdict": "clear", "words": "It learns."},
        FINDING | {"verdict": "cannot_tell", "words": "Too few subsets."},
        FINDING,
    ]

    page = report.page(make(manifest=manifest(["<cat>", "dog"]) | {"diagnosis": findings}))

    told = [
        "labels look wrong",
        "Cannot be told: 1",
        "Too few subsets",
        "not beyond its threshold: 1",
        "It learns",
    ]
    assert [page.index(words) for words in told] == sorted(page.index(words) for words in told)


def test_without_a_finding_it_says_so(make: Make) -> None:
    page = report.page(make(manifest=manifest(["<cat>", "dog"]) | {"diagnosis": []}))

    assert "has found nothing beyond its thresholds" in page


def test_curves_sweep_and_reliability_are_drawings_with_a_name(make: Make) -> None:
    found = drawings(report.page(make()))

    assert [drawing.get("aria-label") for drawing in found] == [
        "Losses after every epoch",
        "Accuracy after every epoch",
        "Loss over the learning rate",
        "Reliability before temperature scaling",
        "Reliability after temperature scaling",
    ]
    texts = ["".join(drawing.itertext()) for drawing in found]
    assert "stage two" in texts[0]
    assert "chosen 1.0e-03" in texts[2]
    assert "confidence 0.90, right 0.75" in texts[3]


def test_confusion_pairs_and_recall_are_of_test(make: Make) -> None:
    page = report.page(make())

    assert [
        (kind, int(number.replace("·", "0")))
        for kind, number in re.findall(r'<td class="(hit|miss)".*?>(.*?)</td>', page)
    ] == [("hit", 1), ("miss", 1), ("miss", 0), ("hit", 2)]
    assert "<td>&lt;cat&gt;</td><td>dog</td><td>1</td>\n<td>50.0\u00a0%</td>" in page
    rows = report.recalls(["<cat>", "dog"], [[1, 1], [0, 2]])
    assert [(row.label, row.share) for row in rows] == [("<cat>", 0.5), ("dog", 1.0)]
    assert rows[0].interval == pytest.approx((0.095, 0.905), abs=1e-3)


def test_the_pairs_confused_most_come_first() -> None:
    pairs = report.confused(["a", "b", "c"], [[5, 1, 3], [0, 6, 0], [4, 0, 2]])

    assert [(p.label, p.predicted, p.count) for p in pairs] == [
        ("c", "a", 4),
        ("a", "c", 3),
        ("a", "b", 1),
    ]


@pytest.mark.parametrize("number", [2, 12, 13, 100])
def test_few_classes_have_numbers_and_many_a_map(make: Make, number: int) -> None:
    page = report.page(make(tuple(f"class {n}" for n in range(number))))

    assert ('<table class="confusion">' in page) is (number <= 12)
    assert ('class="heat"' in page) is (number > 12)
    if number > 12:
        cells = [e for e in drawings(page)[3] if e.get("class") in ("hit", "miss")]
        assert len(cells) == number + 1
        assert "class 0 → class 1: 1 of 2" in "".join(drawings(page)[3].itertext())


def test_a_class_that_test_lacks_is_told_as_unknown(make: Make) -> None:
    contents = make(("cat", "dog", "fox"))

    page = report.page(
        replace(contents, probabilities=contents.probabilities[:4], truth=contents.truth[:4])
    )

    assert "<td>0 of 0</td>\n<td>–</td>" in page


def test_everything_is_text_and_nothing_comes_from_elsewhere(make: Make) -> None:
    page = report.page(make())

    assert "&lt;cat&gt;" in page
    assert "<cat>" not in page
    assert "<script" not in page
    assert "http" not in page
    assert all(source.startswith("data:image/") for source in re.findall(r'src="(.*?)"', page))
    assert "url(" not in page


def test_an_erased_picture_is_gone_with_all_that_was_told_of_it(make: Make) -> None:
    page = report.page(make())

    left = artifact.without_picture(page, CAT)

    assert CAT in page
    assert CAT not in left
    assert "cats/1.png" not in left
    assert "image/png" not in left
    assert "This picture was erased." in left
    assert "dogs/2.jpg" in left
    assert left.count("<figure") == page.count("<figure")
    assert artifact.without_picture(page, "c" * 64) == page


def test_a_rate_that_was_given_is_marked_beside_the_finders(make: Make) -> None:
    contents = make()
    page = report.page(replace(contents, trained=replace(contents.trained, rate=8e-3)))

    assert "given 8.0e-03" in page
    assert re.search(
        r"Given: <strong>8.0e-03</strong>; the finder would have chosen\s+<[^>]+>1.0e-03", page
    )


@pytest.mark.parametrize(
    "history",
    [
        [epoch("stage-2", 1)],
        [epoch("stage-1", 1, valid_loss=float("nan"), train_loss=float("inf"))],
        [epoch("stage-1", n, valid_loss=1000 / n, plain_loss=0.0) for n in range(1, 60)],
        [epoch("stage-1", n, accuracy=1.0, plain_accuracy=1.0) for n in (1, 2)],
    ],
)
def test_any_course_of_a_training_can_be_drawn(make: Make, history: list[Epoch]) -> None:
    page = report.page(make(trained=Trained(history=history)))

    assert "Rate finder" not in page
    assert "nan" not in ElementTree.tostring(drawings(page)[0], "unicode")
    for circle in drawings(page)[0].iter("circle"):
        assert 0 <= float(circle.get("cx", "")) <= charts.WIDTH
        assert 0 <= float(circle.get("cy", "")) <= charts.HEIGHT


@pytest.mark.slow
def test_a_version_without_a_report_is_better_than_none(
    learned_home: Callable[..., Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = learned_home()
    monkeypatch.setattr(report, "page", lambda contents: contents.nothing_of_that_name)

    result = training.fit(home=home, **QUICK)

    assert records.show(home, result.run)["state"] == "succeeded"
    version = models.get(home, result.version)
    assert not home.blobs.exists(f"{version.path}/{artifact.REPORT}")
    assert "could not be made" in records.read_log(home, result.run)
