import csv
import io
import random
import re

import pytest

from tests.toploss import given
from toploss import classes, decisions, merging, settling, snapshots
from toploss.errors import BadData, Broken, NotFound
from toploss.schema import samples
from toploss.splits import Split


def damaged(home, fingerprint, change):
    path = home.settings.home / "storage/snapshots" / f"{fingerprint}.csv"
    path.write_bytes(change(path.read_bytes()))


def test_equal_data_have_one_fingerprint_whatever_their_way(open_home):
    """Other order of import, other order of classes, labels reached by detours."""
    one, other = open_home("one"), open_home("other")
    entries = [(seed, "cat" if seed % 2 else "dog") for seed in range(30)]
    for seed, label in entries:
        given.sample(one, seed, label, None)
    random.Random(1).shuffle(entries)
    given.sample(other, 999, "aardvark", None)
    for seed, label in entries:
        added = given.sample(other, seed, "cow", None)
        classes.add(other, label, actor="ann")
        decisions.decide(other, added.id, "relabel", label=label, revision=1, actor="ann")
    stray = given.sample(other, 999, "aardvark", None).id
    decisions.decide(other, stray, "exclude", revision=1, actor="ann")

    first, second = snapshots.freeze(one), snapshots.freeze(other)

    assert first.fingerprint == second.fingerprint
    assert first.rows == second.rows
    assert first.labels == second.labels == ("cat", "dog")
    assert first.class_ids != second.class_ids


def test_any_difference_is_another_fingerprint(home):
    added = given.two_classes(home, each=8)
    found = [snapshots.freeze(home).fingerprint]

    for action, label in (("relabel", "dog"), ("exclude", None)):
        decided = decisions.decide(
            home, added[0].id, action, label=label, revision=1 + 2 * len(found) - 2, actor="ann"
        )
        found.append(snapshots.freeze(home).fingerprint)
        decisions.undo(home, decided.id, actor="ann")
        assert snapshots.freeze(home).fingerprint == found[0]
    classes.rename(home, "cat", "feline", actor="ann")
    found.append(snapshots.freeze(home).fingerprint)
    given.sample(home, 99, "dog", Split.TEST)
    found.append(snapshots.freeze(home).fingerprint)

    assert len(set(found)) == 5


def test_a_confirm_and_a_conflict_change_no_data(home):
    added = given.two_classes(home)
    before = snapshots.freeze(home).fingerprint

    decisions.decide(home, added[0].id, "confirm", revision=1, actor="ann")
    given.sample(home, 0, "dog")

    assert snapshots.freeze(home).fingerprint == before


def test_a_snapshot_is_read_back_as_it_was(home):
    odd = 'a "quoted", größe'
    for seed in range(8):
        turn = [Split.TRAIN, Split.TRAIN, Split.VALID, Split.TEST][seed % 4]
        given.sample(home, seed, odd if seed < 4 else "dog", turn)
    frozen = snapshots.freeze(home)
    given.sample(home, 50, "dog")
    classes.rename(home, "dog", "hound", actor="ann")

    assert snapshots.load(home, frozen.fingerprint) == frozen
    assert frozen.counts["train"] == {odd: 2, "dog": 2}
    assert [row.split for row in frozen.of_split("test")] == ["test", "test"]


def test_an_unknown_snapshot(home):
    with pytest.raises(NotFound, match="no snapshot 'x'"):
        snapshots.load(home, "x")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-20],
        lambda content: content.replace(b"cat", b"dog", 1),
        lambda content: b"",
        lambda content: b"\xff\xfe",
    ],
)
def test_a_damaged_snapshot_is_told_and_settles_nothing(home, change):
    given.two_classes(home)
    fingerprint = snapshots.freeze(home).fingerprint
    damaged(home, fingerprint, change)

    with pytest.raises(Broken, match=f"snapshots/{fingerprint}.csv"):
        snapshots.load(home, fingerprint)
    with pytest.raises(Broken):
        settling.unsettled(home, fingerprint)

    assert snapshots.overview(home)["changed"] == 6


