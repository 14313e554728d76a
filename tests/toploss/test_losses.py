import numpy as np
import pytest

from tests.toploss import given
from toploss import classes, decisions, figures, losses, merging, models, orders, scoring, trail
from toploss.errors import UnknownLabel
from toploss.losses import Filter, Page, Place
from toploss.orders import Neighbours, Order
from toploss.scoring import Opinion, Source
from toploss.splits import Split


@pytest.fixture
def home(any_home):
    return any_home


def top(home, *, order=Order.LOSS, limit=50, after=None, **which):
    return list(losses.top(home, Filter(**which), order=order, limit=limit, after=after).items)


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
    given.opinion(home, version, ids, [[0.9, 0.1], [0.3, 0.7], [0.8, 0.2], [0.99, 0.01]])
    return ids


def test_before_any_training_there_is_no_list(home):
    assert losses.top(home) == Page(items=(), total=0, version=None)
    assert losses.pairs(home) == []


def test_the_most_wrong_come_first_and_test_is_left_out(home, scored):
    page = losses.top(home)
    items = page.items

    assert [item.id for item in items] == [scored[2], scored[1], scored[0]]
    assert [item.rank for item in items] == [1, 2, 3]
    assert [item.loss for item in items] == pytest.approx(
        [-np.log(0.2), -np.log(0.3), -np.log(0.9)]
    )
    assert (items[0].label, items[0].predicted) == ("dog", "cat")
    assert items[0].confidence == pytest.approx(0.8)
    assert (page.total, page.version) == (3, models.production(home).version)


def test_the_fold_that_a_sample_was_held_out_in_is_kept(home, scored):
    assert [item.fold for item in top(home)] == [None, None, None]
    version = given.promoted(home, "cat", "dog")

    given.opinion(home, version, scored[:2], [[0.9, 0.1], [0.1, 0.9]], folds=[3, 0])

    assert [(item.id, item.fold) for item in top(home)] == [(scored[1], 0), (scored[0], 3)]
    assert {item.source for item in top(home)} == {Source.FOLDS}


def test_filters(home, scored):
    assert top(home, split="test") == top(home, split="test", state="all") == []
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
    given.opinion(home, version, ids, [[0.25, 0.75]] * 5 + [[0.5, 0.5]] * 6)

    found, after = [], None
    while page := top(home, limit=2, after=after):
        found += page
        after = Place(score=page[-1].score, seq=page[-1].seq, rank=page[-1].rank)

    assert [item.id for item in found] == ids[4::-1] + ids[:4:-1]
    assert [item.rank for item in found] == list(range(1, 12))


def test_losses_follow_the_label_and_come_back(home, scored):
    decided = decisions.decide(home, scored[2], "relabel", label="cat", revision=1, actor="ann")
    (item,) = top(home, state="decided")
    assert (item.label, item.loss) == ("cat", pytest.approx(-np.log(0.8)))

    decisions.undo(home, decided.id, actor="ann")
    assert top(home)[0].loss == pytest.approx(-np.log(0.2))


def test_a_label_that_the_version_does_not_know_is_unscored(home, scored):
    new = given.sample(home, 50, "cow", Split.VALID)
    version = given.promoted(home, "cat", "dog")
    shares = [[0.9, 0.1], [0.3, 0.7], [0.8, 0.2], [0.5, 0.5]]
    given.opinion(home, version, [*scored[:3], new.id], shares)
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
    given.opinion(home, version, ids, [[0.2, 0.3, 0.5], [0.3, 0.4, 0.3], [0.3, 0.4, 0.3]])

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

    given.opinion(home, version, ids, [[0.2, 0.3, 0.5], [0.3, 0.4, 0.3], [0.3, 0.4, 0.3]])

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
    given.opinion(home, old, [sample], [[0.5, 0.5]])

    page = losses.top(home)
    assert (page.items, page.total, page.version) == ((), 0, None)
    assert (
        page.note == f"version {new} was never asked about the samples; train to have a list again"
    )
    models.promote(home, old, reason="", actor="ann")
    page = losses.top(home)
    assert (page.total, page.version) == (1, old)


