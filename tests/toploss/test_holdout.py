from dataclasses import replace

import pytest
from sqlalchemy import select

from tests.toploss import given
from toploss import (
    blind,
    classes,
    decisions,
    events,
    evidence,
    holdout,
    losses,
    schema,
    trail,
    trials,
)
from toploss.blind import Queue
from toploss.errors import NotFound, Stale
from toploss.events import Standing
from toploss.opinions import Opinion
from toploss.splits import Split
from toploss.trials import Trial


@pytest.fixture
def home(any_home):
    classes.add(any_home, "dog", actor="importer")
    return any_home


def held_out(home, number, start=0):
    return [given.sample(home, seed, "cat", Split.TEST).id for seed in range(start, start + number)]


def queued(home, share=1.0):
    with home.db.read() as connection:
        query = holdout.waiting(connection, share).subquery()
        found = select(schema.samples.c.id).join(query, query.c.sample_seq == schema.samples.c.seq)
        return list(connection.execute(found.order_by(query.c.place)).scalars())


def figures(home, share=1.0):
    with home.db.read() as connection:
        return holdout.figures(connection, share)


def say(home, sample, label=None, *, revision=1, action=None, **more):
    opinion = Opinion(
        sample=sample,
        label=label,
        action=action or ("label" if label else "exclude"),
        revision=revision,
        **more,
    )
    return blind.answer(home, Queue.HOLDOUT, opinion, reviewer="ann")


def row(home, sample):
    with home.db.read() as connection:
        return connection.execute(select(schema.samples).where(schema.samples.c.id == sample)).one()


def test_only_samples_of_test_are_in_it_in_an_order_that_stays(home):
    ids = held_out(home, 12)
    given.sample(home, 50, "cat", Split.TRAIN)
    given.sample(home, 51, "cat", Split.VALID)

    order = queued(home)

    assert set(order) == set(ids)
    assert order != ids
    more = held_out(home, 4, start=20)
    assert [sample for sample in queued(home) if sample not in more] == order


def test_the_slice_is_a_share_that_grows_and_says_nothing_of_the_order(home):
    ids = held_out(home, 24)

    some, most = queued(home, 0.3), queued(home, 0.8)

    assert 2 <= len(some) <= 14
    assert set(some) < set(most) < set(ids)
    assert queued(home, 0) == []
    # Not the first of the whole: or who reaches the end of the slice would know.
    whole = queued(home)
    assert [sample for sample in whole if sample in some] == some
    assert whole[: len(some)] != some


@pytest.mark.parametrize("few", [0, 100])
def test_the_pages_join(home, monkeypatch, few):
    """However what is left is found."""
    monkeypatch.setattr(holdout, "FEW", few)
    home = replace(home, settings=home.settings.model_copy(update={"holdout_slice": 1}))
    ids = held_out(home, 8)
    say(home, ids[0], "cat")
    whole = blind.listed(home, Queue.HOLDOUT, reviewer="ann", limit=50)
    paged, after = [], None
    while page := blind.listed(home, Queue.HOLDOUT, reviewer="ann", limit=3, after=after).items:
        paged += page
        after = (page[-1].place, page[-1].seq)

    assert paged == list(whole.items)
    assert {item.id for item in paged} == set(ids[1:])
    assert whole.total == 7


@pytest.mark.parametrize(
    ("label", "action", "expected"),
    [
        ("cat", None, ("confirm", "cat", "active")),
        ("dog", None, ("relabel", "dog", "active")),
        (None, "exclude", ("exclude", "cat", "excluded")),
        (None, "skip", ("skip", "cat", "active")),
    ],
)
def test_what_is_said_is_a_decision_and_can_be_undone(home, label, action, expected):
    (cat,) = held_out(home, 1)

    decided = say(home, cat, label, action=action, seconds=2.5)

    event = trail.of(home, cat)[-1]
    assert (event["action"], event["label"]) == expected[:2]
    assert (event["actor"], event["evidence"]) == ("ann", {"blind": "holdout", "seconds": 2.5})
    assert row(home, cat).state == expected[2]
    assert queued(home) == []
    assert figures(home).reviewed == 1
    assert figures(home).corrected == (expected[0] in ("relabel", "exclude"))
    with home.db.read() as connection:
        happened = connection.execute(select(schema.sample_events)).all()
    assert events.replay(happened, {}) == Standing.of(row(home, cat))

    decisions.undo(home, decided.id, actor="ann")

    assert queued(home) == [cat]
    assert (figures(home).reviewed, figures(home).left) == (0, 1)
    assert row(home, cat).state == "active"


