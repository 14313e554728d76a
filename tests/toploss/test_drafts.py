import numpy as np
import pytest
from sqlalchemy import select

from tests.toploss import given
from toploss import attempts, classes, decisions, drafts, losses, merging, scoring
from toploss.errors import Fenced
from toploss.orders import Neighbours
from toploss.schema import samples, scores, scorings, tallies
from toploss.scoring import Opinion

LABELS = ("ant", "bee", "cat", "dog")


@pytest.fixture
def home(any_home):
    return any_home


def said(ids):
    """Something of everybody, with neighbours. What is decided of a neighbour moves nobody until he
    is scored again, so those that are decided here are nobody's."""
    chance = np.random.default_rng(3)
    places = chance.choice([8, 11, 12, 13, 14] if len(ids) > 14 else len(ids), (len(ids), 4))
    cosines = chance.random((len(ids), 4), np.float32)
    return Opinion(
        ids=ids,
        probabilities=chance.dirichlet(np.ones(len(LABELS)), len(ids)).astype(np.float32),
        neighbours=Neighbours(places=places, cosines=cosines),
        known=ids,
    )


def written(home, version):
    """What is kept of a version, by sample; and how many of each kind are counted."""
    with home.db.read() as connection:
        this = select(scorings.c.id).where(scorings.c.version == version)
        number = connection.execute(this).scalar_one()
        rows = connection.execute(select(scores).where(scores.c.scoring == number)).all()
        cells = connection.execute(select(tallies).where(tallies.c.scoring == number)).all()
    counted = {tuple(cell[1:5]): cell.samples for cell in cells if cell.samples}
    return {row.sample_seq: {**row._asdict(), "scoring": 0} for row in rows}, counted


def test_what_is_decided_between_two_batches_is_as_if_all_had_been_written_at_once(
    home, monkeypatch
):
    ids = [given.sample(home, seed, LABELS[seed % 4]).id for seed in range(16)]
    classes.add(home, "eel", actor="ann")  # which the versions do not know
    known = [*LABELS]
    at_once, in_batches = given.promoted(home, *known), given.version(home, *known)
    monkeypatch.setattr(drafts, "AT_ONCE", 100)
    drafts.write(home, at_once, said(ids), ids)
    with home.db.write() as connection:
        drafts.publish(connection, at_once)
    done = {}

    def decide(place, action, label=None):
        with home.db.read() as connection:
            row = connection.execute(select(samples).where(samples.c.id == ids[place])).one()
        done[place] = decisions.decide(
            home, row.id, action, label=label, revision=row.revision, actor="ann"
        )

    def between(share):
        if share == 1 / 4:  # the first four are written, the others not
            for place in (0, 4):
                decide(place, "relabel", "bee")
                decide(place + 1, "relabel", "eel")
                decide(place + 2, "exclude")
                decide(place + 3, "confirm")
        elif share == 2 / 4:
            for place in (1, 9):
                decide(place, "relabel", "eel")
                decide(place, "relabel", "cat")
            decide(10, "relabel", "eel")
            decisions.undo(home, done[2].id, actor="ann")
            decisions.undo(home, done[5].id, actor="ann")
            merging.merge(home, "dog", "ant", actor="ann")
            merging.merge(home, "bee", "eel", actor="ann")
        elif share == 3 / 4:
            decisions.undo(home, done[10].id, actor="ann")
            decide(15, "relabel", "eel")
            decide(3, "skip")

    monkeypatch.setattr(drafts, "AT_ONCE", 4)
    drafts.write(home, in_batches, said(ids), ids, heard=between)

    ours, theirs = written(home, in_batches), written(home, at_once)
    assert ours[0].keys() == theirs[0].keys()
    assert len(ours[0]) == 16
    for seq, row in ours[0].items():
        assert row == pytest.approx(theirs[0][seq])
    assert ours[1] == theirs[1]


def test_nobody_sees_it_before_it_is_published(home, monkeypatch):
    ids = [given.sample(home, seed, "ant").id for seed in range(4)]
    for label in LABELS[1:]:
        classes.add(home, label, actor="ann")
    old = given.promoted(home, *LABELS)
    given.opinion(home, old, ids, [[0.1, 0.9, 0, 0]] * 4)
    with home.db.read() as connection:
        class_ids = [classes.load(connection).ids[label] for label in LABELS]
    lease = given.running(home)
    seen = []

    def look(_):
        page = losses.top(home)
        seen.append((page.version, page.total, len(page.items)))

    monkeypatch.setattr(drafts, "AT_ONCE", 1)
    drafts.write(home, "new", said(ids), class_ids=class_ids, lease=lease, heard=look)

    assert seen == [(old, 4, 4)] * 4
    with home.db.read() as connection:
        assert scoring.scoring_of(connection, "new") is None


def test_a_trainer_that_lost_its_run_writes_no_more(home, monkeypatch):
    ids = [given.sample(home, seed, "ant").id for seed in range(4)]
    with home.db.read() as connection:
        class_ids = [classes.load(connection).ids["ant"]] * 4
    lease = given.running(home)
    monkeypatch.setattr(drafts, "AT_ONCE", 1)

    def lost(share):
        if share == 1 / 2:
            attempts.give_up(home, lease, error="silent")

    with pytest.raises(Fenced):
        drafts.write(home, "new", said(ids), class_ids=class_ids, lease=lease, heard=lost)

    assert len(written(home, "new")[0]) == 2


def test_what_an_earlier_network_may_have_learned_from_is_no_newcomer(home):
    ids = [given.sample(home, seed, "ant").id for seed in range(5)]
    for label in LABELS[1:]:
        classes.add(home, label, actor="ann")
    first, second = given.version(home, *LABELS), given.version(home, *LABELS)
    given.opinion(home, first, ids[:2], [[0.25] * 4] * 2, learned=ids[:4])

    with home.db.read() as connection:
        began = drafts.learned_by(connection, first)
    given.opinion(home, second, ids[:2], [[0.25] * 4] * 2, learned=ids[:2], began=began)

    with home.db.read() as connection:
        assert scoring.scoring_of(connection, second).newest == 4
        assert drafts.learned_by(connection, second) == 4