def test_every_order_has_its_own_first(home):
    """Of six cats the fourth is called a dog most surely, and the second stands among dogs."""
    ids = [given.sample(home, seed, "cat").id for seed in range(6)]
    dogs = [given.sample(home, seed, "dog").id for seed in range(6, 10)]
    version = given.promoted(home, "cat", "dog")
    shares = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.1, 0.9], [0.6, 0.4], [0.9, 0.1]]
    near = np.array([[0, 2], [6, 7], [0, 1], [0, 1], [0, 6], [0, 1]])
    neighbours = Neighbours(places=near, cosines=np.ones((6, 2), np.float32))
    known = [*ids, *dogs]

    given.opinion(home, version, ids, shares, neighbours=neighbours, known=known)

    p, labels = np.array(shares, np.float32), np.zeros(6, int)
    wanted = {
        Order.LOSS: orders.loss(p, labels),
        Order.MARGIN: orders.margin(p, labels),
        Order.CONFIDENT_WRONG: orders.confident_wrong(p, labels),
        Order.NEIGHBOURS: np.array([0, 1, 0, 0, 0.5, 0]),
    }
    for order, scores in wanted.items():
        found = top(home, order=order)
        newest_first = np.lexsort((-np.arange(6), -scores)).tolist()
        assert [ids.index(item.id) for item in found] == newest_first
        assert [item.score for item in found] == pytest.approx(-np.sort(-scores))
    combined = top(home, order=Order.COMBINED)
    assert combined[0].id == ids[3]
    assert combined[0].score == pytest.approx(1)
    assert [item.score for item in combined] == sorted((i.score for i in combined), reverse=True)


def test_where_neighbours_are_not_known_that_order_says_so(home, scored):
    assert {item.score for item in top(home, order=Order.NEIGHBOURS)} == {figures.UNKNOWN}


def test_a_relabel_and_its_undoing_give_every_order_its_numbers_back(home):
    ids = [given.sample(home, seed, "cat" if seed % 2 else "dog").id for seed in range(8)]
    version = given.promoted(home, "cat", "dog")
    chance = np.random.default_rng(0)
    near = np.stack([chance.permutation(8)[:3] for _ in ids])
    cosines = chance.random((8, 3)).astype(np.float32)
    given.opinion(
        home,
        version,
        ids,
        chance.dirichlet([1, 1], 8),
        neighbours=Neighbours(places=near, cosines=cosines),
        known=ids,
    )
    before = {order: top(home, order=order) for order in Order}

    decided = decisions.decide(home, ids[0], "relabel", label="cat", revision=1, actor="ann")
    (item,) = top(home, state="decided")
    assert item.label == "cat"
    decisions.undo(home, decided.id, actor="ann")

    for order, items in before.items():
        found = top(home, order=order)
        assert [(i.id, i.score) for i in found] == [(i.id, i.score) for i in items]


def test_text_finds_names_and_ids_by_their_beginning(home, scored):
    names = [item.name for item in top(home)]
    assert names == ["2.png", "1.png", "0.png"]

    assert [item.id for item in top(home, text="1.")] == [scored[1]]
    assert [item.id for item in top(home, text=scored[2][:9])] == [scored[2]]
    assert [item.id for item in top(home, text="1.", label="dog")] == []
    assert losses.top(home, Filter(text="1.")).total == 1
    for nothing in ("png", "%", "_.png", "1_png", scored[3][:9], "\U0010ffff"):
        assert top(home, text=nothing) == []