def test_the_first_blind_look_counts_and_no_other_decision_does(home):
    one, two = held_out(home, 2)
    seen = decisions.decide(home, one, "relabel", label="dog", revision=1, actor="bob")
    assert one in queued(home)
    say(home, two, "cat")
    later = decisions.decide(home, two, "exclude", revision=2, actor="bob")

    assert queued(home) == [one]
    decisions.undo(home, later.id, actor="bob")
    decisions.undo(home, seen.id, actor="bob")
    assert queued(home) == [one]
    assert (figures(home).reviewed, figures(home).corrected) == (1, 0)


def test_the_same_key_gives_the_same_answer_though_the_label_is_another_by_now(home):
    (cat,) = held_out(home, 1)
    told = say(home, cat, "dog", key="k")

    assert say(home, cat, "dog", key="k") == told
    assert len(trail.of(home, cat)) == 2


def test_a_stale_reviewer_is_not_told_the_label(home):
    (cat,) = held_out(home, 1)
    say(home, cat, "dog", key="k")

    with pytest.raises(Stale, match="revision 2, not at 1") as caught:
        say(home, cat, "cat")
    assert caught.value.present == {"id": cat, "revision": 2}
    with pytest.raises(Stale, match="was used for another") as caught:
        say(home, cat, "cat", key="k")
    assert caught.value.present == {"id": cat, "revision": 2}


def test_other_samples_are_not_decided_here(home):
    train = given.sample(home, 1, "cat", Split.TRAIN).id

    for sample in (train, "x"):
        with pytest.raises(NotFound):
            say(home, sample, "cat")


def test_versions_that_differ_put_samples_into_it_with_as_many_on_which_they_agree(home):
    ids = held_out(home, 20)
    one, two = (given.version(home, "cat", "dog") for _ in range(2))
    cat, dog = (classes.listed(home)[n]["id"] for n in (0, 1))
    say(home, ids[0], "cat")  # looked at: neither in the queue nor in the mixture

    def tried(differing):
        called = {one: [cat] * 20, two: [dog] * differing + [cat] * (20 - differing)}
        with home.db.write() as connection:
            trials.keep(connection, Trial(ids=ids, called=called))
        return queued(home, 0)

    asked = tried(5)
    assert set(ids[1:5]) < set(asked)
    assert len(asked) == 8
    order = [sample in ids[1:5] for sample in asked]
    assert order != sorted(order)  # mixed
    assert order != sorted(order, reverse=True)
    assert len(tried(1)) == 0  # those of before make way
    assert len(tried(20)) == 19  # nothing is left to mix in


def test_a_class_that_one_of_them_does_not_know_is_no_difference(home):
    ids = held_out(home, 4)
    classes.add(home, "bird", actor="importer")
    one, two = given.version(home, "cat", "dog"), given.version(home, "bird", "cat", "dog")
    known = {entry["name"]: entry["id"] for entry in classes.listed(home)}
    called = {
        one: [known["cat"]] * 4,
        two: [known["bird"], known["bird"], known["dog"], known["cat"]],
    }

    with home.db.write() as connection:
        trials.keep(connection, Trial(ids=ids, called=called))

    assert set(queued(home, 0)) == {ids[2], ids[3]}


def test_the_random_slice_tells_how_much_of_the_whole_is_wrong(home):
    ids = held_out(home, 16)
    part = queued(home, 0.5)
    outside = next(sample for sample in ids if sample not in part)
    say(home, part[0], "dog")
    say(home, part[1], "cat")
    say(home, part[2], action="skip")
    say(home, outside, "dog")

    found = figures(home, 0.5)

    assert (found.samples, found.reviewed, found.corrected) == (16, 4, 2)
    assert found.left == len(part) - 3
    sliced = found.random_slice
    assert (sliced.samples, sliced.reviewed, sliced.skipped) == (len(part), 3, 1)
    assert (sliced.corrected, sliced.wrong) == (1, 0.5)
    assert sliced.interval[0] < 0.5 < sliced.interval[1]
    assert figures(home, 0).random_slice.wrong is None


def test_what_is_decided_of_the_holdout_is_never_scored(home):
    ids = [*held_out(home, 2), given.sample(home, 9, "dog", Split.VALID).id]
    version = given.promoted(home, "cat", "dog")
    given.opinion(home, version, ids, [[0.1, 0.9]] * 3)

    say(home, ids[0], "dog")

    assert [item.id for item in losses.top(home).items] == [ids[2]]
    assert evidence.of(home, ids[0]) is None
