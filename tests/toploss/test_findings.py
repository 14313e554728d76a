import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from tests.toploss import pictures
from tests.toploss.test_duplicates import add
from toploss import classes, decisions, findings, samples, snapshots
from toploss.blobs import image_path
from toploss.findings import Severity
from toploss.schema import likenesses
from toploss.schema import samples as table
from toploss.splits import Split

SCENE = pictures.scene(1)
COPIES = pictures.copies(SCENE)


def kinds(home):
    return [(one.kind, one.severity) for one in findings.check(home) if one.kind != "too-few"]


def only(home, kind):
    (found,) = [one for one in findings.check(home) if one.kind == kind]
    return found


def test_of_an_empty_data_set_that_is_said_alone(home):
    (found,) = findings.check(home)
    assert (found.severity, found.words) == ("error", "nothing has been imported yet")


def test_damaged_and_missing_bytes(home):
    damaged, missing = (add(home, pictures.saved(pictures.scene(seed))) for seed in (1, 2))
    path = home.settings.home / "storage" / image_path(damaged.id)
    path.write_bytes(path.read_bytes()[:-9])
    home.blobs.delete([image_path(missing.id)])

    found = [one for one in findings.check(home) if one.kind == "corrupt"]

    assert {one.samples for one in found} == {(damaged.id,), (missing.id,)}
    assert {one.severity for one in found} == {Severity.ERROR}
    assert "damaged" in found[0].words
    assert "missing" in found[1].words


@pytest.mark.parametrize("action", [None, "skip", "confirm", "relabel"])
def test_the_same_bytes_under_two_labels_until_a_reviewer_decides(home, action):
    first = add(home, COPIES["png"], "cat")
    kept = samples.keep(home, COPIES["png"], "dog7.png")
    with home.db.write() as connection:
        dog = classes.ensure(connection, "dog", "ann")
        samples.record(connection, home, kept, dog, actor="ann")
    if action:
        label = "dog" if action == "relabel" else None
        decisions.decide(home, first.id, action, label=label, revision=1, actor="ann")

    conflicts = [one for one in findings.check(home) if one.kind == "label-conflict"]

    if action in ("confirm", "relabel"):
        assert conflicts == []
    else:
        (found,) = conflicts
        assert (
            found.words == "x.png and dog7.png are the same bytes, labelled 'cat' (kept) and 'dog'"
        )
        assert (found.severity, found.samples) == (Severity.ERROR, (first.id,))


def test_one_picture_under_two_labels(home):
    one, other = add(home, COPIES["png"], "cat"), add(home, COPIES["jpeg"], "dog")

    found = only(home, "label-conflict")

    assert found.severity is Severity.WARNING
    assert found.samples == (one.id, other.id)
    assert "x.png (cat) and x.png (dog) show the same picture" in found.words
    assert "largest of 2" in only(home, "near-duplicate").words


def test_a_leak_of_before_is_told_and_set_aside(home):
    """Samples of 0.1.0 have no likeness, and no group but their own."""
    with_splits = [("png", Split.TRAIN), ("jpeg", Split.TEST), ("smaller", Split.VALID)]
    ids = {}
    for kind, split in with_splits:
        ids[split] = add(home, COPIES[kind], split=split).id
    with home.db.write() as connection:
        connection.execute(likenesses.delete())
        connection.execute(table.update().values(quarantined_by=None))

    leaks = [one for one in findings.check(home) if one.kind == "leak"]
    put = findings.set_leaks_aside(home)

    assert [one.severity for one in leaks] == [Severity.ERROR, Severity.ERROR, Severity.WARNING]
    assert "--quarantine" in leaks[0].remedy
    assert [entry.id for entry in put] == [ids[Split.TRAIN]]
    (left,) = [one for one in findings.check(home) if one.kind == "leak"]
    assert set(left.samples) == {ids[Split.VALID], ids[Split.TEST]}
    assert findings.set_leaks_aside(home) == []
    with home.db.read() as connection:
        found = connection.execute(select(table.c.id, table.c.split)).all()
    assert {row.id: row.split for row in found} == {ids[split]: split for split in ids}