@pytest.mark.parametrize("few", [0, 2, 10**6])
def test_however_a_page_is_found_it_is_the_same(home, monkeypatch, few):
    monkeypatch.setattr(losses, "FEW", few)
    chance = np.random.default_rng(3)
    ids = [
        given.sample(home, seed, chance.choice(["cat", "dog", "cow"]), split).id
        for seed, split in zip(range(40), [Split.TRAIN, Split.VALID] * 20, strict=True)
    ]
    version = given.promoted(home, "cat", "dog", "cow")
    given.opinion(home, version, ids, chance.dirichlet([1, 1, 1], 40))
    for sample in ids[::5]:
        decisions.decide(home, sample, "confirm", revision=1, actor="ann")
    everything = {order: top(home, order=order, state="all", limit=100) for order in Order}
    assert all(len(items) == 40 for items in everything.values())

    def fits(item, wanted):
        named = item.name.startswith(wanted.get("text", ""))
        plain = {k: v for k, v in wanted.items() if k not in ("text", "state") and v is not None}
        state = wanted.get("state", "pending")
        return (
            named
            and state in ("all", item.state)
            and all(getattr(item, name) == value for name, value in plain.items())
        )

    for order, items in everything.items():
        assert [i.score for i in items] == sorted((i.score for i in items), reverse=True)
        for wanted in (
            {},
            {"state": "decided"},
            {"label": "cat"},
            {"predicted": "dog", "state": "all"},
            {"label": "cow", "predicted": "cat"},
            {"split": "valid"},
            {"split": "valid", "label": "dog"},
            {"text": "1"},
            {"text": "1", "predicted": "cow", "state": "all"},
        ):
            expected = [item.id for item in items if fits(item, wanted)]
            found, after = [], None
            while page := top(home, order=order, limit=3, after=after, **wanted):
                found += page
                after = Place(score=page[-1].score, seq=page[-1].seq, rank=page[-1].rank)
            assert [item.id for item in found] == expected
            total = losses.top(home, Filter(**wanted), order=order).total
            many = "text" in wanted and few < 11  # names begin with 1
            assert total == (None if many else len(expected))


def test_pairs_are_counted_as_decisions_are_made(home):
    ids = [given.sample(home, seed, label).id for seed, label in enumerate("aaabbc")]
    version = given.promoted(home, "a", "b", "c")
    as_b, as_c, as_a = [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]
    given.opinion(home, version, ids, [as_b, as_b, as_c, as_c, as_b, as_a])

    def found(**which):
        return [(p.label, p.predicted, p.samples) for p in losses.pairs(home, Filter(**which))]

    assert found() == [("a", "b", 2), ("a", "c", 1), ("b", "c", 1), ("c", "a", 1)]
    assert found(label="a") == [("a", "b", 2), ("a", "c", 1)]
    decided = decisions.decide(home, ids[0], "relabel", label="c", revision=1, actor="ann")
    assert found() == [("a", "b", 1), ("a", "c", 1), ("b", "c", 1), ("c", "a", 1)]
    assert found(state="decided") == [("c", "b", 1)]
    decisions.undo(home, decided.id, actor="ann")
    assert found()[0] == ("a", "b", 2)
    assert len(losses.pairs(home, limit=2)) == 2


def test_samples_that_came_after_the_snapshot_join_the_list(home, scored):
    version = models.production(home).version
    new = given.sample(home, 20, "cat").id
    unknown = given.sample(home, 21, "cow").id
    held = given.sample(home, 22, "dog", Split.TEST).id
    shares = np.array([[0.01, 0.99]] * 3, np.float32)

    def join(row):
        with home.db.write() as connection:
            opinion = Opinion(ids=[new, unknown, held], probabilities=shares)
            return scoring.add(connection, row, opinion, up_to=row.newest + 3)

    with home.db.read() as connection:
        row = scoring.scoring_of(connection, version)
    assert join(row) == 1
    assert join(row) == 0  # somebody else was faster

    assert [item.id for item in top(home)] == [new, scored[2], scored[1], scored[0]]
    assert top(home)[0].source is Source.NEWCOMER
    assert losses.top(home).total == 4
