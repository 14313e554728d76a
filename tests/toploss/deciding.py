"""Deciding, and what comes of it, as the tests of decisions see it."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from sqlalchemy import select

from tests.toploss import given
from toploss import classes, decisions, events, samples, schema, snapshots
from toploss.events import Standing
from toploss.figures import Listed


def row(home, sample_id):
    with home.db.read() as connection:
        return samples.find(connection, sample_id)


def seen(home, sample_id):
    """Label, state, decision and revision, as the review shows them."""
    with home.db.read() as connection:
        shown = events.present(samples.find(connection, sample_id), classes.load(connection))
    return shown["label"], shown["state"], shown["decision"], shown["revision"]


def decide(home, sample_id, action, label=None, **options):
    options = {"revision": row(home, sample_id).revision, "actor": "ann", **options}
    return decisions.decide(home, sample_id, action, label=label, **options)


def settle(home):
    fingerprint = snapshots.freeze(home).fingerprint
    given.settled(home, fingerprint)


def changed(home):
    return snapshots.overview(home)["changed"]


def consistent(home, version):
    """Whether every projection is what its events, and the last verdict, add up to."""
    with home.db.read() as connection:
        rows = connection.execute(select(schema.samples)).all()
        stored = connection.execute(select(schema.classes)).all()
        happened = defaultdict(list)
        for event in connection.execute(
            select(schema.sample_events).order_by(schema.sample_events.c.seq)
        ):
            happened[event.sample_id].append(event)
        learned_by = connection.execute(
            select(schema.versions.c.class_ids).where(schema.versions.c.name == version)
        ).scalar_one()
        scored = connection.execute(select(schema.scores)).all()
        tallied = connection.execute(select(schema.tallies)).all()
    merged = {entry.id: entry.merged_into for entry in stored if entry.merged_into}
    of_seq = {entry.seq: entry for entry in rows}
    for entry in rows:
        assert events.replay(happened[entry.id], merged) == Standing.of(entry)
        assert entry.revision == max(event.revision for event in happened[entry.id])
        assert entry.class_id not in merged
        learned = entry.class_id if entry.state == "active" else None
        assert entry.changed == (learned != entry.settled_class_id)
    outputs = np.array([merged.get(class_id, class_id) for class_id in learned_by])
    for score in scored:
        entry = of_seq[score.sample_seq]
        assert score.class_id == entry.class_id
        if entry.class_id not in outputs:
            assert score.listed == Listed.OUT
        else:
            decided = entry.decision is not None and not score.returned
            assert score.listed == (Listed.DECIDED if decided else Listed.PENDING)
            p = np.frombuffer(score.probabilities, "<f4")[outputs == entry.class_id].sum()
            assert score.loss == pytest.approx(-np.log(p), abs=1e-6)
    assert {tuple(cell[:5]): cell.samples for cell in tallied if cell.samples} == Counter(
        (score.scoring, score.listed, score.split, score.class_id, score.predicted_class_id)
        for score in scored
    )
