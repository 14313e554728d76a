"""What reviewers make of captures; on both databases."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import picture
from tests.toploss import given
from tests.toploss.capturing import kept, listed, number_of
from toploss import blind, captures, classes, feedback, labelling, samples, snapshots, trail
from toploss.blind import Queue
from toploss.blobs import image_path, sha256
from toploss.captures import Why
from toploss.errors import Stale, UnknownLabel
from toploss.home import Home


@pytest.fixture
def home(any_home: Home) -> Home:
    for label in ("cat", "dog"):
        classes.add(any_home, label, actor="importer")
    return any_home


def test_a_reviewer_makes_a_sample_of_it_and_the_same_again_changes_nothing(home: Home) -> None:
    version = given.version(home, "dog", "cat")
    capture_id = kept(home, 1, version=version, top=((0, 0.6), (1, 0.4)), margin=0.2)
    feedback.claim(home, "dog", actor="shop", capture_id=capture_id)

    made = labelling.label(home, capture_id, "cat", actor="ann")

    assert made.keys() == {"id", "label", "split", "revision", "new", "conflict"}
    assert (made["label"], made["new"], made["conflict"]) == ("cat", True, False)
    assert labelling.label(home, capture_id, "cat", actor="bob") == made
    assert home.blobs.get_image(made["id"]) == picture(1)
    assert not home.blobs.exists(captures.path(capture_id))
    history = trail.of(home, made["id"])
    assert [(event["action"], event["label"], event["actor"]) for event in history] == [
        ("add", "cat", "ann"),
        ("confirm", "cat", "ann"),
    ]
    assert history[1]["evidence"] == {
        **{"capture": capture_id, "why": "margin"},
        **{"version": version, "predicted": "dog", "confidence": 0.6},
    }
    with home.db.read() as connection:
        row = samples.find(connection, made["id"])
    assert (row.decision, row.revision, row.changed) == ("confirm", made["revision"], True)
    shown = captures.show(home, capture_id)
    assert (shown["state"], shown["sample"], shown["until"]) == ("labelled", made["id"], None)
    assert (shown["decided"]["label"], shown["decided"]["by"]) == ("cat", "ann")
    assert listed(home) == []
    # Later, somebody else says otherwise: a conflict of the sample, like any other.
    assert feedback.claim(home, "dog", actor="shop", capture_id=capture_id).state == "labelled"
    assert trail.of(home, made["id"])[-1]["action"] == "conflict"


def test_only_what_came_by_chance_opens_a_group_of_test_and_waits_there_unconfirmed(
    open_home: Any,
) -> None:
    home = open_home(split="1/0/99", holdout_slice=1.0)
    classes.add(home, "cat", actor="importer")
    made = {
        why: labelling.label(home, kept(home, seed, why), "cat", actor="ann")
        for seed, why in enumerate(Why)
    }

    assert {why: one["split"] for why, one in made.items()} == {
        **dict.fromkeys(Why, "train"),
        Why.RANDOM: "test",
    }
    actions = {why: trail.of(home, one["id"])[-1]["action"] for why, one in made.items()}
    assert actions == {**dict.fromkeys(Why, "confirm"), Why.RANDOM: "add"}
    (asked,) = blind.listed(home, Queue.HOLDOUT, reviewer="bob", limit=9).items
    assert asked.id == made[Why.RANDOM]["id"]


def test_what_was_decided_otherwise_is_stale(home: Home) -> None:
    one, two = kept(home, 1), kept(home, 2)
    labelling.label(home, one, "cat", actor="ann")
    labelling.discard(home, two, actor="ann")
    labelling.discard(home, two, actor="bob")

    for late in (
        lambda: labelling.label(home, one, "dog", actor="bob"),
        lambda: labelling.discard(home, one, actor="bob"),
    ):
        with pytest.raises(Stale) as raised:
            late()
        assert (
            raised.value.present.items()
            >= {
                "id": one,
                "state": "labelled",
                "label": "cat",
                "by": "ann",
            }.items()
        )
    with pytest.raises(Stale, match="discarded by ann"):
        labelling.label(home, two, "dog", actor="bob")
    with pytest.raises(UnknownLabel):
        labelling.label(home, kept(home, 3), "cow", actor="ann")
    assert snapshots.overview(home)["samples"] == 1


def test_of_many_reviewers_at_once_one_decides(home: Home) -> None:
    capture_id = kept(home, 1)
    together = threading.Barrier(6)

    def decide(number: int) -> str:
        together.wait()
        try:
            if number % 3 == 2:
                labelling.discard(home, capture_id, actor=f"reviewer-{number}")
                return "discarded"
            label = ("cat", "dog")[number % 3]
            return str(labelling.label(home, capture_id, label, actor=f"reviewer-{number}"))
        except Stale as exc:
            return f"stale: {exc.present['state']}"

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(decide, range(6)))

    state = captures.show(home, capture_id)["state"]
    assert len({answer for answer in answers if not answer.startswith("stale")}) == 1
    assert answers.count(f"stale: {state}") == 4
    assert not home.blobs.exists(captures.path(capture_id))
    assert number_of(home, samples.samples) == (state == "labelled")


def test_a_known_image_with_another_label_keeps_its_own(home: Home) -> None:
    capture_id = kept(home, 1)
    given.sample(home, 1, "dog")  # it came another way meanwhile

    made = labelling.label(home, capture_id, "cat", actor="ann")

    assert (made["label"], made["new"], made["conflict"]) == ("dog", False, True)


def test_what_became_no_sample_leaves_no_image_among_them(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture_id = kept(home, 1)
    with monkeypatch.context() as patched:
        patched.setattr(samples, "record", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            labelling.label(home, capture_id, "cat", actor="ann")
    assert not home.blobs.exists(image_path(sha256(picture(1))))

    given.sample(home, 1, "dog")  # now they are a sample's
    with monkeypatch.context() as patched:
        patched.setattr(samples, "record", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            labelling.label(home, capture_id, "cat", actor="ann")
    assert home.blobs.exists(image_path(sha256(picture(1))))
