"""The report: one page that needs nothing beside it."""

from typing import Any

import pytest

from training import report
from training.recipe import Epoch, Finder, Trained

MANIFEST: dict[str, Any] = {
    "version": "01v",
    "run": "01r",
    "labels": ["<cat>", "dog"],
    "snapshot": {
        "fingerprint": "f" * 64,
        "counts": {"train": {"dog": 3}, "valid": {"dog": 2}, "test": {"dog": 4}},
    },
    "metrics": {
        "valid": {"accuracy": 0.5, "loss": 0.7},
        "test": {"accuracy": 0.75, "loss": 0.6},
    },
    "gate": {"verdict": "promote", "reason": "right on 3 of 4"},
    "settings": {"arch": "resnet18", "seed": 42},
    "threads": 2,
    "parity": {"difference": {"onnx": 1e-6}},
    "code": {"toploss": "0.1.0"},
    "libraries": {"torch": "2.12.1"},
}


@pytest.fixture
def trained() -> Trained:
    epochs = [
        Epoch(stage=stage, epoch=1, train_loss=1.0, valid_loss=0.8, accuracy=0.5)
        for stage in ("stage-1", "stage-2")
    ]
    finder = Finder(
        rates=[1e-4, 1e-3, 1e-2],
        losses=[1.0, 0.8, 2.0],
        suggestions={"valley": 1e-3},
        chosen=1e-3,
        why="median of valley 1.0e-03",
    )
    return Trained(history=epochs, finder=finder, rate=1e-3)


def test_it_tells_the_verdict_the_curves_and_the_confusion(trained: Trained) -> None:
    page = report.page(MANIFEST, trained, [[3, 1], [0, 0]])

    assert "Gate: promote." in page
    assert page.count("<svg") == 2
    assert "median of valley 1.0e-03" in page
    assert "<td class=hit>3</td><td class=miss>1</td>" in page


def test_labels_are_text_and_nothing_comes_from_elsewhere(trained: Trained) -> None:
    page = report.page(MANIFEST, trained, [[3, 1], [0, 0]])

    assert "&lt;cat&gt;" in page
    assert "<cat>" not in page
    assert "<script" not in page
    assert 'src="' not in page


def test_a_run_without_a_sweep_has_no_sweep(trained: Trained) -> None:
    trained.finder = None

    assert "Rate finder" not in report.page(MANIFEST, trained, [[3, 1], [0, 0]])
