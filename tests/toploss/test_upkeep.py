import numpy as np
import pytest
from sqlalchemy import func, select

from tests.toploss import given
from tests.toploss.test_drafts import LABELS, said, written
from toploss import attempts, classes, decisions, drafts, losses, merging, models, upkeep
from toploss.schema import scores, scorings
from toploss.scoring import State


@pytest.fixture
def home(any_home, monkeypatch):
    monkeypatch.setattr(upkeep, "AT_ONCE", 2)
    return any_home


@pytest.fixture
def ids(home):
    for label in LABELS:
        classes.add(home, label, actor="ann")
    return [given.sample(home, seed, LABELS[seed % 4]).id for seed in range(5)]


def shown(home, version, ids):
    drafts.write(home, version, said(ids), ids)
    with home.db.write() as connection:
        drafts.publish(connection, version)


def kept(home):
    with home.db.read() as connection:
        counted = select(scorings.c.version, func.count(scores.c.sample_seq)).join_from(
            scorings, scores, scorings.c.id == scores.c.scoring
        )
        return dict(map(tuple, connection.execute(counted.group_by(scorings.c.version))))


def test_scores_that_nobody_will_look_at_are_removed(home, ids):
    served = [given.promoted(home, *LABELS) for _ in range(4)]
    for version in served:
        shown(home, version, ids)
    newest = given.version(home, *LABELS)
    shown(home, newest, ids)

    assert upkeep.step(home)
    assert kept(home)[served[0]] == 3  # a batch at a time
    while upkeep.step(home):
        pass

    assert kept(home) == {served[2]: 5, served[3]: 5, newest: 5}
    for _ in range(2):
        assert losses.top(home).total == 5
        models.rollback(home, reason="worse", actor="ann")
    page = losses.top(home)
    assert (page.items, page.total, page.version) == ((), 0, None)
    assert page.note == (
        f"the losses of version {served[1]} were removed when newer versions had theirs; "
        "train to have a list again"
    )
    with home.db.read() as connection:
        assert drafts.learned_by(connection, served[1]) == 5
    decisions.decide(home, ids[0], "relabel", label="dog", revision=1, actor="ann")


def test_what_a_dead_trainer_has_written_is_removed(home, ids):
    version = given.promoted(home, *LABELS)
    shown(home, version, ids)
    lease = given.running(home)
    with home.db.read() as connection:
        class_ids = [classes.load(connection).ids[label] for label in LABELS]
    drafts.write(home, "new", said(ids), class_ids=class_ids, lease=lease)
    assert not upkeep.step(home)  # it may live

    attempts.give_up(home, lease, error="silent")
    decisions.decide(home, ids[0], "relabel", label="dog", revision=1, actor="ann")
    while upkeep.step(home):
        pass

    assert kept(home) == {version: 5}
    with home.db.read() as connection:
        assert connection.execute(select(scorings.c.state)).scalars().all() == [State.READY]


def test_a_merge_that_was_broken_off_is_taken_up_again(home, ids, monkeypatch):
    version = given.promoted(home, *LABELS)
    shown(home, version, ids)
    losses_before = {item.id: item.loss for item in losses.top(home).items}

    def killed():
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(home.db), "give_way", lambda _: killed())
        with pytest.raises(KeyboardInterrupt):
            merging.merge(home, "dog", "ant", actor="ann")

    page = losses.top(home)
    assert {item.label for item in page.items} == {"ant", "bee", "cat"}
    assert page.total == 5
    changed = [item.id for item in page.items if item.loss != losses_before[item.id]]
    assert set(changed) <= set(ids[:2])
    assert all(pair.label != pair.predicted for pair in losses.pairs(home))
    decisions.decide(home, ids[4], "confirm", revision=1, actor="ann")
    assert [item.id for item in losses.top(home, losses.Filter(state="decided")).items] == [ids[4]]

    while upkeep.step(home):
        pass

    afresh = given.version(home, *LABELS)
    shown(home, afresh, ids)
    old, new = written(home, version), written(home, afresh)
    for seq, row in old[0].items():
        numbers = {name: row[name] for name in ("class_id", "predicted_class_id", "loss", "listed")}
        assert numbers == pytest.approx({name: new[0][seq][name] for name in numbers})
    assert old[1] == new[1]
    assert np.isclose(sum(old[1].values()), 5)
