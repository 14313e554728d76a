"""Many reviewers at once, on each of the databases."""

import random
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sqlalchemy import select

from tests.toploss import given
from toploss import classes, decisions, events, schema
from toploss.decisions import Decision
from toploss.errors import Stale
from toploss.events import ACTIONS, Kind, Standing
from toploss.likeness import Likeness
from toploss.preprocess import ImageInfo
from toploss.samples import Kept, record

REVIEWERS = 20
LABELS = ("cat", "cow", "dog")


@pytest.fixture
def home(any_home):
    return any_home


def some_samples(home, number):
    """Without their pictures, which nobody looks at here."""
    chance = np.random.default_rng(0)
    flat = Likeness(bands=None, points=bytes(16 * 16 * 3))
    info = ImageInfo(format="PNG", width=8, height=8)
    ids = [chance.bytes(32).hex() for _ in range(number)]
    with home.db.write() as connection:
        class_ids = [classes.ensure(connection, label, "importer") for label in LABELS]
        for place, sample in enumerate(ids):
            kept = Kept(id=sample, info=info, likeness=flat, bytes=1, name=f"{place}.png")
            record(connection, home, kept, class_ids[place % 3], actor="importer")
    return ids


@pytest.mark.parametrize(
    ("each", "samples"), [(10, 40), pytest.param(50, 200, marks=pytest.mark.slow)]
)
def test_decisions_of_twenty_reviewers_add_up(home, each, samples):
    ids = some_samples(home, samples)
    version = given.promoted(home, *LABELS)
    shares = np.random.default_rng(1).dirichlet(np.ones(3), samples)
    given.opinion(home, version, ids, shares, learned=ids)

    def revision(sample):
        with home.db.read() as connection:
            return connection.execute(
                select(schema.samples.c.revision).where(schema.samples.c.id == sample)
            ).scalar_one()

    def review(number):
        dice, outcomes = random.Random(number), Counter()
        for turn in range(each):
            sample, action = dice.choice(ids), dice.choice(ACTIONS)
            seen = revision(sample)
            decision = Decision(
                sample=sample,
                action=action,
                revision=seen,
                label=dice.choice(LABELS) if action is Kind.RELABEL else None,
                key=f"{number}-{turn}",
            )
            # As a page that heard no answer sends it again.
            first, again = (
                decisions.decide_all(home, [decision], actor=f"reviewer-{number}")[0]
                for _ in range(2)
            )
            if isinstance(first, Stale):
                assert first.present["revision"] > seen
            else:
                assert again == first
            outcomes[type(first)] += 1
        return outcomes

    with ThreadPoolExecutor(REVIEWERS) as pool:
        outcomes = sum(pool.map(review, range(REVIEWERS)), Counter())

    assert outcomes.total() == REVIEWERS * each
    assert set(outcomes) == {decisions.Decided, Stale}
    with home.db.read() as connection:
        happened = defaultdict(list)
        for event in connection.execute(
            select(schema.sample_events).order_by(schema.sample_events.c.seq)
        ):
            happened[event.sample_id].append(event)
        rows = connection.execute(select(schema.samples)).all()
        scored = connection.execute(select(schema.scores)).all()
        tallied = connection.execute(select(schema.tallies)).all()
    for row in rows:
        assert events.replay(happened[row.id], {}) == Standing.of(row)
        # One after the other: nobody's decision stands on what he had not seen.
        assert [event.revision for event in happened[row.id]] == list(range(1, row.revision + 1))
    decided = sum(event.kind in ACTIONS for story in happened.values() for event in story)
    assert decided == outcomes[decisions.Decided]
    assert {tuple(cell[:5]): cell.samples for cell in tallied if cell.samples} == Counter(
        (one.scoring, one.listed, one.split, one.class_id, one.predicted_class_id) for one in scored
    )
