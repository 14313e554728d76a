import time

import pytest

from tests.toploss import given
from toploss import claims, decisions, losses
from toploss.losses import Filter


@pytest.fixture
def home(any_home):
    return any_home


@pytest.fixture
def ids(home):
    """Six cats, in the order of their losses."""
    ids = [given.sample(home, seed, "cat").id for seed in range(6)]
    given.sample(home, 6, "dog")
    version = given.promoted(home, "cat", "dog")
    given.opinion(home, version, ids, [[0.1 + 0.1 * n, 0.9 - 0.1 * n] for n in range(6)])
    return ids


def next_of(home, holder, number=1, **which):
    found = claims.following(home, Filter(**which), holder=holder, number=number)
    return [item.id for item in found]


def test_two_reviewers_get_different_samples(home, ids):
    assert next_of(home, "ann", 2) == ids[:2]
    assert next_of(home, "bob", 2) == ids[2:4]
    assert next_of(home, "ann", 2) == ids[:2]
    assert next_of(home, "cid", 5) == ids[4:]
    assert next_of(home, "dan") == []


def test_a_claim_runs_out(home, ids, monkeypatch):
    next_of(home, "ann", 3)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + claims.HELD_S + 1)

    assert next_of(home, "bob", 2) == ids[:2]
    assert next_of(home, "ann", 2) == ids[2:4]


def test_a_claim_ends_with_the_decision_and_binds_nobody(home, ids):
    next_of(home, "ann", 2)

    decided = decisions.decide(home, ids[0], "confirm", revision=1, actor="bob")
    assert next_of(home, "bob") == [ids[2]]
    decisions.undo(home, decided.id, actor="bob")
    assert next_of(home, "bob", 2) == [ids[0], ids[2]]
    assert losses.top(home).items[0].id == ids[0]


def test_many_claims_of_others_are_passed_over(home, ids, monkeypatch):
    monkeypatch.setattr(claims, "AT_ONCE", 2)
    next_of(home, "ann", 5)

    assert next_of(home, "bob", 3) == [ids[5]]


def test_claims_follow_the_filter(home, ids):
    assert next_of(home, "ann", label="dog") == []
    assert next_of(home, "ann", 9, predicted="cat") == ids[4:]
