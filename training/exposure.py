"""Which samples of the holdout are no fair test of a version: it, or a network that its weights are
made of, has met them before.

No split ever changes, so that there should be none, but for near-duplicates that came to stand on
both sides since: the training one is quarantined then, and yet was learned from.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import select

from toploss import lineage, members, records, snapshots
from toploss.errors import Broken, NotFound
from toploss.home import Home
from toploss.schema import samples
from toploss.snapshots import Row, Snapshot

log = logging.getLogger("toploss.run")

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """What versions have met of a holdout: the sample, its group, or a near-duplicate that was
    quarantined because of it, in train or in valid, which chooses and calibrates."""

    own: Flags  # (n,): by a version's own snapshot
    inherited: Flags  # (n,): of the others, by the snapshot of a network that a version began with
    unknown: int  # networks whose data nobody knows any more

    @property
    def any(self) -> Flags:
        return self.own | self.inherited


def look(home: Home, holdout: Sequence[Row], candidate: Snapshot, runs: Sequence[str]) -> Exposure:
    """What a candidate and whom it is compared with have met.

    The snapshots of all but the candidate are read line by line, each once: some three seconds for
    a million samples.

    Args:
        candidate: what it learned from.
        runs: of each version, the candidate's too.
    """
    met = _Met(home, holdout)
    met.take(row for row in candidate.rows if row.split != "test")
    done, unknown = {candidate.fingerprint}, 0
    for run in runs:
        unknown += not met.read(records.show(home, run)["fingerprint"], done)
    own = met.flags()
    earlier = {one.network: one for run in runs for one in lineage.began_with(home, run)}
    for origin in earlier.values():
        unknown += not met.read(origin.fingerprint, done)
    return Exposure(own=own, inherited=met.flags() & ~own, unknown=unknown)


class _Met:
    """Collects, snapshot by snapshot."""

    def __init__(self, home: Home, holdout: Sequence[Row]) -> None:
        query = select(samples.c.id, samples.c.quarantined_by)
        with home.db.read() as connection:
            aside = connection.execute(query.where(samples.c.quarantined_by.is_not(None)))
            self._because: dict[str, str] = {one.id: one.quarantined_by for one in aside}
        self._home, self._holdout = home, holdout
        self._ours = {row.id for row in holdout} | {row.group for row in holdout}
        self._seen: set[str] = set()

    def take(self, rows: Iterable[Row]) -> None:
        """Of train and valid."""
        for row in rows:
            because = self._because.get(row.id, row.id)
            self._seen |= self._ours & {row.id, row.group, because}

    def read(self, fingerprint: str | None, done: set[str]) -> bool:
        """A snapshot's file, unless it is among those that are done; whether it is known."""
        if fingerprint is None or fingerprint in done:
            return fingerprint is not None
        done.add(fingerprint)
        try:
            path = snapshots.find(self._home, fingerprint).path
            ids = self._ours | self._because.keys()
            self.take(members.not_of_test(self._home, path, fingerprint, ids, self._ours))
        except (NotFound, Broken) as exc:
            log.warning("what a version has learned from was not looked at: %s", exc)
            return False
        return True

    def flags(self) -> Flags:
        """Of the holdout's samples, those that were met, (n,)."""
        seen = self._seen
        return np.array([row.id in seen or row.group in seen for row in self._holdout], bool)
