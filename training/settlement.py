"""The end of a run: version, scores, verdict and promotion become visible at once or not at all."""

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from toploss import attempts, drafts, models, outbox, policy, records, settling, snapshots, trials
from toploss.attempts import Lease
from toploss.database import one_at_a_time
from toploss.errors import Cancelled, Stale
from toploss.home import Home
from toploss.plan import origins
from toploss.schema import versions
from toploss.scoring import Opinion
from toploss.snapshots import Snapshot
from toploss.states import RunState
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
    heard: Callable[[float], None] = lambda _: None,
) -> dict[str, Any]:
    """Write down everything under the run's fence, the scores in batches that nobody sees, and then
    all the rest, and that the scores are there, in one transaction; returns the verdict.

    Args:
        sealed: SHA-256 of the manifest as it is published.
        judged: if production has moved since, the candidate is not promoted.
        heard: hears how much of the scores is written, 0 to 1; may raise.

    Raises:
        Fenced: the run is another attempt's; nothing of it is ever seen. Cancelled: somebody asked
            it to stop; likewise.
    """
    version = manifest["version"]
    unsettled = settling.unsettled(home, snapshot.fingerprint)
    drafts.write(
        home,
        version,
        opinion,
        (row.id for row in snapshot.rows),
        class_ids=snapshot.class_ids,
        began=began_with(home, manifest["settings"]),
        lease=lease,
        heard=heard,
    )
    with home.db.write(long=True) as connection:
        one_at_a_time(connection)
        asked = attempts.owned(connection, lease)
        if asked.cancel_asked:  # whoever asked was told that it stops
            raise Cancelled(f"run {lease.run} was cancelled")
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
        drafts.publish(connection, version)
        trials.keep(connection, judged.trial)
        settling.begin(connection, unsettled)
        verdict = _verdict(connection, lease, version, judged, asked.promote, manifest["metrics"])
        attempts.finish(
            connection,
            lease,
            RunState.SUCCEEDED,
            version=version,
            metrics=manifest["metrics"],
            gate=verdict,
            stage="done",
        )
    return verdict


def began_with(home: Home, settings: dict[str, Any]) -> int:
    """The newest sample that the networks which a training went on from may have learned from,
    whether it is in today's data or not; 0: they are none of ours."""
    newest = 0
    for _, kind, name in origins(settings):
        if kind == "versions":
            with home.db.read() as connection:
                newest = max(newest, drafts.learned_by(connection, name))
        else:  # of a run that published none
            run = records.show(home, name)
            ids = (row.id for row in snapshots.load(home, str(run["fingerprint"])).rows)
            with home.db.read() as connection:
                newest = max(newest, drafts.newest_of(connection, ids))
            newest = max(newest, began_with(home, run["settings"]))
    return newest


def _verdict(
    connection: Connection,
    lease: Lease,
    version: str,
    judged: Judged,
    wanted: bool,
    metrics: dict[str, Any],
) -> dict[str, Any]:
    """The judgement, and what followed from it: the alias is moved, or why not."""
    judgement = judged.judgement
    verdict = judgement.as_json() | {"wanted": wanted, "promoted": False, "generation": None}
    if not judgement.passed:
        told = {
            "run": lease.run,
            "version": version,
            "reason": judgement.reason,
            "metrics": metrics,
        }
        outbox.put(connection, outbox.Type.REFUSED, told)
        return verdict | {"outcome": f"not promoted: {gate.SAID[judgement.verdict]}"}
    if not wanted:
        return verdict | {"outcome": "not promoted: not asked to"}
    if (pause := policy.held_back(connection, lease.run)) is not None:
        said = f"automatic retraining is paused ({pause.reason}); promote it if you agree"
        return verdict | {"outcome": f"not promoted: {said}"}
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
