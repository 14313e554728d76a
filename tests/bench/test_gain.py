"""What is planted, and how what is found is counted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import gain, gain_plot
from bench.subjects import Subject
from toploss.plan import Plan
from toploss.settings import read_settings
from toploss.snapshots import Row, Snapshot

LABELS = ("a", "b", "c")


def subject() -> Subject:
    """A hundred samples, two of ten of them for test, without any picture."""
    splits = [*["train"] * 6, *["valid"] * 2, *["test"] * 2] * 10
    rows = tuple(
        Row(id=f"{number:02}", label=LABELS[number % 3], split=split, group=f"{number:02}")
        for number, split in enumerate(splits)
    )
    snapshot = Snapshot(fingerprint="0", labels=LABELS, class_ids=(1, 2, 3), counts={}, rows=rows)
    nothing: Any = None
    plan = Plan.from_settings(read_settings())
    return Subject(home=nothing, snapshot=snapshot, plan=plan, pictures=nothing)


def test_one_in_ten_of_train_and_valid_is_wrong_and_none_of_test() -> None:
    case = gain.planted(subject(), "letters", 3, Path("kept"), folds=5)

    assert len(case.wrong) == 8
    assert case.subject.plan.seed == 3
    differ = {
        now.id
        for now, was in zip(case.noisy, case.subject.snapshot.rows, strict=True)
        if now != was
    }
    assert differ == case.wrong.keys() <= case.truth.keys()
    assert not {row.id for row in case.noisy if row.split == "test"} & case.wrong.keys()


def test_the_share_found_is_counted_among_as_many_answers_as_errors() -> None:
    found = [True, False, True, True, False, True]

    counts = gain.counted(found, planted=4)

    assert counts == {"answers": 6, "found_at_n": 0.75, "found_by": [1, 3, 4, 6]}


def test_what_was_learned_before_is_known_again_whatever_valid_says(tmp_path: Path) -> None:
    case = gain.planted(subject(), "letters", 0, tmp_path, folds=5)
    case.folder.mkdir()
    gain._keep(case, case.noisy, 0.75)
    rows = [replace(row, label="c") if row.split == "valid" else row for row in case.noisy]

    assert gain.accuracy(case, rows) == 0.75  # it has no pictures to learn from


def test_equal_figures_give_equal_drawings_with_every_order_named(tmp_path: Path) -> None:
    stops = [{"reviewed": 4, "accuracy": 0.8}, {"reviewed": 8, "accuracy": 0.9}]
    order = {"answers": 8, "found_by": [1, 2, 5], "stops": stops}
    case = {
        "data": "letters",
        "pool": 40,
        "planted": 4,
        "test": 20,
        "accuracy_before": 0.7,
        "accuracy_clean": 0.95,
        "orders": dict.fromkeys(gain_plot.LOOKS, order),
    }
    files = tmp_path / "one.svg", tmp_path / "two.svg"

    for file in files:
        gain_plot.draw({"cases": [case, case]}, file)

    one, two = (file.read_text() for file in files)
    assert one == two
    assert all(look.name in one for look in gain_plot.LOOKS.values())
