import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from sqlalchemy import func, select

from tests.toploss import given
from toploss import (
    agreement,
    blind,
    classes,
    decisions,
    events,
    merging,
    opinions,
    questions,
    schema,
)
from toploss.blind import Queue
from toploss.errors import BadInput, NotFound, Stale, UnknownLabel
from toploss.opinions import Opinion
from toploss.questions import Asked
from toploss.times import DAY_S


@pytest.fixture(params=["sqlite", "postgresql"])
def make(request, open_home):
    """Opens a home on each of the databases, with these settings."""

    def made(**settings):
        if request.param == "postgresql":
            settings["database_url"] = request.getfixturevalue("new_postgres")()
        home = open_home(**settings)
        classes.add(home, "dog", actor="importer")
        return home

    return made


@pytest.fixture
def home(make):
    """Everything is asked about, of somebody else."""
    return make(second_opinion=1)


def cats(home, number=1):
    return [given.sample(home, seed, "cat").id for seed in range(number)]


def decide(home, sample, action="confirm", revision=1, actor="ann", **more):
    return decisions.decide(home, sample, action, revision=revision, actor=actor, **more)


def say(home, sample, label=None, *, action=None, revision=2, by="bob", queue="second", **more):
    action = action or ("label" if label else "exclude")
    opinion = Opinion(sample=sample, action=action, label=label, revision=revision, **more)
    return blind.answer(home, Queue(queue), opinion, reviewer=by)


def asked(home, reviewer, queue="second", **more):
    page = blind.listed(home, Queue(queue), reviewer=reviewer, **{"limit": 50, **more})
    return [item.id for item in page.items]


def disputed(home):
    page = opinions.disagreements(home, limit=50)
    assert page.total == len(page.items)
    return [item.id for item in page.items]


def test_somebody_else_is_asked_what_he_sees_no_label_of(home):
    one, two = cats(home, 2)
    decide(home, one, "relabel", label="dog")
    decide(home, two, actor="bob")

    assert asked(home, "bob") == [one]
    assert asked(home, "ann") == [two]
    assert asked(home, "cid") == [one, two]
    (item,) = blind.listed(home, Queue.SECOND, reviewer="bob", limit=9).items
    assert set(vars(item)) == {"id", "revision", "width", "height", "place", "seq"}


@pytest.mark.parametrize("queue", Asked)
def test_the_decision_s_id_chooses_the_share_that_is_asked_about(make, queue):
    setting = {Asked.SECOND: "second_opinion", Asked.AGAIN: "review_again"}[queue]
    home = make(**{setting: 0.4})
    made = {decide(home, sample).id for sample in cats(home, 12)}

    with home.db.read() as connection:
        found = connection.execute(select(schema.asked_opinions)).all()

    assert {row.queue for row in found} <= {queue}
    assert {row.decision_id for row in found} == {
        i for i in made if questions.drawn(queue, i) < 0.4
    }


def test_the_draw_is_even():
    numbers = [questions.drawn(Asked.SECOND, f"decision {n}") for n in range(4000)]

    assert abs(sum(number < 0.1 for number in numbers) - 400) < 80
    assert max(numbers) < 1


def test_nobody_is_asked_unless_a_setting_says_so_nor_about_a_skip(make):
    home = make()
    decide(home, *cats(home))
    assert asked(home, "bob") == []

    home = make(second_opinion=1, name="skips")
    decide(home, *cats(home), "skip")
    assert asked(home, "bob") == []


def test_an_opinion_changes_no_label_and_answers_the_question(home):
    (cat,) = cats(home)
    decide(home, cat)

    told = say(home, cat, "dog")

    assert (told.sample, told.revision) == (cat, 2)
    with home.db.read() as connection:
        row = connection.execute(select(schema.samples)).one()
        known = classes.load(connection)
    assert events.present(row, known)["label"] == "cat"
    assert (row.revision, row.decision) == (2, "confirm")
    assert asked(home, "cid") == []


def test_a_disagreement_waits_until_a_decision_settles_it_and_comes_back_with_its_undo(home):
    one, two, three = cats(home, 3)
    for cat in (one, two, three):
        decide(home, cat)
    say(home, one, "dog")
    say(home, two, "cat")
    say(home, three)

    assert disputed(home) == [one, three]
    first, last = opinions.disagreements(home, limit=50).items
    assert (first.first.by, first.first.action, first.first.label) == ("ann", "confirm", "cat")
    assert (first.second.by, first.second.action, first.second.label) == ("bob", "label", "dog")
    assert (last.second.action, last.second.label) == ("exclude", None)

    settled = decide(home, one, "relabel", label="dog", revision=2, actor="cid")
    assert disputed(home) == [three]
    assert asked(home, "ann") == []  # about what settled it

    decisions.undo(home, settled.id, actor="cid")
    assert disputed(home) == [one, three]
    page = opinions.disagreements(home, limit=1)
    rest = opinions.disagreements(home, limit=9, after=page.items[-1].seq)
    assert [item.id for item in [*page.items, *rest.items]] == [one, three]


def test_to_agree_on_an_exclusion_is_to_agree(home):
    (cat,) = cats(home)
    decide(home, cat, "exclude")

    say(home, cat)

    assert disputed(home) == []
    assert agreement.figures(home)["second"]["agree"] == 1


