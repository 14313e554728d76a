import numpy as np
import pytest

from tests.toploss import given
from toploss import decisions, losses, progress
from toploss.losses import Filter
from toploss.splits import Split


@pytest.fixture
def listed(any_home):
    """Thirty cats in the list, every second of which the model takes for a dog."""
    given.sample(any_home, 99, "dog")
    ids = [given.sample(any_home, seed, "cat", Split.VALID).id for seed in range(30)]
    version = given.promoted(any_home, "cat", "dog")
    doubt = np.linspace(0.01, 0.4, 30)
    doubt[::2] = 1 - doubt[::2]
    given.opinion(any_home, version, ids, np.stack([1 - doubt, doubt], axis=1))
    return any_home, ids


def say(home, sample, action="confirm", revision=1, **more):
    return decisions.decide(home, sample, action, revision=revision, actor="ann", **more)


def test_before_anything_there_is_nothing_to_tell(any_home):
    now = progress.now(any_home)
    assert (now.version, now.reviewed, now.left, now.unscored) == (None, 0, 0, 0)
    assert (now.recent.decisions, now.recent.share, now.estimate) == (0, None, None)


def test_what_is_decided_counts_and_what_is_taken_back_does_not(listed):
    home, ids = listed
    say(home, ids[0], "relabel", label="dog")
    say(home, ids[1])
    say(home, ids[2], "skip")
    undone = say(home, ids[3], "exclude")
    decisions.undo(home, undone.id, actor="ann")

    now = progress.now(home)

    assert (now.reviewed, now.left) == (3, 27)
    assert (now.recent.decisions, now.recent.wrong, now.recent.share) == (2, 1, 0.5)
    low, high = now.recent.interval
    assert 0 < low < 0.5 < high < 1


def test_a_second_look_counts_once(listed):
    home, ids = listed
    say(home, ids[0], "relabel", label="dog")
    say(home, ids[0], revision=2)
    recent = progress.now(home).recent
    assert (recent.decisions, recent.wrong) == (1, 0)


def test_the_same_label_given_once_more_was_not_wrong(listed):
    home, _ = listed
    item = losses.top(home, Filter()).items[0]
    say(home, item.id, "relabel", label=item.label)
    recent = progress.now(home).recent
    assert (recent.decisions, recent.wrong) == (1, 0)


def test_twenty_decisions_are_enough_to_say_how_many_are_left(listed, monkeypatch):
    home, ids = listed
    for place in range(20):
        wrong = place % 2 == 0
        say(home, ids[place], "relabel" if wrong else "confirm", label="dog" if wrong else None)
    said = progress.now(home).estimate
    assert said.decisions == 20
    assert 2 < said.errors < 7  # five there are
    # The same from the worst and a sample of the others, as of a million.
    monkeypatch.setattr(progress, "ALL_LEFT", 6)
    few = progress.now(home).estimate
    assert few.low <= said.errors <= few.high


def test_samples_that_came_later_wait_to_be_scored(listed):
    home, _ = listed
    given.sample(home, 200, "cat", Split.TRAIN)
    given.sample(home, 201, "cat", Split.TEST)
    assert progress.now(home).unscored == 1


def test_it_says_what_is_missing_to_the_next_retraining(listed):
    home, ids = listed
    before = progress.now(home).retraining
    say(home, ids[0], "exclude")
    after = progress.now(home).retraining
    assert before.changed - after.changed == 1  # it was new; now it is out, as before
    assert after.needed == 50


def test_what_was_judged_elsewhere_says_nothing_of_the_list(listed):
    home, ids = listed
    say(home, ids[0], "relabel", label="dog", imported={"from": "csv", "by": "bob", "at": None})
    assert progress.now(home).recent.decisions == 0
    assert progress.now(home).reviewed == 1
