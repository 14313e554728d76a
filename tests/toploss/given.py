"""What the tests of the ground floor start from."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.conftest import picture
from toploss import attempts, classes, drafts, models, runs, samples, settling
from toploss.attempts import Lease
from toploss.home import Home
from toploss.ids import new_id
from toploss.plan import Plan
from toploss.samples import Added
from toploss.schema import versions
from toploss.scoring import Opinion
from toploss.splits import Split
from toploss.states import RunState


def sample(home: Home, seed: int, label: str, split: Split | None = Split.TRAIN) -> Added:
    """One picture under a label, which becomes a class."""
    classes.add(home, label, actor="importer")
    return samples.add(
        home, picture(seed), label, name=f"{seed}.png", actor="importer", split=split
    )


def two_classes(home: Home, each: int = 4) -> list[Added]:
    """`cat` and `dog`, enough of them to be trained on: train, train, valid, test, train, …"""
    turns = [Split.TRAIN, Split.TRAIN, Split.VALID, Split.TEST]
    return [
        sample(home, seed, "cat" if seed < each else "dog", turns[seed % each % 4])
        for seed in range(2 * each)
    ]


def plan(home: Home) -> Plan:
    return Plan.from_settings(home.settings)


def running(home: Home) -> Lease:
    """A run in the foreground of a process that nobody can tell the death of."""
    return runs.start(home, plan(home), owner="elsewhere:1:1.0", actor="ann", promote=True)


def ended(home: Home, lease: Lease) -> None:
    with home.db.write() as connection:
        attempts.finish(connection, lease, RunState.FAILED, error="for the test")


def version(home: Home, *labels: str, at: float = 0.0, **manifest: Any) -> str:
    """A version of these classes, in this order, with the run that published it."""
    lease, name = running(home), new_id()
    with home.db.write() as connection:
        ids = classes.load(connection).ids
        connection.execute(
            versions.insert().values(
                name=name,
                run_id=lease.run,
                path=f"versions/{name}",
                manifest_sha256="0" * 64,
                manifest={"labels": list(labels), **manifest},
                class_ids=[ids[label] for label in labels],
                created_at=at,
            )
        )
        attempts.finish(connection, lease, RunState.SUCCEEDED, version=name)
    return name


def promoted(home: Home, *labels: str, **manifest: Any) -> str:
    name = version(home, *labels, **manifest)
    models.promote(home, name, reason="for the test", actor="ann")
    return name


def settled(home: Home, fingerprint: str) -> None:
    """A run on this snapshot has its verdict."""
    unsettled = settling.unsettled(home, fingerprint)
    with home.db.write() as connection:
        settling.begin(connection, unsettled)


def opinion(
    home: Home,
    version: str,
    ids: Sequence[str],
    probabilities: Any,
    learned: Sequence[str] = (),
    *,
    began: int = 0,
    **more: Any,
) -> None:
    """What a version says of samples, held out."""
    shares = np.array(probabilities, np.float32)
    said = Opinion(ids=ids, probabilities=shares, **more)
    drafts.write(home, version, said, learned, began=began)
    with home.db.write() as connection:
        drafts.publish(connection, version)
