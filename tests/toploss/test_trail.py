"""The audit trail: every event, and what the reviewer saw."""

import numpy as np
import pytest

from tests.toploss import given
from tests.toploss.deciding import decide
from toploss import decisions, trail


@pytest.fixture
def home(any_home):
    return any_home


def test_the_trail_is_paged_newest_first(home, cat):
    made = [decide(home, cat, "confirm").id for _ in range(5)]
    decisions.undo(home, made[-1], actor="bob")

    whole = trail.listed(home)
    page = trail.listed(home, limit=2)
    rest = trail.listed(home, after=page[-1]["seq"])

    assert [event["action"] for event in whole] == ["undo"] + ["confirm"] * 5
    assert [event["id"] for event in whole[1:]] == made[::-1]
    assert (whole[0]["undoes"], whole[0]["actor"]) == (made[-1], "bob")
    assert page + rest == whole


def test_history_tells_everything_oldest_first(home, cat):
    decided = decide(home, cat, "relabel", "dog")
    decisions.undo(home, decided.id, actor="bob")

    told = [
        (event["action"], event["before"], event["label"], event["revision"], event["actor"])
        for event in trail.of(home, cat)
    ]

    assert told == [
        ("add", None, "cat", 1, "importer"),
        ("relabel", "cat", "dog", 2, "ann"),
        ("undo", "dog", "cat", 3, "bob"),
    ]
    assert trail.of(home, "x") == []


def test_a_decision_keeps_what_the_reviewer_saw(home, cat):
    version = given.promoted(home, "cat", "dog")
    given.opinion(home, version, [cat], [[0.25, 0.75]])

    decide(home, cat, "relabel", "dog")

    evidence = trail.of(home, cat)[-1]["evidence"]
    assert evidence["version"] == version
    assert (evidence["predicted"], evidence["confidence"]) == ("dog", 0.75)
    assert evidence["loss"] == pytest.approx(np.log(4))
    assert evidence["loss_after"] == pytest.approx(np.log(4 / 3))