def test_imbalance_and_too_few(home):
    for seed in range(10):
        add(home, pictures.saved(pictures.scene(seed)), "cat", Split.TRAIN)
    for seed in range(10, 12):
        add(home, pictures.saved(pictures.scene(seed)), "dog", Split.VALID)

    assert only(home, "imbalance").words == "'cat' has 10 samples, 'dog' 2: 5.0 times as many"
    words = [one.words for one in findings.check(home) if one.kind == "too-few"]
    assert words == [
        "'cat' has 10 in train (20 wanted), 0 in valid (8 wanted), 0 in test (8 wanted)",
        "'dog' has 0 in train (20 wanted), 2 in valid (8 wanted), 0 in test (8 wanted)",
    ]


def test_odd_sizes(home):
    for seed in range(5):
        add(home, pictures.saved(pictures.scene(seed)))
    tiny = add(home, pictures.saved(pictures.scene(6, (16, 12))))
    strip = add(home, pictures.saved(pictures.scene(7, (300, 40))))

    found = [one for one in findings.check(home) if one.kind == "odd-size"]

    assert [one.samples for one in found] == [(tiny.id,), (strip.id,)]
    assert "1.33" in found[1].words


def test_a_group_that_holds_much_of_a_class(home):
    for kind in COPIES:
        add(home, COPIES[kind])
    for seed in range(20, 24):
        add(home, pictures.saved(pictures.scene(seed)))

    found = [one for one in findings.check(home) if one.kind == "near-duplicate"]

    assert found[0].severity is Severity.WARNING
    assert found[0].words.startswith("7 of the 11 samples of 'cat' are near-duplicates")


def test_classes_alike_in_name(home):
    for name in ("hot dog", "Hot-Dog", "hotdogs", "cat"):
        classes.add(home, name, actor="ann")

    found = only(home, "alike-names")

    assert "'Hot-Dog', 'hot dog'" in found.words
    assert "'hotdogs'" not in found.words


def test_the_gravest_comes_first(home):
    one = add(home, COPIES["png"], "cat")
    add(home, pictures.saved(pictures.scene(6, (16, 12))), "CAT")
    home.blobs.delete([image_path(one.id)])

    assert kinds(home) == [
        ("corrupt", Severity.ERROR),
        ("alike-names", Severity.WARNING),
        ("odd-size", Severity.NOTE),
    ]


def test_what_the_network_takes_for_one_picture_is_proposed(home):
    mirrored = SCENE.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    one = add(home, COPIES["png"], "cat", Split.TRAIN)
    other = add(home, pictures.saved(mirrored), "cat", Split.TEST)
    third = add(home, pictures.saved(pictures.scene(9)), "cat", Split.VALID)
    features = np.array([[1, 0, 0], [0.999, 0.01, 0], [0, 0, 1]], np.float32)
    before = snapshots.overview(home)

    (found,) = findings.by_features(home, [one.id, other.id, third.id], features)

    assert (found.kind, found.samples) == ("leak", (one.id, other.id))
    assert "stand in train and test" in found.words
    assert snapshots.overview(home) == before


def test_what_the_counts_alone_tell():
    big, small, none = {"train": 300, "valid": 60, "test": 60}, {"train": 30, "valid": 8}, {}
    splits = {"train": 0, "valid": 0, "test": 0}

    found = findings.by_counts({"a b": splits | big, "A-b": splits | small, "new": splits | none})

    assert [(one.kind, one.words) for one in found] == [
        ("imbalance", "'a b' has 420 samples, 'A-b' 38: 11.1 times as many"),
        ("too-few", "'A-b' has 0 in test (8 wanted)"),
        (
            "too-few",
            "'new' has 0 in train (20 wanted), 0 in valid (8 wanted), 0 in test (8 wanted)",
        ),
        ("alike-names", "the classes 'a b', 'A-b' differ in case or spaces alone"),
    ]