def test_a_snapshot_that_is_gone_is_told(home):
    given.two_classes(home)
    fingerprint = snapshots.freeze(home).fingerprint
    home.blobs.delete([f"snapshots/{fingerprint}.csv"])

    with pytest.raises(Broken, match="missing"):
        snapshots.load(home, fingerprint)
    assert snapshots.freeze(home).fingerprint == fingerprint
    assert snapshots.load(home, fingerprint).fingerprint == fingerprint


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([], "0 of 0 classes have images enough, and a classifier needs 2"),
        ([("cat", "train")] * 5, "1 of 1 classes have images enough"),
        (
            [("cat", "train")] * 5 + [("dog", "train")],
            "'dog' has 1 image, 1 of them for training, and needs 2",
        ),
        (
            [("cat", "train")] * 5 + [("dog", "valid")] * 3,
            "'dog' has 3 images, 0 of them for training",
        ),
        (
            [("cat", "train"), ("dog", "train")] * 3 + [("cat", "test")],
            "no image is in the valid split",
        ),
        (
            [("cat", "train"), ("dog", "train")] * 3 + [("cat", "valid")],
            "no image is in the test split",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_told(home, entries, says):
    for seed, (label, split) in enumerate(entries):
        given.sample(home, seed, label, Split(split))

    with pytest.raises(BadData, match=re.escape(says)) as caught:
        snapshots.freeze(home)

    assert "; " in str(caught.value)


def test_a_beginning_of_a_class_holds_up_no_other(home, caplog):
    given.two_classes(home)
    before = snapshots.freeze(home)
    added = [given.sample(home, 90 + number, "cow", Split.TRAIN) for number in range(2)]
    decisions.decide(home, added[1].id, "exclude", revision=1, actor="ann")

    assert snapshots.freeze(home) == before
    assert "left out until there are more: class 'cow' has 1 image, 1 of them" in caplog.text

    decisions.decide(home, added[1].id, "confirm", revision=2, actor="ann")
    assert snapshots.freeze(home).labels == ("cat", "cow", "dog")


def test_a_class_that_production_knew_is_not_lost_in_silence(home):
    added = given.two_classes(home)
    given.promoted(home, "cat", "dog")
    given.sample(home, 90, "cow", Split.TRAIN)
    given.sample(home, 91, "cow", Split.TRAIN)
    for number in (0, 1):
        decisions.decide(home, added[number].id, "exclude", revision=1, actor="ann")

    with pytest.raises(BadData, match="'cat' has 2 images, 0 of them for training"):
        snapshots.freeze(home)


def test_a_class_that_only_an_experiment_knew_waits(home):
    given.two_classes(home)
    given.sample(home, 90, "cow", Split.TRAIN)
    given.version(home, "cat", "cow", "dog")

    assert snapshots.freeze(home).labels == ("cat", "dog")


def test_where_all_of_a_split_waits_it_is_told_why(home):
    given.two_classes(home)
    with home.db.write() as connection:
        connection.execute(samples.update().where(samples.c.split == "valid").values(split="train"))
    for seed in range(90, 93):
        given.sample(home, seed, "cow", Split.VALID)

    with pytest.raises(BadData, match="no image is in the valid split; class 'cow' has 3 images"):
        snapshots.freeze(home)


def test_a_class_name_that_went_to_another_class_settles_all_the_same(home):
    """The same rows under the same names, so the same snapshot; but `cat` is another class now."""
    given.two_classes(home)
    before = snapshots.freeze(home)
    classes.add(home, "feline", actor="ann")
    classes.rename(home, "cat", "old cat", actor="ann")
    classes.rename(home, "feline", "cat", actor="ann")
    merging.merge(home, "old cat", "cat", actor="ann")

    after = snapshots.freeze(home)
    given.settled(home, after.fingerprint)

    assert after.fingerprint == before.fingerprint
    assert snapshots.load(home, after.fingerprint).class_ids == after.class_ids
    assert snapshots.overview(home)["changed"] == 0


def test_a_rename_between_freeze_and_verdict_changes_nothing(home):
    given.two_classes(home)
    fingerprint = snapshots.freeze(home).fingerprint
    classes.rename(home, "cat", "feline", actor="ann")

    given.settled(home, fingerprint)

    assert snapshots.overview(home)["changed"] == 0


def test_overview(home):
    added = given.two_classes(home)
    classes.add(home, "empty", actor="ann")
    given.sample(home, 0, "dog")
    decisions.decide(home, added[0].id, "exclude", revision=1, actor="ann")

    assert snapshots.overview(home) == {
        "samples": 7,
        "excluded": 1,
        "quarantined": 0,
        "erased": 0,
        "conflicts": 1,
        "changed": 5,
        "splits": {"train": 3, "valid": 2, "test": 2},
        "classes": {
            "cat": {"train": 1, "valid": 1, "test": 1},
            "dog": {"train": 2, "valid": 1, "test": 1},
            "empty": {"train": 0, "valid": 0, "test": 0},
        },
    }


def test_export(home):
    first, second = given.sample(home, 1, "a, b"), given.sample(home, 2, "c", Split.TEST)
    decisions.decide(home, second.id, "exclude", revision=1, actor="ann")

    rows = list(csv.reader(io.StringIO("".join(snapshots.export(home)))))

    assert rows == [
        ["id", "name", "label", "split", "state", "decision", "revision"],
        [first.id, "1.png", "a, b", "train", "active", "", "1"],
        [second.id, "2.png", "c", "test", "excluded", "exclude", "2"],
    ]


def test_places_follow_the_model_s_order():
    rows = [
        snapshots.Row(id=str(n), label=label, split="test", group="g")
        for n, label in enumerate("ba")
    ]

    assert snapshots.places(rows, ["a", "b"]).tolist() == [1, 0]
