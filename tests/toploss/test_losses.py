import numpy as np
import pytest

from tests.toploss import given
from toploss import classes, decisions, losses, merging, models, trail
from toploss.errors import UnknownLabel
from toploss.losses import Filter, Place
from toploss.splits import Split


def keep(home, version, ids, probabilities):
    with home.db.write() as connection:
        losses.keep(connection, version, ids, np.array(probabilities, np.float32))


def top(home, *, limit=50, after=None, **which):
    return losses.top(home, Filter(**which), limit=limit, after=after)[0]


@pytest.fixture
def scored(home):
    """Four samples of cat and dog; the third is the one that the model finds most wrong."""
    labels = ["cat", "cat", "dog", "dog"]
    splits = [Split.VALID, Split.VALID, Split.TRAIN, Split.TEST]
    ids = [
        given.sample(home, seed, label, split).id
        for seed, (label, split) in enumerate(zip(labels, splits, strict=True))
    ]
    version = given.promoted(home, "cat", "dog")
    keep(home, version, ids, [[0.9, 0.1], [0.3, 0.7], [0.8, 0.2], [0.99, 0.01]])
    return ids


def test_before_any_training_there_is_no_list(home):
    assert losses.top(home) == ([], 0, None)


def test_the_most_wrong_come_first_and_test_is_left_out(home, scored):
    items, total, version = losses.top(home)

    assert [item.id for item in items] == [scored[2], scored[1], scored[0]]
    assert [item.rank for item in items] == [1, 2, 3]
    assert [item.loss for item in items] == pytest.approx(
        [-np.log(0.2), -np.log(0.3), -np.log(0.9)]
    )
    assert (items[0].label, items[0].predicted) == ("dog", "cat")
    assert items[0].confidence == pytest.approx(0.8)
    assert (total, version) == (3, models.production(home).version)


def test_the_fold_that_a_sample_was_held_out_in_is_kept(home, scored):
    assert [item.fold for item in top(home)] == [None, None, None]
    version = given.promoted(home, "cat", "dog")

    with home.db.write() as connection:
        found = np.array([[0.9, 0.1], [0.1, 0.9]], np.float32)
        losses.keep(connection, version, scored[:2], found, folds=np.array([3, 0]))

    assert [(item.id, item.fold) for item in top(home)] == [(scored[1], 0), (scored[0], 3)]
    assert all(item.held_out for item in top(home))


def test_filters(home, scored):
    assert [item.id for item in top(home, split="test")] == [scored[3]]
    assert [item.id for item in top(home, split="train")] == [scored[2]]
    assert [item.id for item in top(home, label="cat")] == [scored[1], scored[0]]
    assert [item.id for item in top(home, predicted="cat")] == [scored[2], scored[0]]
    assert [item.id for item in top(home, label="dog", predicted="dog")] == []
    with pytest.raises(UnknownLabel):
        top(home, label="cow")


def test_what_was_decided_leaves_the_list(home, scored):
    decided = decisions.decide(home, scored[2], "confirm", revision=1, actor="ann")

    assert [item.id for item in top(home)] == [scored[1], scored[0]]
    (item,) = top(home, state="decided")
    assert (item.id, item.state, item.decision, item.revision) == (
        scored[2],
        "decided",
        "confirm",
        2,
    )
    assert len(top(home, state="all")) == 3
    decisions.undo(home, decided.id, actor="ann")
    assert [item.id for item in top(home)] == [scored[2], scored[1], scored[0]]


def test_pages_join_without_a_gap_also_among_equal_losses(home):
    ids = [given.sample(home, seed, "cat").id for seed in range(11)]
    classes.add(home, "dog", actor="ann")
    version = given.promoted(home, "cat", "dog")
    keep(home, version, ids, [[0.25, 0.75]] * 5 + [[0.5, 0.5]] * 6)

    found, after = [], None
    while page := top(home, limit=2, after=after):
        found += page
        after = Place(loss=page[-1].loss, seq=page[-1].seq, rank=page[-1].rank)

    assert [item.id for item in found] == ids
    assert [item.rank for item in found] == list(range(1, 12))


