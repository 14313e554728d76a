"""Candidate and production on the holdout as it is today, each on what it did not learn from."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import coloured
from tests.toploss import given
from toploss import artifact, attempts, classes, merging, models, quarantine, samples, snapshots
from toploss.engine import OnnxEngine
from toploss.home import Home
from toploss.quarantine import Quarantined
from toploss.schema import runs as run_table
from toploss.schema import samples as table
from toploss.snapshots import Row
from toploss.splits import Split
from training import trial
from training.data import Pictures
from training.gate import LeftOut
from training.trial import Candidate, Judged

Judge = Callable[..., Judged]


@pytest.fixture
def home(learned_home: Callable[..., Home]) -> Home:
    return learned_home()


@pytest.fixture
def judge(home: Home, tmp_path: Path) -> Judge:
    """Production before the gate once more, as a candidate that learned from today's snapshot."""
    loaded = artifact.fetch(home, models.get(home, "production"), tmp_path / "version")
    engine = OnnxEngine(loaded, threads=1)

    def judged(**learned: Any) -> Judged:
        snapshot = replace(snapshots.freeze(home), **learned)
        candidate = Candidate(name="itself", loaded=loaded, engine=engine, snapshot=snapshot)
        return trial.judge(home, candidate, Pictures(home, loaded.preprocessing))

    return judged


def of_test(home: Home) -> list[Row]:
    return snapshots.freeze(home).of_split("test")


def test_it_is_judged_beside_production_and_measured(judge: Judge) -> None:
    found = judge().judgement

    assert (found.holdout, found.difference, found.gained, found.lost) == (24, 0, 0, 0)
    assert found.passed  # as good by what was seen, though 24 cannot tell
    assert found.servable is not None
    assert found.servable.images_per_s is not None
    assert found.left_out == LeftOut()


def test_under_the_labels_of_today(home: Home, judge: Judge) -> None:
    before = judge()
    called = dict(zip(before.trial.ids, before.trial.called["itself"], strict=True))
    right = next(row for row in of_test(home) if called[row.id] == ids(home)[row.label])
    other = next(label for label in ids(home) if label != right.label)

    snapshot = snapshots.freeze(home)
    with home.db.write() as connection:
        this = table.c.id == right.id
        connection.execute(table.update().where(this).values(class_id=ids(home)[other]))
    after = judge(rows=snapshot.rows)

    assert before.judgement.candidate is not None
    assert after.judgement.candidate == pytest.approx(before.judgement.candidate - 1 / 24)


def test_what_a_near_duplicate_was_learned_of_is_left_out(home: Home, judge: Judge) -> None:
    """The pair was found after production had learned from one of it."""
    row, train = of_test(home)[0], snapshots.freeze(home).of_split("train")[0]
    with home.db.write() as connection:
        quarantine.put(connection, [Quarantined(id=train.id, because=row.id)])

    found = judge().judgement

    assert found.left_out == LeftOut(learned=1)
    assert found.holdout == 23
    assert "left out: 1 that a version may have learned from" in found.reason


def test_what_the_candidate_learned_is_left_out_by_its_group(home: Home, judge: Judge) -> None:
    rows = snapshots.freeze(home).rows
    leaked = of_test(home)[0]
    twin = Row(id="0" * 64, label=leaked.label, split="train", group=leaked.group)

    assert judge(rows=(*rows, twin)).judgement.holdout == 23


@pytest.mark.parametrize("split", [Split.TRAIN, Split.VALID, Split.TEST])
def test_what_an_earlier_network_met_is_left_out_though_nobody_else_did(
    home: Home, judge: Judge, split: Split
) -> None:
    """Production went on from a network that went on from one that had a near-duplicate of an image
    of test in its training; only then was that quarantined."""
    twin = samples.add(home, coloured("red", 9_999), "red", name="t.png", actor="ann", split=split)
    first = trained_before(home, None)
    row = of_test(home)[0]
    if split is not Split.TEST:  # of test, it is its own evidence
        with home.db.write() as connection:
            quarantine.put(connection, [Quarantined(id=twin.id, because=row.id)])
    second = trained_before(home, first)
    begins_with(home, models.get(home, "production").run, second)

    found = judge().judgement

    met = split is not Split.TEST
    assert found.left_out == LeftOut(inherited=int(met))
    assert found.holdout == (23 if met else 25)
    assert ("left out: 1 that a network which a version began with" in found.reason) is met


def test_an_earlier_network_whose_data_are_gone_is_told(home: Home, judge: Judge) -> None:
    begins_with(home, models.get(home, "production").run, "0" * 26)

    found = judge().judgement

    assert (found.holdout, found.left_out) == (24, LeftOut(unseen=1))
    assert "what 1 of the networks that a version is made of learned from is not" in found.reason


def test_images_of_a_class_that_the_candidate_lacks_are_left_out(home: Home, judge: Judge) -> None:
    frozen = snapshots.freeze(home)
    classes.add(home, "violet", actor="ann")
    added = samples.add(
        home, coloured("red", 9_999), "violet", name="v.png", actor="ann", split=Split.TEST
    )
    found = judge(rows=frozen.rows, labels=frozen.labels, class_ids=frozen.class_ids)

    assert found.judgement.left_out == LeftOut(unknown=1)
    assert added.id in found.trial.ids  # what it was called is kept all the same


def test_merged_classes_are_one(home: Home, judge: Judge) -> None:
    """Production answers red where it is blue by now, and that is right."""
    before, frozen = judge().judgement, snapshots.freeze(home)
    merging.merge(home, "red", "blue", actor="ann")

    learned = {"rows": frozen.rows, "labels": frozen.labels, "class_ids": frozen.class_ids}
    found = judge(**learned).judgement

    assert (found.holdout, found.removed, found.new_classes) == (24, (), ())
    assert before.candidate is not None
    assert found.candidate is not None
    assert found.candidate >= before.candidate


def trained_before(home: Home, start: str | None) -> str:
    """A run that failed after a checkpoint, on today's data."""
    lease = given.running(home)
    attempts.note(home, lease, fingerprint=snapshots.freeze(home).fingerprint)
    given.ended(home, lease)
    begins_with(home, lease.run, start)
    return lease.run


def begins_with(home: Home, run: str, start: str | None) -> None:
    plan = given.plan(home).as_json() | {"start": start and f"runs/{start}/stage-1.safetensors"}
    with home.db.write() as connection:
        connection.execute(run_table.update().where(run_table.c.id == run).values(plan=plan))


def ids(home: Home) -> dict[str, int]:
    with home.db.read() as connection:
        return classes.load(connection).ids
