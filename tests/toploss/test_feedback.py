"""What callers claim of images of production; on both databases."""

import pytest

from tests.conftest import picture
from tests.toploss import given
from tests.toploss.capturing import kept, number_of
from toploss import captures, classes, feedback, samples, snapshots, trail
from toploss.errors import BadInput, NotKept, UnknownLabel
from toploss.home import Home
from toploss.ids import new_id
from toploss.schema import capture_claims


@pytest.fixture
def home(any_home: Home) -> Home:
    for label in ("cat", "dog"):
        classes.add(any_home, label, actor="importer")
    return any_home


def test_a_claim_is_noted_and_labels_nothing(home: Home) -> None:
    capture_id = kept(home, 1)

    first = feedback.claim(home, "cat", actor="shop", capture_id=capture_id)
    again = feedback.claim(home, "cat", actor="shop", data=picture(1))
    other = feedback.claim(home, "dog", actor="till", capture_id=capture_id, data=picture(1))

    assert [one.new for one in (first, again, other)] == [True, False, True]
    assert {(one.id, one.state) for one in (first, again, other)} == {(capture_id, "waiting")}
    claimed = captures.show(home, capture_id)["claimed"]
    assert (claimed["label"], claimed["by"]) == ("dog", "till")
    assert number_of(home, capture_claims) == 2
    assert snapshots.overview(home)["samples"] == 0


def test_what_cannot_be_claimed(home: Home) -> None:
    capture_id = kept(home, 1)
    with pytest.raises(UnknownLabel):
        feedback.claim(home, "cow", actor="shop", capture_id=capture_id)
    with pytest.raises(NotKept, match="send the image along"):
        feedback.claim(home, "cat", actor="shop", capture_id=new_id())
    with pytest.raises(NotKept):
        feedback.claim(home, "cat", actor="shop", data=picture(2))
    with pytest.raises(BadInput, match="not the one"):
        feedback.claim(home, "cat", actor="shop", capture_id=capture_id, data=picture(2))
    assert number_of(home, capture_claims) == 0


def test_of_what_one_caller_says_of_an_image_little_is_kept_and_the_last_word(home: Home) -> None:
    one, two = kept(home, 1), kept(home, 2)
    feedback.claim(home, "dog", actor="till", capture_id=one)
    feedback.claim(home, "dog", actor="till", capture_id=two)
    for number in range(feedback.MOST + 3):
        feedback.claim(home, ("cat", "dog")[number % 2], actor="shop", capture_id=one)

    assert number_of(home, capture_claims) == feedback.MOST + 2
    claimed = captures.show(home, one)["claimed"]
    assert (claimed["label"], claimed["by"]) == ("cat", "shop")
    assert captures.show(home, two)["claimed"]["by"] == "till"


def test_a_claim_that_meets_an_erasure_says_that_the_image_is_not_there(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture_id = kept(home, 1)
    with home.db.read() as connection:
        row = captures.find(connection, capture_id)
    captures.erase(home, capture_id)
    monkeypatch.setattr(feedback, "_meant", lambda *_: row)  # it was read just before

    with pytest.raises(NotKept):
        feedback.claim(home, "cat", actor="shop", capture_id=capture_id)


def test_a_claim_on_a_sample_is_a_conflict_and_the_sample_keeps_its_label(home: Home) -> None:
    sample = given.sample(home, 2, "cat")

    said = [feedback.claim(home, label, actor="shop", data=picture(2)) for label in ("cat", "dog")]

    assert [(one.id, one.state, one.new) for one in said] == [
        (None, "sample", False),
        (None, "sample", True),
    ]
    assert not feedback.claim(home, "dog", actor="shop", data=picture(2)).new
    history = trail.of(home, sample.id)
    assert [(event["action"], event["actor"]) for event in history] == [
        ("add", "importer"),
        ("conflict", "shop"),
    ]
    with home.db.read() as connection:
        row = samples.find(connection, sample.id)
        assert classes.load(connection).names[row.class_id] == "cat"
