"""Decisions: what each does, who is too late, and that labels are the projection of events."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sqlalchemy import func, select

from tests.conftest import picture
from tests.toploss import given
from tests.toploss.deciding import consistent, decide, row, seen
from toploss import classes, decisions, merging, samples, schema, snapshots, trail
from toploss.errors import BadInput, NotFound, Stale, ToplossError, UnknownLabel


@pytest.fixture
def home(any_home):
    return any_home


@pytest.mark.parametrize(
    ("action", "label", "expected"),
    [
        ("confirm", None, ("cat", "active", "confirm", 2)),
        ("relabel", "dog", ("dog", "active", "relabel", 2)),
        ("relabel", "cat", ("cat", "active", "relabel", 2)),
        ("exclude", None, ("cat", "excluded", "exclude", 2)),
        ("skip", None, ("cat", "active", "skip", 2)),
    ],
)
def test_each_decision_and_its_undo(home, cat, action, label, expected):
    decided = decide(home, cat, action, label)

    assert decided.revision == 2
    assert seen(home, cat) == expected

    undone = decisions.undo(home, decided.id, actor="bob")

    assert (undone.sample, undone.revision) == (cat, 3)
    assert seen(home, cat) == ("cat", "active", None, 3)


def test_excluded_samples_come_back_by_a_confirm_or_a_relabel_not_by_a_skip(home, cat):
    decide(home, cat, "exclude")
    decide(home, cat, "skip")
    assert seen(home, cat)[:2] == ("cat", "excluded")

    decide(home, cat, "confirm")
    assert seen(home, cat)[:2] == ("cat", "active")

    decide(home, cat, "exclude")
    decide(home, cat, "relabel", "dog")
    assert seen(home, cat)[:2] == ("dog", "active")


@pytest.mark.parametrize(
    ("action", "label", "error", "says"),
    [
        ("keep", None, BadInput, "'keep' is none of confirm, relabel, exclude, skip"),
        ("undo", None, BadInput, "none of"),
        ("add", None, BadInput, "none of"),
        ("relabel", None, BadInput, "needs the right `label`"),
        ("confirm", "dog", BadInput, "takes no label, 'dog' was sent"),
        ("relabel", "cow", UnknownLabel, "'cow' is not one of the 2 classes"),
    ],
)
def test_what_is_no_decision_is_told_and_changes_nothing(home, cat, action, label, error, says):
    with pytest.raises(error, match=says):
        decide(home, cat, action, label)

    assert seen(home, cat) == ("cat", "active", None, 1)


def test_unknown_samples_and_decisions(home, cat):
    with pytest.raises(NotFound, match="no sample 'x'"):
        decisions.decide(home, "x", "confirm", revision=1, actor="ann")
    with pytest.raises(NotFound, match="no decision 'x'"):
        decisions.undo(home, "x", actor="ann")
    added = trail.of(home, cat)[0]["id"]
    with pytest.raises(NotFound):
        decisions.undo(home, added, actor="ann")


@pytest.mark.parametrize("revision", [0, 1, 3, -1])
def test_another_revision_is_stale_and_gets_the_present_state(home, cat, revision):
    decide(home, cat, "relabel", "dog")

    with pytest.raises(Stale, match=f"is at revision 2, not at {revision}") as caught:
        decide(home, cat, "confirm", revision=revision)

    assert caught.value.present == {
        "id": cat,
        "label": "dog",
        "split": "train",
        "state": "active",
        "decision": "relabel",
        "revision": 2,
    }
    assert seen(home, cat)[3] == 2


def test_the_same_key_gives_the_same_answer_and_changes_nothing(home, cat):
    first = decide(home, cat, "relabel", "dog", revision=1, key="k")
    decide(home, cat, "confirm")

    assert decide(home, cat, "relabel", "dog", revision=1, key="k") == first
    assert seen(home, cat)[3] == 3


def test_a_key_is_for_one_decision(home, cat):
    first = decide(home, cat, "exclude", key="k")

    with pytest.raises(Stale, match="'k' was used for another decision") as caught:
        decide(home, cat, "confirm", key="k")

    assert caught.value.present["id"] == first.id
    assert seen(home, cat)[2:] == ("exclude", 2)


def test_a_refused_decision_does_not_use_up_its_key(home, cat):
    with pytest.raises(Stale):
        decide(home, cat, "confirm", revision=9, key="k")

    assert decide(home, cat, "confirm", revision=1, key="k").revision == 2


def test_one_key_sent_by_many_at_once_is_one_decision(home, cat):
    with ThreadPoolExecutor(20) as pool:
        answers = set(
            pool.map(lambda _: decide(home, cat, "exclude", revision=1, key="k"), range(40))
        )

    assert len(answers) == 1
    assert seen(home, cat)[3] == 2


def test_of_many_reviewers_at_once_one_wins_each_revision(home):
    """20 threads, each with its own reviewer, all on the same three samples."""
    classes.add(home, "dog", actor="ann")
    ids = [given.sample(home, seed, "cat").id for seed in range(3)]
    rounds = 6

    def review(n):
        dice, won, seen_by_losers = random.Random(n), [], []
        for revision in range(1, rounds + 1):
            for sample_id in ids:
                action = dice.choice(["confirm", "relabel", "exclude", "skip"])
                label = dice.choice(["cat", "dog"]) if action == "relabel" else None
                while row(home, sample_id).revision < revision:
                    pass
                try:
                    decided = decide(
                        home, sample_id, action, label, revision=revision, actor=f"r{n}"
                    )
                    won.append((sample_id, decided.revision))
                except Stale as exc:
                    seen_by_losers.append(exc.present["revision"] > revision)
        return won, seen_by_losers

    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(review, range(20)))

    won = [entry for each, _ in results for entry in each]
    assert sorted(won) == sorted((i, n) for i in ids for n in range(2, rounds + 2))
    newer = [entry for _, each in results for entry in each]
    assert newer == [True] * (20 * 3 * rounds - len(won))
    assert all(len(trail.of(home, sample_id)) == rounds + 1 for sample_id in ids)


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_happens_the_projection_is_the_replay(home, seed):
    dice = random.Random(seed)
    ids = [entry.id for entry in given.two_classes(home, each=8)]
    version = given.promoted(home, "cat", "dog")
    shares = np.random.default_rng(seed).dirichlet([1, 1], len(ids)).astype(np.float32)
    given.opinion(home, version, ids, shares)
    made, frozen, refused = [], [], 0

    def names():
        with home.db.read() as connection:
            return classes.load(connection).open

    def act():
        sample_id, label = dice.choice(ids), dice.choice(names())
        match dice.choices(range(8), [12, 6, 4, 3, 1, 1, 2, 2])[0]:
            case 0:
                action = dice.choice(["confirm", "relabel", "relabel", "exclude", "skip"])
                label = label if action == "relabel" else None
                made.append(decide(home, sample_id, action, label).id)
            case 1 if made:
                decisions.undo(home, dice.choice(made[-6:]), actor="ann")
            case 2:
                ids.append(given.sample(home, dice.randrange(1000), label).id)
            case 3:
                kept = samples.keep(home, picture(dice.randrange(16)), "again")
                how = dice.choice(["keep", "new-label"])
                with home.db.write() as connection:
                    class_id = classes.load(connection).id_of(label)
                    samples.record(connection, home, kept, class_id, actor="ann", on_conflict=how)
            case 4:
                classes.rename(home, label, f"name-{dice.randrange(50)}", actor="ann")
            case 5 if len(names()) > 2:
                merging.merge(home, label, dice.choice(names()), actor="ann")
            case 6:
                classes.add(home, f"class-{dice.randrange(50)}", actor="ann")
            case 7:
                frozen.append(snapshots.freeze(home).fingerprint)
                given.settled(home, dice.choice(frozen[-2:]))

    for n in range(200):
        try:
            act()
        except ToplossError:
            refused += 1
        if n % 20 == 0:
            consistent(home, version)

    consistent(home, version)
    assert refused < 100
    with home.db.read() as connection:
        events = connection.execute(select(func.count()).select_from(schema.sample_events)).scalar()
    assert events > 100