def test_losses_follow_the_label_and_come_back(home, scored):
    decided = decisions.decide(home, scored[2], "relabel", label="cat", revision=1, actor="ann")
    (item,) = top(home, state="decided")
    assert (item.label, item.loss) == ("cat", pytest.approx(-np.log(0.8)))

    decisions.undo(home, decided.id, actor="ann")
    assert top(home)[0].loss == pytest.approx(-np.log(0.2))


def test_a_label_that_the_version_does_not_know_is_unscored(home, scored):
    new = given.sample(home, 50, "cow", Split.VALID)
    version = models.production(home).version
    keep(home, version, [new.id], [[0.5, 0.5]])
    decided = decisions.decide(home, scored[2], "relabel", label="cow", revision=1, actor="ann")

    assert {item.id for item in top(home, state="all")} == {scored[0], scored[1]}
    again = decisions.decide(home, scored[2], "confirm", revision=2, actor="ann")
    assert trail.of(home, scored[2])[-1]["evidence"] is None

    for each in (again, decided):
        decisions.undo(home, each.id, actor="ann")
    assert top(home)[0].id == scored[2]


def test_merged_classes_add_up(home):
    """cat .2 and kitten .5 are one class of .7: no more wrong, and predicted before dog's .3."""
    ids = [
        given.sample(home, seed, label).id for seed, label in enumerate(("cat", "kitten", "dog"))
    ]
    version = given.promoted(home, "cat", "dog", "kitten")
    keep(home, version, ids, [[0.2, 0.3, 0.5], [0.3, 0.4, 0.3], [0.3, 0.4, 0.3]])

    merging.merge(home, "kitten", "cat", actor="ann")

    found = {item.id: item for item in top(home)}
    assert [found[i].loss for i in ids] == pytest.approx(
        [-np.log(0.7), -np.log(0.6), -np.log(0.4)], rel=1e-5
    )
    assert [found[i].predicted for i in ids] == ["cat", "cat", "cat"]
    assert [found[i].confidence for i in ids] == pytest.approx([0.7, 0.6, 0.6])
    assert len(top(home, predicted="cat")) == 3


def test_a_version_that_ends_its_training_after_a_merge_is_scored_alike(home):
    ids = [
        given.sample(home, seed, label).id for seed, label in enumerate(("cat", "kitten", "dog"))
    ]
    version = given.promoted(home, "cat", "dog", "kitten")
    merging.merge(home, "cat", "kitten", actor="ann")

    keep(home, version, ids, [[0.2, 0.3, 0.5], [0.3, 0.4, 0.3], [0.3, 0.4, 0.3]])

    assert [item.loss for item in top(home, label="kitten")] == pytest.approx(
        [-np.log(0.6), -np.log(0.7)], rel=1e-5
    )


def test_renames_show_at_once(home, scored):
    classes.rename(home, "dog", "hound", actor="ann")

    assert (top(home)[0].label, top(home)[1].predicted) == ("hound", "hound")


def test_production_s_losses_win_else_the_newest_version_s(home):
    sample = given.sample(home, 1, "cat").id
    classes.add(home, "dog", actor="ann")
    old, new = given.version(home, "cat", "dog", at=1), given.version(home, "cat", "dog", at=2)
    keep(home, old, [sample], [[0.5, 0.5]])

    assert losses.top(home) == ([], 0, new)
    models.promote(home, old, reason="", actor="ann")
    assert losses.top(home)[1:] == (1, old)


@pytest.mark.parametrize(
    ("probability", "loss"), [(1.0, 0.0), (1.0000002, 0.0), (0.5, 0.6931472), (0.0, 87.33654)]
)
def test_nats(probability, loss):
    assert losses.nats(probability) == pytest.approx(loss)
    assert losses.nats(probability) >= 0
