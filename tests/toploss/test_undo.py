"""What was decided is taken back, as an event."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import picture
from tests.toploss.deciding import decide, seen
from toploss import classes, decisions, merging, samples
from toploss.errors import Stale


@pytest.fixture
def home(any_home):
    return any_home


def test_undos_go_back_one_by_one(home, cat):
    first = decide(home, cat, "relabel", "dog")
    second = decide(home, cat, "exclude")
    third = decide(home, cat, "confirm")

    for early in (first, second):
        with pytest.raises(Stale, match=f"undo {third.id} first"):
            decisions.undo(home, early.id, actor="ann")
    decisions.undo(home, third.id, actor="ann")
    assert seen(home, cat)[:3] == ("dog", "excluded", "exclude")
    decisions.undo(home, second.id, actor="ann")
    assert seen(home, cat)[:3] == ("dog", "active", "relabel")
    decisions.undo(home, first.id, actor="ann")
    assert seen(home, cat) == ("cat", "active", None, 7)


def test_an_undo_twice_is_an_undo_once(home, cat):
    decided = decide(home, cat, "exclude")

    answers = {decisions.undo(home, decided.id, actor=name) for name in ("ann", "bob")}

    assert len(answers) == 1
    assert seen(home, cat)[3] == 3


def test_what_was_undone_can_be_done_again(home, cat):
    first = decide(home, cat, "relabel", "dog")
    decisions.undo(home, first.id, actor="ann")
    second = decide(home, cat, "relabel", "dog")

    assert seen(home, cat) == ("dog", "active", "relabel", 4)
    decisions.undo(home, second.id, actor="ann")
    assert seen(home, cat) == ("cat", "active", None, 5)


def test_a_decision_can_be_undone_though_a_conflict_came_since(home, cat):
    decided = decide(home, cat, "exclude")
    samples.add(home, picture(1), "dog", name="1.png", actor="importer")

    decisions.undo(home, decided.id, actor="ann")

    assert seen(home, cat) == ("cat", "active", None, 3)


def test_an_import_s_new_label_cannot_be_undone_through_an_older_decision(home, cat):
    decided = decide(home, cat, "confirm")
    kept = samples.keep(home, picture(1), "1.png")
    with home.db.write() as connection:
        dog = classes.load(connection).id_of("dog")
        samples.record(connection, home, kept, dog, actor="importer", on_conflict="new-label")

    with pytest.raises(Stale, match="later"):
        decisions.undo(home, decided.id, actor="ann")

    assert seen(home, cat) == ("dog", "active", None, 3)


def test_an_undo_after_a_merge_restores_the_class_that_lives(home, cat):
    decided = decide(home, cat, "relabel", "dog")
    classes.add(home, "feline", actor="ann")
    merging.merge(home, "cat", "feline", actor="ann")

    decisions.undo(home, decided.id, actor="ann")

    assert seen(home, cat)[0] == "feline"


def test_an_undo_after_a_rename_restores_the_class_and_not_the_name(home, cat):
    decided = decide(home, cat, "relabel", "dog")
    classes.rename(home, "cat", "feline", actor="ann")
    classes.add(home, "cat", actor="ann")

    decisions.undo(home, decided.id, actor="ann")

    assert seen(home, cat)[0] == "feline"


def test_an_undo_and_a_decision_at_once_do_not_both_win(home, cat):
    for _ in range(15):
        standing = decide(home, cat, "exclude")

        def undo(standing=standing):
            decisions.undo(home, standing.id, actor="ann")

        def confirm(standing=standing):
            decide(home, cat, "confirm", revision=standing.revision)

        with ThreadPoolExecutor(2) as pool:
            failures = [work.exception() for work in (pool.submit(undo), pool.submit(confirm))]

        assert [type(failure) for failure in failures if failure] == [Stale]
