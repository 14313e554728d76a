"""The end of a run: version, scores, verdict and promotion become visible at once or not at all."""

import time
from typing import Any

from sqlalchemy import Connection

from toploss import models, runs, scoring, snapshots, trials
from toploss.errors import Stale
from toploss.home import Home
from toploss.runs import Lease, RunState
from toploss.schema import versions
from toploss.scoring import Opinion
from toploss.snapshots import Snapshot
from training import gate
from training.trial import Judged


def settle(
    home: Home,
    lease: Lease,
    manifest: dict[str, Any],
    sealed: str,
    snapshot: Snapshot,
    opinion: Opinion,
    judged: Judged,
) -> dict[str, Any]:
    """Write down everything in one transaction, under the run's fence; returns the verdict.

    Args:
        sealed: SHA-256 of the manifest as it is published.
        judged: if production has moved since, the candidate is not promoted.

    Raises:
        Fenced: the run is another attempt's; nothing is written.
    """
    version = manifest["version"]
    with home.db.write() as connection:
        asked = runs.owned(connection, lease)
        connection.execute(
            versions.insert().values(
                name=version,
                run_id=lease.run,
                path=f"versions/{version}",
                manifest_sha256=sealed,
                manifest=manifest,
                class_ids=list(snapshot.class_ids),
                created_at=time.time(),
            )
        )
        scoring.keep(connection, version, opinion, (row.id for row in snapshot.rows))
        trials.keep(connection, judged.trial)
        snapshots.settle(home, connection, snapshot.fingerprint)
        verdict = _verdict(home, connection, lease, version, judged, asked.promote)
        runs.finish(
            connection,
            lease,
            RunState.SUCCEEDED,
            version=version,
            metrics=manifest["metrics"],
            gate=verdict,
            stage="done",
        )
    return verdict


def _verdict(
    home: Home,
    connection: Connection,
    lease: Lease,
    version: str,
    judged: Judged,
    wanted: bool,
) -> dict[str, Any]:
    """The judgement, and what followed from it: the alias is moved, or why not."""
    judgement = judged.judgement
    verdict = judgement.as_json() | {"wanted": wanted, "promoted": False, "generation": None}
    if not gate.promotes(judgement, home.settings.gate_cannot_tell):
        return verdict | {"outcome": "not promoted: the gate said no"}
    if not wanted:
        return verdict | {"outcome": "not promoted: not asked to"}
    try:
        alias = models.move(
            connection,
            version,
            reason=judgement.reason,
            actor=f"run {lease.run}",
            expected=judged.generation,
        )
    except Stale as exc:
        return verdict | {"outcome": f"not promoted: {exc}"}
    return verdict | {
        "promoted": True,
        "generation": alias.generation,
        "outcome": f"promoted to production, generation {alias.generation}",
    }
