"""A version scores what others have scored, and reviewers decided, before it."""

import pytest

from tests.toploss import given
from tests.toploss.test_losses import top
from toploss import classes, decisions, scoring


@pytest.fixture
def home(any_home):
    return any_home


def test_a_decision_stands_when_the_next_version_scores_anew_unless_much_speaks_against_it(home):
    ids = [given.sample(home, seed, "cat").id for seed in range(3)]
    classes.add(home, "dog", actor="ann")
    given.opinion(home, given.promoted(home, "cat", "dog"), ids, [[0.4, 0.6]] * 3)
    for sample in ids:
        decisions.decide(home, sample, "confirm", revision=1, actor="ann")

    given.opinion(
        home, given.promoted(home, "cat", "dog"), ids, [[0.9, 0.1], [0.05, 0.95], [0.03, 0.97]]
    )

    (back,) = top(home)
    assert (back.id, back.returned, back.decision) == (ids[2], True, "confirm")
    for action, label in (("relabel", "dog"), ("exclude", None)):  # a slip, taken back
        slip = decisions.decide(
            home, ids[2], action, label=label, revision=top(home)[0].revision, actor="ann"
        )
        assert top(home) == []
        decisions.undo(home, slip.id, actor="ann")
        assert [(item.id, item.returned) for item in top(home)] == [(ids[2], True)]
    decisions.decide(home, ids[2], "confirm", revision=top(home)[0].revision, actor="ann")
    assert top(home) == []
    assert not any(item.returned for item in top(home, state="decided"))


def test_what_was_excluded_stays_so(home):
    sample = given.sample(home, 1, "cat").id
    classes.add(home, "dog", actor="ann")
    given.opinion(home, given.promoted(home, "cat", "dog"), [sample], [[0.9, 0.1]])
    decisions.decide(home, sample, "exclude", revision=1, actor="ann")

    given.opinion(home, given.promoted(home, "cat", "dog"), [sample], [[0.01, 0.99]])

    assert top(home) == []


def test_a_relabelled_sample_is_held_to_what_was_said_of_its_new_label(home):
    (sample,) = [given.sample(home, 1, "cat").id]
    classes.add(home, "dog", actor="ann")
    given.opinion(home, given.promoted(home, "cat", "dog"), [sample], [[0.1, 0.9]])
    decisions.decide(home, sample, "relabel", label="dog", revision=1, actor="ann")

    given.opinion(home, given.promoted(home, "cat", "dog"), [sample], [[0.8, 0.2]])
    assert top(home) == []
    given.opinion(home, given.promoted(home, "cat", "dog"), [sample], [[0.95, 0.05]])
    assert [item.id for item in top(home)] == [sample]


def test_what_a_version_was_made_from_is_no_newcomer(home):
    ids = [given.sample(home, seed, "cat").id for seed in range(3)]
    classes.add(home, "dog", actor="ann")
    version = given.promoted(home, "cat", "dog")

    given.opinion(home, version, ids[:1], [[0.5, 0.5]], learned=ids)

    with home.db.read() as connection:
        assert scoring.scoring_of(connection, version).newest == 3
