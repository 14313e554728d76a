import random

import pytest
from sqlalchemy import select

from tests.toploss import given
from toploss import classes, decisions, merging, models, schema, trials
from toploss.errors import Stale
from toploss.schema import holdout_answers, holdout_tallies, samples
from toploss.splits import Split
from toploss.trials import Trial


@pytest.fixture
def home(any_home):
    classes.add(any_home, "dog", actor="importer")
    return any_home


@pytest.fixture
def ids(home):
    return [given.sample(home, seed, "cat", Split.TEST).id for seed in range(10)]


def known(home):
    return {entry["name"]: entry["id"] for entry in classes.listed(home)}


def keep(home, ids, **called):
    """What versions, by their names here, called each; returns their real names."""
    names = {name: given.version(home, "cat", "dog") for name in called}
    with home.db.write() as connection:
        made = {names[name]: each for name, each in called.items()}
        trials.keep(connection, Trial(ids=ids, called=made))
    return names


def measured(home):
    with home.db.read() as connection:
        return {one.version: one for one in trials.measured(connection)}


def test_a_corrected_label_says_at_once_what_it_makes_of_every_version(home, ids):
    cat, dog = known(home)["cat"], known(home)["dog"]
    names = keep(home, ids, live=[cat] * 8 + [dog] * 2, next=[cat] * 10)
    assert {one.today["accuracy"] for one in measured(home).values()} == {0.8, 1}

    decided = decisions.decide(home, ids[9], "relabel", label="dog", revision=1, actor="ann")
    decisions.decide(home, ids[0], "exclude", revision=1, actor="ann")

    assert measured(home)[names["live"]].today == {"accuracy": 8 / 9, "samples": 9}
    assert measured(home)[names["next"]].today == {"accuracy": 8 / 9, "samples": 9}
    low, high = measured(home)[names["live"]].interval
    assert low < 8 / 9 < high
    decisions.undo(home, decided.id, actor="ann")
    assert measured(home)[names["live"]].today == {"accuracy": 7 / 9, "samples": 9}


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_the_counts_are_those_of_a_count(home, ids, seed):
    dice = random.Random(seed)
    classes.add(home, "bird", actor="importer")
    cat, dog = known(home)["cat"], known(home)["dog"]
    keep(home, ids, live=dice.choices([cat, dog], k=10), next=dice.choices([cat, dog], k=10))
    made = []
    for turn in range(30):
        if turn == 20:
            merging.merge(home, "bird", "dog", actor="ann")
        sample, action = dice.choice(ids), dice.choice(["confirm", "relabel", "exclude", "skip"])
        label = dice.choice(["cat", "dog", "bird"]) if action == "relabel" else None
        with home.db.read() as connection:
            revision = connection.execute(
                select(samples.c.revision).where(samples.c.id == sample)
            ).scalar_one()
        made.append(
            decisions.decide(home, sample, action, label=label, revision=revision, actor="ann").id
        )
        if dice.random() < 0.3:
            try:
                decisions.undo(home, dice.choice(made), actor="ann")
            except Stale:
                continue

    with home.db.read() as connection:
        kept = {row.version: row for row in connection.execute(select(holdout_tallies))}
        answered = connection.execute(
            select(holdout_answers.c.version, holdout_answers.c.class_id.label("said"), samples)
            .join(samples, samples.c.seq == holdout_answers.c.sample_seq)
            .where(samples.c.state == "active")
        ).all()
    for version, row in kept.items():
        mine = [one for one in answered if one.version == version]
        assert (row.samples, row.hits) == (len(mine), sum(a.said == a.class_id for a in mine))
    assert len(kept) == 2


def test_answers_follow_a_merge(home, ids):
    cat, dog = known(home)["cat"], known(home)["dog"]
    names = keep(home, ids, live=[cat] * 5 + [dog] * 5)

    merging.merge(home, "dog", "cat", actor="ann")

    assert measured(home)[names["live"]].today == {"accuracy": 1, "samples": 10}
    again = keep(home, ids, late=[dog] * 10)  # a version from before the merge
    assert measured(home)[again["late"]].today["accuracy"] == 1


def test_a_version_that_answers_again_is_counted_once(home, ids):
    cat, dog = known(home)["cat"], known(home)["dog"]
    live = keep(home, ids[:5], live=[cat] * 5)["live"]
    with home.db.write() as connection:
        trials.keep(connection, Trial(ids=[*ids, "gone"], called={live: [cat] * 9 + [dog] * 2}))

    assert measured(home)[live].today == {"accuracy": 0.9, "samples": 10}


def test_old_answers_are_dropped_but_production_s(home, ids, monkeypatch):
    monkeypatch.setattr(trials, "KEPT", 2)
    cat = known(home)["cat"]
    first = keep(home, ids, live=[cat] * 10)["live"]
    models.promote(home, first, reason="for the test", actor="ann")
    made = [keep(home, ids, one=[cat] * 10)["one"] for _ in range(3)]

    found = measured(home)

    newest = sorted([first, *made])[-2:]
    assert set(found) == {first, *newest}
    assert list(found) == sorted(found, reverse=True)
    assert [name for name, one in found.items() if one.production] == [first]
    with home.db.read() as connection:
        kept = set(connection.execute(select(schema.holdout_answers.c.version)).scalars())
    assert kept == set(found)


def test_production_from_before_there_were_answers_is_named_all_the_same(home, ids):
    version = given.promoted(home, "cat", "dog")

    (one,) = measured(home).values()

    assert (one.version, one.at_training, one.interval) == (version, None, None)
    assert one.today == {"accuracy": None, "samples": 0}
