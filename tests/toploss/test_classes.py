from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from tests.toploss import given
from toploss import classes, decisions, merging, samples, schema, snapshots
from toploss.errors import BadInput, NotFound, Refused, UnknownLabel
from toploss.schema import class_events


def loaded(home):
    with home.db.read() as connection:
        return classes.load(connection)


def labels(home):
    with home.db.read() as connection:
        names = classes.load(connection).names
        return [names[row.class_id] for row in connection.execute(select(samples.samples))]


def test_a_class_is_added_once(home):
    assert classes.add(home, "cat", actor="ann")
    assert not classes.add(home, " cat ", actor="bob")

    assert [entry["name"] for entry in classes.listed(home)] == ["cat"]


def test_many_may_add_the_same_class_at_once(home):
    with ThreadPoolExecutor(16) as pool:
        added = list(pool.map(lambda n: classes.add(home, f"c{n % 4}", actor="ann"), range(64)))

    assert sum(added) == 4
    assert len(classes.listed(home)) == 4


@pytest.mark.parametrize(
    "name", ["", "   ", "two\nlines", "tab\there", "x" * 201, "\0", "a\u2028b"]
)
def test_what_cannot_be_a_name(home, name):
    with pytest.raises(BadInput, match="cannot name a class; give 1 to 200 printable"):
        classes.add(home, name, actor="ann")


@pytest.mark.parametrize("name", ["größe", "貓", "a b", "'; DROP TABLE classes; --", 'a,"b"', "🐈"])
def test_what_can_be_a_name(home, name):
    given.sample(home, 1, name)

    assert labels(home) == [name]


def test_an_accent_spelt_apart_is_the_same_name(home):
    together, apart = "caf\u00e9", "cafe\u0301"  # as Linux and a Mac's folders have it
    given.sample(home, 1, apart)

    assert not classes.add(home, together, actor="ann")
    assert labels(home) == [together]
    assert loaded(home).id_of(apart) == loaded(home).id_of(together)
    classes.rename(home, apart, "bar", actor="ann")
    assert labels(home) == ["bar"]


def test_a_name_from_before_names_were_composed_is_found_by_both_spellings(home):
    together, apart = "caf\u00e9", "cafe\u0301"
    with home.db.write() as connection:
        connection.execute(schema.classes.insert().values(name=apart, added_at=0.0))

    given.sample(home, 1, apart)
    given.sample(home, 2, together)

    assert labels(home) == [apart, apart]


def test_an_unknown_label_tells_what_to_do(home):
    classes.add(home, "cat", actor="ann")

    with pytest.raises(UnknownLabel, match="'catt' is not one of the 1 classes; add it with"):
        loaded(home).id_of("catt")


def test_a_class_keeps_its_id_when_it_is_renamed(home):
    given.sample(home, 1, "cat")
    before = loaded(home).id_of("cat")

    classes.rename(home, "cat", "feline", actor="ann")

    assert loaded(home).id_of("feline") == before
    assert labels(home) == ["feline"]
    with pytest.raises(UnknownLabel):
        loaded(home).id_of("cat")


def test_a_name_that_became_free_can_be_another_class(home):
    given.sample(home, 1, "cat")
    classes.rename(home, "cat", "feline", actor="ann")

    given.sample(home, 2, "cat")

    assert labels(home) == ["feline", "cat"]


def test_renames_that_are_refused(home):
    for name in ("cat", "dog", "hound"):
        classes.add(home, name, actor="ann")
    merging.merge(home, "hound", "dog", actor="ann")

    with pytest.raises(NotFound, match="no class 'cow'"):
        classes.rename(home, "cow", "ox", actor="ann")
    with pytest.raises(Refused, match="toploss classes merge cat dog"):
        classes.rename(home, "cat", "dog", actor="ann")
    with pytest.raises(Refused, match="'hound' leads to 'dog'"):
        classes.rename(home, "cat", "hound", actor="ann")
    with pytest.raises(NotFound):
        classes.rename(home, "hound", "beagle", actor="ann")
    with pytest.raises(BadInput):
        classes.rename(home, "cat", "\n", actor="ann")


def test_a_merge_moves_samples_and_name(home):
    given.sample(home, 1, "cat")
    given.sample(home, 2, "kitten")

    assert merging.merge(home, "kitten", "cat", actor="ann") == 1

    assert labels(home) == ["cat", "cat"]
    assert [(c["name"], c["samples"]) for c in classes.listed(home)] == [("cat", 2)]
    assert given.sample(home, 3, "kitten").label == "cat"
    assert not classes.add(home, "kitten", actor="ann")


def test_merges_never_make_a_chain(home):
    for seed, name in enumerate(("a", "b", "c")):
        given.sample(home, seed, name)
    merging.merge(home, "a", "b", actor="ann")
    merging.merge(home, "b", "c", actor="ann")
    classes.rename(home, "c", "z", actor="ann")

    assert labels(home) == ["z", "z", "z"]
    assert loaded(home).open == ("z",)
    assert {loaded(home).id_of(name) for name in ("a", "b", "z")} == {loaded(home).id_of("z")}


def test_merges_that_are_refused(home):
    for name in ("cat", "kitten"):
        classes.add(home, name, actor="ann")

    with pytest.raises(BadInput, match="merged into itself"):
        merging.merge(home, "cat", "cat", actor="ann")
    with pytest.raises(NotFound):
        merging.merge(home, "cat", "cow", actor="ann")
    merging.merge(home, "kitten", "cat", actor="ann")
    with pytest.raises(NotFound):
        merging.merge(home, "kitten", "cat", actor="ann")
    with pytest.raises(NotFound):
        merging.merge(home, "cat", "kitten", actor="ann")


def test_merged_samples_count_as_changed(home):
    given.two_classes(home)
    fingerprint = snapshots.freeze(home).fingerprint
    given.settled(home, fingerprint)

    merging.merge(home, "dog", "cat", actor="ann")

    assert snapshots.overview(home)["changed"] == 3  # one of the four lies in test


def test_a_merge_forgets_no_exclusion(home):
    """What was excluded since the last verdict still counts."""
    dogs = [entry for entry in given.two_classes(home) if entry.label == "dog"]
    fingerprint = snapshots.freeze(home).fingerprint
    given.settled(home, fingerprint)
    decisions.decide(home, dogs[0].id, "exclude", revision=1, actor="ann")

    merging.merge(home, "dog", "cat", actor="ann")

    assert snapshots.overview(home)["changed"] == 3


def test_classes_are_counted_without_what_is_excluded(home):
    first, _ = given.sample(home, 1, "cat"), given.sample(home, 2, "cat")
    decisions.decide(home, first.id, "exclude", revision=1, actor="ann")
    classes.add(home, "ant", actor="ann")

    counted = [(entry["name"], entry["samples"]) for entry in classes.listed(home)]

    assert counted == [("ant", 0), ("cat", 1)]


def test_what_happened_is_kept(home):
    classes.add(home, "a", actor="ann")
    classes.add(home, "b", actor="bob")
    classes.rename(home, "a", "c", actor="cid")
    merging.merge(home, "c", "b", actor="dan")

    with home.db.read() as connection:
        rows = connection.execute(select(class_events).order_by(class_events.c.seq)).all()

    assert [(row.kind, row.before, row.after, row.actor) for row in rows] == [
        ("add", None, "a", "ann"),
        ("add", None, "b", "bob"),
        ("rename", "a", "c", "cid"),
        ("merge", "c", "b", "dan"),
    ]
