"""Which candidate scores beside production, and what the counts of its answers add up to."""

import pytest

from tests.toploss import given
from toploss import classes, models, shadow
from toploss.errors import NotFound, Refused


@pytest.fixture
def versions(home):
    """Production, and two others."""
    for label in ("cat", "dog"):
        classes.add(home, label, actor="ann")
    names = [given.version(home, "cat", "dog", at=at) for at in range(2)]
    classes.add(home, "ape", actor="ann")
    names.append(given.version(home, "ape", "cat", "dog", at=2))
    models.promote(home, names[0], reason="test", actor="ann")
    return names


def begin(home, version):
    shadow.begin(home, version, reason="test", actor="ann")


def end(home, version):
    shadow.end(home, version, reason="test", actor="ann")


def candidate(home):
    with home.db.read() as connection:
        return shadow.candidate(connection)


def agreements(home, version):
    with home.db.read() as connection:
        return shadow.agreements(connection, version)


def test_one_candidate_at_a_time(home, versions):
    _, b, c = versions
    assert candidate(home) is None
    begin(home, b)
    assert candidate(home) == b
    begin(home, c)
    assert candidate(home) == c
    with pytest.raises(NotFound, match=f"version {b} does not score beside production"):
        end(home, b)
    end(home, c)
    assert candidate(home) is None


def test_production_stands_beside_nobody(home, versions):
    a, b, _ = versions
    with pytest.raises(Refused, match="is in production; name another one"):
        begin(home, a)
    begin(home, b)
    models.promote(home, b, reason="test", actor="ann")
    assert candidate(home) is None
    models.rollback(home, reason="test", actor="ann")
    assert candidate(home) is None  # unless it is asked again
    begin(home, b)
    assert candidate(home) == b


def test_without_production_there_is_nothing_to_stand_beside(home):
    classes.add(home, "cat", actor="ann")
    alone = given.version(home, "cat")
    with pytest.raises(Refused, match="none has been promoted yet"):
        begin(home, alone)


def test_an_unknown_version(home, versions):
    with pytest.raises(NotFound, match="there is no version 'nobody'"):
        begin(home, "nobody")


def test_counts_of_several_servers_add_up(home, versions):
    a, _, c = versions
    assert agreements(home, c) == []
    shadow.add(home, c, a, {("cat", "cat"): 3, ("dog", "ape"): 1})
    shadow.add(home, c, a, {("cat", "cat"): 2, ("cat", "dog"): 5, ("dog", "dog"): 9})

    (found,) = agreements(home, c)
    assert (found.live, found.images, found.agreed) == (a, 20, 14)
    assert found.agreement == pytest.approx(14 / 20)
    assert [(row.label, row.images, row.agreed) for row in found.classes] == [
        ("cat", 10, 5),
        ("dog", 10, 9),
    ]
    assert [(row.live, row.candidate, row.images) for row in found.disagreements] == [
        ("cat", "dog", 5),
        ("dog", "ape", 1),
    ]


def test_each_version_that_answered_has_its_own_counts(home, versions):
    a, b, c = versions
    shadow.add(home, c, a, {("cat", "cat"): 1})
    shadow.add(home, c, b, {("cat", "dog"): 1})
    assert [(found.live, found.agreement) for found in agreements(home, c)] == [(b, 0), (a, 1)]


def test_classes_go_by_todays_names(home, versions):
    a, _, c = versions
    shadow.add(home, c, a, {("dog", "ape"): 2, ("cat", "cat"): 1})
    classes.rename(home, "cat", "felid", actor="ann")
    shadow.add(home, c, a, {("cat", "cat"): 1})  # as both were published
    assert agreements(home, c)[0].agreement == pytest.approx(1 / 2)
    assert {row.label for row in agreements(home, c)[0].classes} == {"dog", "felid"}
