"""Which samples have changed since the last verdict: those that a retraining would learn from."""

import pytest

from tests.toploss import given
from tests.toploss.deciding import changed, decide, settle
from toploss import decisions, snapshots


@pytest.fixture
def home(any_home):
    return any_home


def test_new_samples_count(home):
    given.two_classes(home)

    assert changed(home) == 6  # of 8, two lie in test


def test_after_a_verdict_nothing_counts(home):
    given.two_classes(home)
    settle(home)

    assert changed(home) == 0


@pytest.mark.parametrize(
    ("action", "label", "counts"),
    [
        ("confirm", None, 0),
        ("skip", None, 0),
        ("relabel", "cat", 0),
        ("relabel", "dog", 1),
        ("exclude", None, 1),
    ],
)
def test_what_counts_as_changed(home, action, label, counts):
    learned = given.two_classes(home)[0]
    settle(home)

    decided = decide(home, learned.id, action, label)
    assert changed(home) == counts

    decisions.undo(home, decided.id, actor="ann")
    assert changed(home) == 0


def test_a_sample_counts_once_however_often_it_changes(home):
    learned = given.two_classes(home)[0]
    settle(home)

    decide(home, learned.id, "relabel", "dog")
    decide(home, learned.id, "exclude")
    assert changed(home) == 1
    decide(home, learned.id, "relabel", "cat")
    assert changed(home) == 0


def test_a_conflict_does_not_count(home):
    given.two_classes(home)
    settle(home)

    assert given.sample(home, 0, "dog").conflict
    assert changed(home) == 0


def test_the_holdout_does_not_count(home):
    held = next(entry for entry in given.two_classes(home) if entry.split == "test")
    settle(home)

    decide(home, held.id, "exclude")

    assert changed(home) == 0


def test_a_new_sample_that_is_excluded_again_does_not_count(home):
    given.two_classes(home)
    settle(home)
    new = given.sample(home, 99, "cat")

    decide(home, new.id, "exclude")
    assert changed(home) == 0
    decide(home, new.id, "confirm")
    assert changed(home) == 1


def test_what_came_after_the_freeze_still_counts_after_the_verdict(home):
    learned = given.two_classes(home)
    fingerprint = snapshots.freeze(home).fingerprint
    decide(home, learned[0].id, "relabel", "dog")
    decide(home, learned[4].id, "exclude")
    given.sample(home, 99, "cat")
    undone = decide(home, learned[1].id, "exclude")
    decisions.undo(home, undone.id, actor="ann")

    given.settled(home, fingerprint)

    assert changed(home) == 3


def test_taking_back_what_was_learned_counts(home):
    learned = given.two_classes(home, each=8)[0]
    decided = decide(home, learned.id, "relabel", "dog")
    settle(home)

    decisions.undo(home, decided.id, actor="ann")

    assert changed(home) == 1
