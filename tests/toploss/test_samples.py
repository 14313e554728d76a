from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from tests.conftest import picture
from tests.toploss import given
from toploss import classes, decisions, merging, samples, snapshots, trail
from toploss.blobs import image_path, sha256
from toploss.errors import Broken, NotAnImage, NotFound, TooLarge, UnknownLabel
from toploss.schema import split_ledger
from toploss.splits import Split


def again(home, seed, label, on_conflict="keep"):
    """The same picture comes in by an import."""
    kept = samples.keep(home, picture(seed), "again.png")
    with home.db.write() as connection:
        class_id = classes.ensure(connection, label, "importer")
        return samples.record(
            connection,
            home,
            kept,
            class_id,
            actor="importer",
            on_conflict=on_conflict,
        )


def kinds(home, sample_id):
    return [event["action"] for event in trail.of(home, sample_id)]


def test_an_image_comes_in(home):
    added = given.sample(home, 1, "cat", Split.VALID)

    assert added.id == sha256(picture(1))
    assert (added.label, added.split, added.revision) == ("cat", "valid", 1)
    assert (added.new, added.conflict) == (True, False)
    assert home.blobs.get_image(added.id) == picture(1)
    with home.db.read() as connection:
        row = samples.find(connection, added.id)
    assert (row.format, row.width, row.height, row.bytes) == ("PNG", 8, 8, len(picture(1)))
    assert (row.name, row.state, row.changed, row.decision) == ("1.png", "active", True, None)


def test_the_same_bytes_are_one_sample(home):
    first = given.sample(home, 1, "cat")
    second = given.sample(home, 1, "cat", Split.TEST)

    assert (second.id, second.new, second.conflict) == (first.id, False, False)
    assert second.split == "train"
    assert snapshots.overview(home)["samples"] == 1


def test_the_same_image_many_times_at_once_is_one_sample(home):
    classes.add(home, "cat", actor="ann")

    def add(n):
        return samples.add(home, picture(n % 3), "cat", name=f"{n}.png", actor="ann")

    with ThreadPoolExecutor(16) as pool:
        added = list(pool.map(add, range(48)))

    assert sum(entry.new for entry in added) == 3
    assert snapshots.overview(home)["samples"] == 3


@pytest.mark.parametrize(
    ("data", "error"), [(b"", NotAnImage), (b"text", NotAnImage), (picture(1)[:90], NotAnImage)]
)
def test_what_is_no_image_leaves_nothing(home, data, error):
    classes.add(home, "cat", actor="ann")

    with pytest.raises(error):
        samples.add(home, data, "cat", name="x.jpg", actor="ann")

    assert snapshots.overview(home)["samples"] == 0
    assert not home.blobs.exists(image_path(sha256(data)))


def test_the_limits_are_those_of_the_settings(open_home):
    home = open_home(max_pixels=63)
    classes.add(home, "cat", actor="ann")

    with pytest.raises(TooLarge, match="8×8"):
        samples.add(home, picture(1), "cat", name="x", actor="ann")


def test_an_unknown_label_leaves_nothing(home):
    with pytest.raises(UnknownLabel):
        samples.add(home, picture(1), "cat", name="x", actor="ann")

    assert not home.blobs.exists(image_path(sha256(picture(1))))


def test_a_conflict_keeps_the_label_and_is_written_once(home):
    first = given.sample(home, 1, "cat")

    for _ in range(3):
        added = again(home, 1, "dog")
        assert (added.label, added.new, added.conflict, added.revision) == ("cat", False, True, 1)

    assert kinds(home, first.id) == ["add", "conflict"]
    assert snapshots.overview(home)["conflicts"] == 1


def test_a_new_label_is_taken_when_asked_for(home):
    first = given.sample(home, 1, "cat")

    added = again(home, 1, "dog", "new-label")

    assert (added.label, added.conflict, added.revision) == ("dog", True, 2)
    assert kinds(home, first.id) == ["add", "label"]


@pytest.mark.parametrize("on_conflict", ["keep", "new-label"])
def test_importing_again_takes_back_no_decision(home, on_conflict):
    first = given.sample(home, 1, "cat")
    classes.add(home, "dog", actor="ann")
    decisions.decide(home, first.id, "relabel", label="dog", revision=1, actor="ann")

    added = again(home, 1, "cat", on_conflict)

    assert (added.label, added.conflict, added.revision) == ("dog", False, 2)


@pytest.mark.parametrize("on_conflict", ["keep", "new-label"])
def test_importing_again_takes_back_no_decision_after_a_merge_either(home, on_conflict):
    """The label that the folder has was merged into another: it is still no news."""
    first = given.sample(home, 1, "kitten")
    for name in ("cat", "dog"):
        classes.add(home, name, actor="ann")
    decisions.decide(home, first.id, "relabel", label="dog", revision=1, actor="ann")
    merging.merge(home, "kitten", "cat", actor="ann")

    added = again(home, 1, "kitten", on_conflict)

    assert (added.label, added.conflict, added.revision) == ("dog", False, 2)


def test_a_conflict_with_a_merged_class_is_written_once(home):
    first = given.sample(home, 1, "dog")
    again(home, 1, "kitten")
    classes.add(home, "cat", actor="ann")
    merging.merge(home, "kitten", "cat", actor="ann")

    again(home, 1, "cat")
    again(home, 1, "kitten")

    assert kinds(home, first.id) == ["add", "conflict"]


def test_a_given_split_wins_and_says_so(home):
    one, other = given.sample(home, 1, "cat", Split.TEST), given.sample(home, 2, "cat", None)

    with home.db.read() as connection:
        ledger = {row.group_id: row for row in connection.execute(select(split_ledger))}

    assert (ledger[one.id].split, ledger[one.id].why) == ("test", "given")
    assert (ledger[other.id].split, ledger[other.id].why) == (other.split, "hash")


def test_an_unknown_sample(home):
    with home.db.read() as connection, pytest.raises(NotFound, match="no sample 'x'; ids are"):
        samples.find(connection, "x")


def test_damage_in_the_storage_is_told(home):
    added = given.sample(home, 1, "cat")
    path = home.settings.home / "storage" / image_path(added.id)
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(Broken, match="damaged"):
        home.blobs.get_image(added.id)
