"""What a run leaves behind."""

from typing import Any

import numpy as np
import pytest

from tests.toploss import given
from toploss import attempts, models, policy, records, runs, snapshots
from toploss.attempts import Lease
from toploss.errors import Cancelled
from toploss.home import Home
from toploss.ids import new_id
from toploss.scoring import Opinion
from toploss.trials import Trial
from toploss.triggers import Kind
from training.gate import Judgement, Verdict
from training.settlement import began_with, settle
from training.trial import Judged


def test_what_a_network_of_ours_may_have_learned_from_is_known(home: Home) -> None:
    added = given.two_classes(home)
    version = given.version(home, "cat", "dog")
    ids = [one.id for one in added]
    given.opinion(home, version, ids[:2], [[0.5, 0.5]] * 2, learned=ids[:5])
    lease = given.running(home)
    attempts.note(home, lease, fingerprint=snapshots.freeze(home).fingerprint)
    ours = f"versions/{version}/weights.safetensors"

    assert began_with(home, {"start": None, "weights": "none"}) == 0
    assert began_with(home, {"start": ours, "weights": "default"}) == 5
    assert began_with(home, {"start": None, "weights": ours}) == 5
    checkpoint = f"runs/{lease.run}/stage-1.safetensors"
    assert began_with(home, {"start": checkpoint, "weights": "none"}) == 8


def test_one_that_was_asked_to_stop_publishes_nothing(any_home: Home) -> None:
    given.two_classes(any_home)
    snapshot = snapshots.freeze(any_home)
    lease = given.running(any_home)
    ids = [row.id for row in snapshot.rows]
    opinion = Opinion(ids=ids, probabilities=np.full((len(ids), 2), 0.5, np.float32))
    manifest = {"version": new_id(), "settings": {"start": None, "weights": "none"}}
    runs.cancel(any_home, lease.run)
    judged: Any = None  # nobody comes to ask

    with pytest.raises(Cancelled):
        settle(any_home, lease, manifest, "0" * 64, snapshot, opinion, judged)

    assert not models.listed(any_home)
    assert records.show(any_home, lease.run)["state"] == "running"  # its end is the caller's


@pytest.mark.parametrize(
    ("kind", "paused", "promoted"),
    [(Kind.POLICY, False, True), (Kind.POLICY, True, False), (Kind.HTTP, True, True)],
)
def test_after_a_roll_back_nothing_automatic_is_promoted_by_itself(
    any_home: Home, kind: Kind, paused: bool, promoted: bool
) -> None:
    home = any_home
    given.two_classes(home)
    run = runs.enqueue(home, reason="test", actor="test", kind=kind)["id"]
    lease = runs.claim(home, owner="test")
    assert lease is not None
    attempts.take_up(home, lease, owner="test")
    if paused:
        policy.pause(home, reason="rolled back from v1", actor="ann")

    verdict = settled(home, lease)

    outcome = records.show(home, str(run))["gate"]["outcome"]
    assert verdict["promoted"] is promoted
    assert (
        "not promoted: automatic retraining is paused (rolled back from v1)" in outcome
    ) is not (promoted)
    assert (models.production(home) is not None) is promoted


def settled(home: Home, lease: Lease) -> dict[str, Any]:
    """The verdict over a candidate that passes."""
    snapshot = snapshots.freeze(home)
    attempts.note(home, lease, fingerprint=snapshot.fingerprint)
    ids = [row.id for row in snapshot.rows]
    opinion = Opinion(ids=ids, probabilities=np.full((len(ids), 2), 0.5, np.float32))
    version = new_id()
    manifest = {
        "version": version,
        "labels": list(snapshot.labels),
        "settings": {"start": None, "weights": "none"},
        "metrics": {},
    }
    judged = Judged(
        judgement=Judgement(
            verdict=Verdict.PROMOTE,
            reason="better",
            holdout=2,
            candidate=1.0,
            production=None,
            margin=0.02,
            passed=True,
        ),
        generation=0,
        trial=Trial(ids=[], called={version: []}),
    )
    return settle(home, lease, manifest, "0" * 64, snapshot, opinion, judged)