def test_a_decision_that_no_longer_stands_is_not_asked_about(home):
    one, two = cats(home, 2)
    first, second = decide(home, one), decide(home, two)
    decisions.undo(home, first.id, actor="ann")
    decide(home, two, "skip", revision=2, actor="bob")

    assert second.revision == 2
    assert asked(home, "cid") == []
    with pytest.raises(Stale, match="revision 3, not at 2") as caught:
        say(home, one, "cat")
    assert caught.value.present == {"id": one, "revision": 3}
    with pytest.raises(Stale, match="nobody asks you"):
        say(home, two, "cat", revision=3)


def test_who_decided_is_not_asked_for_a_second_opinion(home):
    (cat,) = cats(home)
    decide(home, cat)

    with pytest.raises(Stale, match="nobody asks you"):
        say(home, cat, "cat", by="ann")


def test_who_skips_leaves_it_to_others(home):
    (cat,) = cats(home)
    decide(home, cat)

    say(home, cat, action="skip")

    assert asked(home, "bob") == []
    assert asked(home, "cid") == [cat]
    assert agreement.figures(home)["second"]["pairs"] == 0
    assert disputed(home) == []


@pytest.mark.parametrize(
    ("action", "label", "error"),
    [
        ("label", None, BadInput),
        ("exclude", "cat", BadInput),
        ("confirm", None, BadInput),
        ("label", "cow", UnknownLabel),
    ],
)
def test_what_is_no_opinion_is_told_and_changes_nothing(home, action, label, error):
    (cat,) = cats(home)
    decide(home, cat)

    with pytest.raises(error):
        say(home, cat, label, action=action, key="k")
    with pytest.raises(NotFound):
        say(home, "x", "cat")

    assert asked(home, "bob") == [cat]
    say(home, cat, "cat", key="k")


def test_the_same_key_gives_the_same_answer_and_changes_nothing(home):
    (cat,) = cats(home)
    decide(home, cat, key="first")
    told = say(home, cat, "dog", key="k")

    assert say(home, cat, "dog", key="k") == told
    for key in ("k", "first"):
        with pytest.raises(Stale, match="was used for another"):
            say(home, cat, "cat", key=key)
    assert agreement.figures(home)["second"]["pairs"] == 1


def test_of_many_at_once_one_is_heard(home):
    ids = cats(home, 2)
    for cat in ids:
        decide(home, cat)

    def speak(n):
        heard = 0
        for cat in ids:
            with suppress(Stale):
                say(home, cat, "cat", by=f"r{n}", key=f"{n}-{cat}")
                heard += 1
        return heard

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(speak, range(8))) == len(ids)
    with home.db.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.opinions)).scalar() == 2


def test_one_s_own_decisions_come_back_after_some_others(make):
    home = make(review_again=1, review_again_after=2)
    one, two, three, four = cats(home, 4)
    decide(home, one)
    decide(home, two)
    assert asked(home, "ann", "again") == []
    decide(home, four, actor="bob")
    assert asked(home, "ann", "again") == []

    decide(home, three)

    assert asked(home, "ann", "again") == [one]
    assert asked(home, "bob", "again") == []
    say(home, one, "dog", by="ann", queue="again")
    assert asked(home, "ann", "again") == []
    assert disputed(home) == [one]
    figures = agreement.figures(home)
    assert (figures["again"]["pairs"], figures["again"]["agree"]) == (1, 0)
    assert figures["second"]["pairs"] == 0
    with pytest.raises(Stale, match="nobody asks you"):
        say(home, two, "cat", by="ann", queue="again")


def test_one_s_own_decisions_come_back_after_a_day_and_a_skip_ends_it(make, monkeypatch):
    home = make(review_again=1)
    (cat,) = cats(home)
    decide(home, cat)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + DAY_S + 1)

    assert asked(home, "ann", "again") == [cat]
    say(home, cat, action="skip", by="ann", queue="again")
    assert asked(home, "ann", "again") == []


def test_reviewers_are_given_different_items(home):
    ids = cats(home, 3)
    for cat in ids:
        decide(home, cat)

    assert blind.following(home, Queue.SECOND, reviewer="bob").id == ids[0]
    assert blind.following(home, Queue.SECOND, reviewer="cid").id == ids[1]
    assert blind.following(home, Queue.SECOND, reviewer="bob").id == ids[0]
    assert asked(home, "bob") == [ids[0], ids[2]]
    assert blind.listed(home, Queue.SECOND, reviewer="bob", limit=9).total == 3
    say(home, ids[0], "cat")
    assert blind.following(home, Queue.SECOND, reviewer="cid").id == ids[1]
    assert blind.following(home, Queue.SECOND, reviewer="dan").id == ids[2]
    assert blind.following(home, Queue.SECOND, reviewer="eve") is None


def test_a_merge_ends_what_it_makes_pointless(home):
    one, two = cats(home, 2)
    given.sample(home, 9, "bird")
    for cat in (one, two):
        decide(home, cat)
    say(home, one, "dog")
    say(home, two, "bird")

    merging.merge(home, "dog", "cat", actor="ann")

    assert disputed(home) == [two]
    assert agreement.figures(home)["second"]["agree"] == 1
