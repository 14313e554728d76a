import pytest

from tests.toploss import given
from toploss import classes, decisions, difference, records, snapshots
from toploss.difference import Change
from toploss.errors import NotFound
from toploss.splits import Split


@pytest.fixture
def two(home):
    """Two snapshots: one sample excluded, one new, one relabelled, a class renamed."""
    added = given.two_classes(home)
    first = snapshots.freeze(home)
    decisions.decide(home, added[0].id, "relabel", label="dog", revision=1, actor="ann")
    decisions.decide(home, added[2].id, "exclude", revision=1, actor="ann")
    extra = given.sample(home, 50, "cat", Split.TRAIN)
    given.sample(home, 51, "cat", Split.TRAIN)
    classes.rename(home, "cat", "feline", actor="ann")
    return added, extra, first, snapshots.freeze(home)


def test_what_came_went_and_was_relabelled(home, two):
    added, extra, first, second = two

    found = difference.between(home, first.fingerprint, second.fingerprint)

    assert (found.a, found.b) == (first.fingerprint, second.fingerprint)
    assert len(found.added) == 2
    assert extra.id in found.added
    assert found.removed == (added[2].id,)
    assert found.relabelled == (Change(id=added[0].id, before="cat", after="dog"),)
    assert found.moved == ()
    assert found.renamed == (("cat", "feline"),)
    assert found.classes == {"dog": (4, 5), "feline": (4, 4)}
    assert found.as_json()["relabelled"] == [{"id": added[0].id, "from": "cat", "to": "dog"}]


def test_there_and_back_is_the_opposite(home, two):
    _, _, first, second = two

    there = difference.between(home, first.fingerprint, second.fingerprint)
    back = difference.between(home, second.fingerprint, first.fingerprint)

    assert (there.added, there.removed) == (back.removed, back.added)
    assert difference.between(home, first.fingerprint, first.fingerprint).classes == {
        "cat": (4, 4),
        "dog": (4, 4),
    }


def test_a_snapshot_by_its_beginning_its_run_and_its_version(home, two):
    _, _, first, second = two
    version = given.version(home, "feline", "dog")
    with home.db.write() as connection:
        run = connection.execute(difference.runs.select()).one().id
        connection.execute(difference.runs.update().values(fingerprint=first.fingerprint))

    for name in (first.fingerprint[:6].upper(), first.fingerprint[:20], run, version):
        assert difference.between(home, name, second.fingerprint).a == first.fingerprint


@pytest.mark.parametrize("name", ["", "abc", "zzzzzz", "%%%%%%", "______"])
def test_what_is_unknown_is_told(home, two, name):
    _, _, first, _ = two

    with pytest.raises(NotFound, match="no snapshot, run or version"):
        difference.between(home, name, first.fingerprint)


def test_a_prefix_too_short_or_of_several_is_told(home, two):
    _, _, first, _ = two
    with home.db.write() as connection:
        row = connection.execute(difference.table.select()).first()._asdict()
        twin = first.fingerprint[:8] + "0" * 56
        connection.execute(difference.table.insert().values(**row | {"fingerprint": twin}))

    with pytest.raises(NotFound, match="no snapshot"):
        difference.between(home, first.fingerprint[:5], first.fingerprint)
    with pytest.raises(NotFound, match="2 snapshots begin with"):
        difference.between(home, first.fingerprint[:7], first.fingerprint)


def test_a_run_that_has_no_snapshot_yet(home, two):
    _, _, first, _ = two
    lease = given.running(home)

    with pytest.raises(NotFound, match="has no snapshot yet"):
        difference.between(home, lease.run, first.fingerprint)
    assert records.show(home, lease.run)["state"] == "running"
