from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.toploss import given
from toploss import classes, models
from toploss.errors import NotFound, Refused, Stale, ToplossError


@pytest.fixture
def versions(home):
    """A, B, C and D."""
    classes.add(home, "cat", actor="ann")
    return [given.version(home, "cat", at=at) for at in range(4)]


def promote(home, name, **options):
    return models.promote(home, name, reason="test", actor="ann", **options)


def rollback(home):
    return models.rollback(home, reason="test", actor="ann")


def test_before_the_first_promotion(home, versions):
    assert models.production(home) is None
    with pytest.raises(NotFound, match="no version has been promoted yet; train one"):
        models.get(home, "production")
    with pytest.raises(Refused, match="no version served before any"):
        rollback(home)


def test_every_move_is_a_new_generation(home, versions):
    moved = [promote(home, name) for name in versions[:3]]

    assert [alias.generation for alias in moved] == [1, 2, 3]
    assert [alias.version for alias in moved] == versions[:3]
    assert models.production(home) == moved[-1]
    assert models.get(home, "production").name == versions[2]


def test_promoting_what_stands_changes_nothing(home, versions):
    first = promote(home, versions[0])

    assert promote(home, versions[0]) == first


def test_roll_backs_go_further_back_and_end(home, versions):
    a, b, c, _ = versions
    for name in (a, b, c):
        promote(home, name)

    assert (rollback(home).version, rollback(home).version) == (b, a)
    with pytest.raises(Refused, match=f"no version served before {a}; promote another one"):
        rollback(home)
    assert models.production(home).generation == 5


def test_a_promotion_after_a_roll_back_stands_on_what_was_rolled_back_to(home, versions):
    a, b, c, d = versions
    for name in (a, b, c):
        promote(home, name)
    rollback(home)
    promote(home, d)

    assert [rollback(home).version for _ in range(2)] == [b, a]
    with pytest.raises(Refused):
        rollback(home)


def test_what_was_rolled_back_can_be_promoted_again(home, versions):
    a, b, *_ = versions
    for name in (a, b):
        promote(home, name)
    rollback(home)
    promote(home, b)

    assert rollback(home).version == a


@pytest.mark.parametrize("expected", [0, 1, 3])
def test_a_stale_generation_moves_nothing(home, versions, expected):
    promote(home, versions[0])
    promote(home, versions[1])

    with pytest.raises(Stale, match=f"moved to generation 2 since {expected}") as caught:
        promote(home, versions[2], expected=expected)

    assert caught.value.present == {"generation": 2, "version": versions[1]}
    assert promote(home, versions[2], expected=2).generation == 3


def test_the_first_promotion_expects_none(home, versions):
    assert promote(home, versions[0], expected=0).generation == 1


def test_unknown_versions(home, versions):
    for act in (promote, models.get):
        with pytest.raises(NotFound, match="no version 'x'; `toploss models list`"):
            act(home, "x")


def test_of_many_who_saw_the_same_generation_one_moves_it(home, versions):
    promote(home, versions[0])

    def move(n):
        try:
            return promote(home, versions[1 + n % 3], expected=1)
        except Stale:
            return None

    with ThreadPoolExecutor(12) as pool:
        moved = [alias for alias in pool.map(move, range(24)) if alias]

    assert {alias.generation for alias in moved} == {2}
    assert len(moved) == 1


def test_moves_at_once_never_share_a_generation(home, versions):
    def move(n):
        try:
            return rollback(home) if n % 3 == 2 else promote(home, versions[n % 4])
        except ToplossError:
            return None

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(move, range(60)))

    with home.db.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT generation, version, below FROM alias_moves ORDER BY generation"
        ).all()
    version_at = {generation: version for generation, version, _ in rows}
    assert list(version_at) == list(range(1, len(rows) + 1))
    for generation, version, below in rows:
        assert version_at[generation - 1] != version if generation > 1 else below is None


@pytest.mark.parametrize(
    ("gate", "kind"),
    [
        ({}, "promote"),
        ({"verdict": "promote", "reason": "better"}, "promote"),  # from before it said `passed`
        ({"verdict": "reject", "reason": "worse"}, "override"),
        ({"verdict": "cannot_tell", "reason": "few", "passed": True}, "promote"),
        ({"verdict": "cannot_tell", "reason": "few", "passed": False}, "override"),
    ],
)
def test_against_the_gate_only_with_a_reason(any_home, gate, kind):
    classes.add(any_home, "cat", actor="ann")
    name = given.version(any_home, "cat", gate=gate)

    for nothing in (None, "", "  "):
        if kind == "override":
            with pytest.raises(Refused, match=f"version {name}.*to promote it all the same"):
                models.promote(any_home, name, reason=nothing, actor="ann")
    alias = models.promote(any_home, name, reason="asked for", actor="ann")

    (move,) = models.moves(any_home, limit=5)
    assert (alias.kind, move.kind, move.reason, move.actor) == (kind, kind, "asked for", "ann")
    # What stands is not moved, and takes no reason.
    assert models.promote(any_home, name, reason=None, actor="ann") == alias


def test_versions_are_listed_newest_first(home, versions):
    assert [entry.name for entry in models.listed(home)] == sorted(versions, reverse=True)
